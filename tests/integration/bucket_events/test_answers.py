"""What the calls answer: lists, histograms, names; and when, with a receipt."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from query.interval import DAY, SECOND
from query.metadata import MAX_NAMES
from query.plan import HOUR
from schema.receipts import encode_receipt
from tests.integration.bucket_events.calls import NOON, ask
from tests.support.api_door import Door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import Occurrence, Stored


async def test_events_come_newest_first_with_ties_by_id(api: Door, stored: Stored) -> None:
    events = [
        Occurrence(
            NOON + second * SECOND + 1,
            f"{second}-{tie}",
            "boot",
            "shop",
            "s1",
            "d1",
            b'{"n": 1.50, "b": [1]}',
        )
        for second in range(5)
        for tie in "bca"
    ]
    await stored.write(api.buckets["first"], events)
    await stored.write(api.buckets["theirs"], [Occurrence(NOON, "theirs", "boot")])
    answer = await ask(api, "POST", "events", {"event_name": "boot"})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert [event["_id"] for event in answer.body] == [f"{n}-{tie}" for n in (4, 3, 2, 1, 0) for tie in "abc"]
    assert answer.body[0] == {
        "_id": "4-a",
        "at": (NOON + 4 * SECOND) // 1000,
        "event_name": "boot",
        "app_name": "shop",
        "server_name": "s1",
        "device_name": "d1",
        "stream": "events",
        "data": {"n": 1.5, "b": [1]},
    }


async def test_limit_offset_and_filters_of_the_list(api: Door, stored: Stored) -> None:
    await stored.write(
        api.buckets["first"],
        [
            Occurrence(NOON + n * SECOND, str(n), "boot", ("", "shop")[n % 2], ("s0", "s1", "s2")[n % 3])
            for n in range(150)
        ],
    )

    async def found(**asked: Any) -> list[int]:
        answer = await ask(api, "POST", "events", {"event_name": "boot", **asked})
        assert answer.status == 200, answer.body
        return [int(event["_id"]) for event in answer.body]

    newest_first = list(range(149, -1, -1))
    assert await found() == newest_first[:100]
    assert await found(limit="10", offset="5") == newest_first[5:15]
    assert await found(limit=10_000) == newest_first
    assert await found(offset=150) == []
    assert await found(app_name="shop", limit=200) == [n for n in newest_first if n % 2]
    assert await found(app_name="", limit=200) == [n for n in newest_first if n % 2 == 0]
    assert await found(app_name=None, server_name="s2", limit=200) == [n for n in newest_first if n % 3 == 2]
    assert await found(app_name="nobody") == []
    start, end = NOON + 10 * SECOND, NOON + 20 * SECOND
    assert await found(start=start // 1000, end=end // 1000) == list(range(19, 9, -1))
    assert await found(start=str(start // 1000), limit=1, offset=139) == [10]
    assert await found(start="2026-09-21T12:00:10Z", end="2026-09-21T14:00:12+02:00") == [11, 10]


async def test_the_histogram_is_ascending_and_zero_filled(api: Door, stored: Stored) -> None:
    minutes = [0, 0, 3, 7, 62]
    await stored.write(
        api.buckets["first"],
        [
            Occurrence(NOON + m * 60 * SECOND + n, str(n), "boot", ("", "shop")[m == 3])
            for n, m in enumerate(minutes)
        ],
    )

    async def points(**asked: Any) -> list[list[int]]:
        window = {"start": (NOON - DAY) // 1000, "end": (NOON + DAY) // 1000}
        answer = await ask(api, "POST", "events/stats", {"event_name": "boot", **window, **asked})
        assert answer.status == 200, answer.body
        return [[(x - NOON // 1000) // 60_000, y] for x, y in answer.body]

    assert await points() == [[m, minutes.count(m)] for m in range(63)]
    assert await points(interval="5m") == [[5 * n, {0: 3, 1: 1, 12: 1}.get(n, 0)] for n in range(13)]
    assert await points(interval="hour") == [[0, 4], [60, 1]]
    assert await points(interval="day") == [[-720, 5]]
    assert await points(interval="hour", app_name="shop") == [[0, 1]]
    assert await points(interval="hour", server_name="nowhere") == []
    assert await points(start=NOON // 1000 + 1, end=NOON // 1000 + 7 * 60_000, interval="hour") == [[0, 1]]
    answer = await ask(
        api, "POST", "events/stats", {"event_name": "boot", "days": "10000", "interval": "month"}
    )
    assert [y for _, y in answer.body] == [5]
    assert orjson.dumps(answer.body[0][0]) == b"1788220800000"


async def test_days_count_back_from_now(api: Door, stored: Stored) -> None:
    now = int(await stored.writer.fetchval("SELECT extract(epoch FROM now())")) * SECOND
    await stored.write(
        api.buckets["first"],
        [Occurrence(now - hours * HOUR, str(hours), "boot") for hours in (1, 30, 47, 49, 73)],
    )

    async def counted(**asked: Any) -> int:
        body = {"event_name": "boot", "interval": "hour", **asked}
        return sum(y for _, y in (await ask(api, "POST", "events/stats", body)).body)

    assert await counted() == 3
    assert await counted(days="1") == 1
    assert await counted(days=4) == 5
    assert await counted(days=1, end=(now - 29 * HOUR) // 1000) == 3
    assert await counted(days=1, start=(now - 60 * HOUR) // 1000) == 4


async def test_names_and_counts_by_app(api: Door, stored: Stored) -> None:
    labels = [("", "boot"), ("shop", "sale"), ("shop", "boot"), ("shop", "boot"), ("till", "größe")]
    await stored.write(
        api.buckets["first"],
        [Occurrence(NOON + n * DAY, str(n), name, app, "s1") for n, (app, name) in enumerate(labels)],
    )
    await stored.write(api.buckets["theirs"], [Occurrence(NOON, "1", "secret")])
    expected = [
        {"app_name": "", "events": ["boot"], "counts": {"boot": 1}},
        {"app_name": "shop", "events": ["boot", "sale"], "counts": {"boot": 2, "sale": 1}},
        {"app_name": "till", "events": ["größe"], "counts": {"größe": 1}},
    ]
    for path in ("eventsKeysByApp", "events/eventsKeysByApp"):
        assert (await ask(api, "GET", path)).body == expected
        assert (await ask(api, "GET", path, b"")).body == expected
    assert (await ask(api, "GET", "eventsKeysByApp?app_name=shop")).body == expected[1:2]
    assert (await ask(api, "GET", "eventsKeysByApp", {"app_name": "till"})).body == expected[2:]
    assert (await ask(api, "GET", "eventsKeysByApp?server_name=s2")).body == []


# As many names on one closed day: counted where the writer counts, else left to the aggregates.
NAMES = {
    "apache": """
        INSERT INTO event_counts_day (bucket_key, period, name, app, server, shard, event_count)
        SELECT bucket_key, to_timestamp($1::bigint), 'n' || i, '', '', -1, 1
        FROM buckets, generate_series(1, $2::integer) AS i WHERE bucket_id = $3
    """,
    "community": """
        INSERT INTO events (bucket_key, name, stream, app, server, observed_at, id, received_at, device, data)
        SELECT bucket_key, 'n' || i, 'events', '', '', to_timestamp($1::bigint), i::text, now(), '', '{}'
        FROM buckets, generate_series(1, $2::integer) AS i WHERE bucket_id = $3
    """,
}


@AT_AND_ABOVE
async def test_names_are_shown_up_to_a_bound_and_the_answer_says_so(
    api: Door, stored: Stored, beyond: int
) -> None:
    midnight = NOON // DAY * DAY // SECOND
    count = MAX_NAMES + beyond
    await stored.maintenance.execute(NAMES[stored.edition], midnight, count, api.buckets["first"])
    answer = await ask(api, "GET", "eventsKeysByApp")
    assert answer.status == 200
    assert answer.body[0]["events"] == sorted(f"n{i}" for i in range(1, count + 1))[:MAX_NAMES]
    assert answer.headers.get("X-Weir-Incomplete") == ("names" if beyond else None)


async def test_long_answers_are_sent_while_they_are_read(api: Door, stored: Stored) -> None:
    data = orjson.dumps({"text": "x" * 20_000})
    for part in range(10):
        await stored.write(
            api.buckets["first"],
            [Occurrence(NOON + part * 60 + n, f"{part}-{n}", data=data) for n in range(60)],
        )
    answer = await ask(api, "POST", "events", {"event_name": "boot", "limit": 10_000})
    assert answer.status == 200
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["X-Request-Id"]
    assert [event["at"] for event in answer.body] == [NOON // 1000] * 600
    assert {event["_id"] for event in answer.body} == {f"{p}-{n}" for p in range(10) for n in range(60)}


async def test_a_receipt_waits_until_the_writer_has_stored_it(api: Door, stored: Stored) -> None:
    receipt = encode_receipt({0: (1, 0)})
    for path in ("events", "events/stats"):
        answer = await ask(api, "POST", path, {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
        assert (answer.status, list(answer.body)) == (503, ["msg"])
        assert int(answer.headers["Retry-After"]) >= 1

    async def later() -> None:
        await asyncio.sleep(0.1)
        await stored.write(api.buckets["first"], [Occurrence(NOON, "mine")])

    writing = asyncio.ensure_future(later())
    answer = await ask(api, "POST", "events", {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
    await writing
    assert [event["_id"] for event in answer.body] == ["mine"]
    answer = await ask(api, "GET", "eventsKeysByApp", **{"X-Weir-Receipt": receipt})
    assert answer.body[0]["counts"] == {"boot": 1}


async def test_a_receipt_of_another_log_or_of_nobody_is_400(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], [Occurrence(NOON, "mine")])
    await stored.writer.execute("UPDATE partition_offsets SET epoch = 2")
    for receipt, named in ((encode_receipt({0: (1, 0)}), "earlier log"), ("nonsense!", "receipt")):
        answer = await ask(api, "POST", "events", {"event_name": "boot"}, **{"X-Weir-Receipt": receipt})
        assert answer.status == 400
        assert named in answer.body["msg"]
