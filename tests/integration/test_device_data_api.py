"""Events of a stream by device, through real sockets: the language, every status, other people's events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import psycopg
import pytest

import query.streams
from api.surfaces.device_data import DeviceDataAnswer
from query.interval import DAY, SECOND
from schema.receipts import encode_receipt
from tests.support.api_door import UNAUTHORIZED, Answer, Door, api_door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import Occurrence, Stored

# 2020-01-07T01:06:31.484870Z, the moment of the document's example.
EXAMPLE_AT = 1_578_359_191_484_870
NOON = 1_790_000_000 * SECOND // DAY * DAY + 12 * 3600 * SECOND


def event(at: int, name: str, device: str = "d1", stream: str = "raw", /, **data: Any) -> Occurrence:
    return Occurrence(at, name, "reading", device=device, stream=stream, data=json.dumps(data).encode())


async def ask(api: Door, who: str = "owner", **asked: Any) -> Answer:
    answer = await api.ask("POST", "/device_data", {"stream": "raw", "device_id": "d1", **asked}, who=who)
    if answer.status == 200:
        DeviceDataAnswer.model_validate(answer.body, strict=True)
    return answer


async def found(api: Door, who: str = "owner", **asked: Any) -> list[str]:
    """Ids of the events of the one device asked for."""
    answer = await ask(api, who, **asked)
    assert answer.status == 200, answer.body
    (entry,) = answer.body["data"]
    return [one["event_id"] for one in entry["data"]]


async def test_the_example_of_the_document(api: Door, stored: Stored) -> None:
    kept = {"tenant_user": "t_123", "amount": 100, "faculty_string": "abc123", "licensee": "ANIMALS!"}
    others = [
        kept | {"tenant_user": "t_124"},
        kept | {"amount": 101},
        kept | {"name": "somebody"},
        kept | {"faculty_string": "ABC"},
        kept | {"licensee": "plants"},
    ]
    await stored.write(
        api.buckets["first"],
        [
            event(EXAMPLE_AT, "123", "accounts", "licensee_accounts", **kept),
            event(EXAMPLE_AT - 1, "122", "accounts", "licensee_accounts", **kept),
            event(EXAMPLE_AT + 1, "124", "accounts", "another_stream", **kept),
            *(
                event(EXAMPLE_AT + 2 + n, f"other{n}", "accounts", "licensee_accounts", **other)
                for n, other in enumerate(others)
            ),
        ],
    )
    filters = {
        "AND": [
            ["licensee_accounts.faculty_string", "CONTAINS", "abc"],
            ["licensee_accounts.licensee", "CASE_INSENSITIVE_CONTAINS", "animal"],
        ]
    }
    asked = {
        "device_id": "accounts",
        "stream": "licensee_accounts",
        "limit": 1,
        "since": "2020-01-07T01:06:30.484Z",
        "sort_by": "observed_at",
        "sort_direction": "desc",
        "rule": ['tenant_user = "t_123"', "amount = 100"],
        "xrule": ["name"],
        "filters": json.dumps(filters),
    }
    expected = {
        "data": [
            {
                "tag": "_full_event_",
                "device_id": "accounts",
                "data": [
                    {"event_id": "123", "observed_at": "2020-01-07T01:06:31.484870+00:00", "event_data": kept}
                ],
            }
        ]
    }
    for who in ("owner", "user", "member", "root", "first read key", "owner's admin key"):
        for method in ("GET", "POST"):
            answer = await api.ask(method, "/device_data", asked, who=who)
            assert (answer.status, answer.body) == (200, expected)
            assert answer.headers["Content-Type"].startswith("application/json")
            answer = await api.ask(method, f"/device_data?{urlencode(asked, doseq=True)}", who=who)
            assert (answer.status, answer.body) == (200, expected)


async def test_devices_in_the_order_asked_for_each_with_its_limit(api: Door, stored: Stored) -> None:
    await stored.write(
        api.buckets["first"],
        [event(NOON + n * SECOND, f"{n:02}", f"d{n % 3}") for n in range(30)]
        + [event(NOON, tie, "ties") for tie in "bca"],
    )
    answer = await ask(api, device_id=["d2", "nobody", "ties", "d0", "d2"], limit="4")
    assert [entry["device_id"] for entry in answer.body["data"]] == ["d2", "nobody", "ties", "d0", "d2"]
    assert [[e["event_id"] for e in entry["data"]] for entry in answer.body["data"]] == [
        ["29", "26", "23", "20"],
        [],
        ["a", "b", "c"],
        ["27", "24", "21", "18"],
        ["29", "26", "23", "20"],
    ]
    # One device in a list and by itself is the same.
    assert (await ask(api, device_id=["ties"])).body == (await ask(api, device_id="ties")).body


async def test_since_and_until_are_inclusive_and_until_is_now_by_default(api: Door, stored: Stored) -> None:
    now = int(datetime.now(UTC).timestamp()) * SECOND
    await stored.write(api.buckets["first"], [event(NOON + n * SECOND, str(n)) for n in range(10)])
    await stored.write(api.buckets["first"], [event(now + 3600 * SECOND, "ahead"), event(now, "new", "d2")])

    def iso(second: int) -> str:
        return datetime.fromtimestamp(NOON / SECOND + second, UTC).isoformat()

    assert await found(api) == [str(n) for n in range(9, -1, -1)]
    assert await found(api, since=iso(7)) == ["9", "8", "7"]
    assert await found(api, until=iso(1)) == ["1", "0"]
    assert await found(api, since=iso(4), until=iso(5)) == ["5", "4"]
    assert await found(api, since=iso(4).removesuffix("+00:00"), until=iso(4)) == ["4"]
    assert await found(api, since=NOON // 1000 + 8000) == ["9", "8"]
    assert await found(api, until=str(NOON // 1000)) == ["0"]
    assert await found(api, since="2100-01-01T00:00:00Z") == []
    assert await found(api, until="9999-12-31T00:00:00Z", limit=1) == ["ahead"]
    assert await found(api, device_id="d2") == ["new"]
    # A + that nobody encoded.
    answer = await api.ask("GET", f"/device_data?device_id=d1&stream=raw&since={iso(9)}")
    assert [one["event_id"] for one in answer.body["data"][0]["data"]] == ["9"]


async def test_sorting(api: Door, stored: Stored) -> None:
    values: dict[str, Any] = {
        "n10": 10,
        "n9": 9.5,
        "tB": "B",
        "ta": "a",
        "yes": True,
        "no": False,
        "null": None,
    }
    events = [
        event(NOON + n * SECOND, name, size={"w": value}) for n, (name, value) in enumerate(values.items())
    ]
    await stored.write(api.buckets["first"], [*events, event(NOON + 60 * SECOND, "none")])
    # Stored in two transactions, so that received_at differs from observed_at's order.
    up = ["n9", "n10", "tB", "ta", "no", "yes", "none", "null"]
    down = ["n10", "n9", "ta", "tB", "yes", "no", "none", "null"]
    for tag in ("size.w", "raw.size.w", '"size".w'):
        assert await found(api, sort_by=tag, sort_direction="asc") == up
        assert await found(api, sort_by=tag, sort_direction="DESC") == down
    assert await found(api, sort_by="size.w", sort_direction="asc", limit=3) == up[:3]
    oldest_first = [*values, "none"]
    for moment in ("observed_at", "received_at"):
        assert await found(api, sort_by=moment, sort_direction="asc") == oldest_first
        assert await found(api, sort_by=moment, sort_direction="desc") == oldest_first[::-1]


LANGUAGE: list[tuple[dict[str, Any], str]] = [
    ({"rule": "n"}, "abcd"),
    ({"rule": ["n = 1"]}, "a"),
    ({"rule": ["raw.n = 1.0", "raw.t"]}, "a"),
    ({"rule": ['t = "x%"']}, "b"),
    ({"rule": ["n", "o.p"]}, "bc"),
    ({"rule": ["o.p = null"]}, "c"),
    ({"rule": ["l.0 = 7"]}, "d"),
    ({"rule": []}, "abcde"),
    ({"xrule": ["t", "l"]}, "ce"),
    ({"xrule": "n = 2"}, "acde"),
    ({"rule": ["n"], "xrule": ["o"]}, "ad"),
    ({"filters": ["n", "GREATER_THAN", 1]}, "bcd"),
    ({"filters": ["n", "NOT_EQUALS", 1]}, "bcde"),
    ({"filters": ["t", "CONTAINS", "%"]}, "b"),
    ({"filters": ["l", "CONTAINS", "z"]}, "d"),
    ({"filters": ["t", "CASE_INSENSITIVE_CONTAINS", "X"]}, "ab"),
    ({"filters": ["t", "STARTS_WITH", "x"]}, "ab"),
    ({"filters": ["t", "ENDS_WITH", "y"]}, "a"),
    ({"filters": ["n", "LESS_OR_EQUAL", 2]}, "ab"),
    ({"filters": ["n", "GREATER_OR_EQUAL", 3]}, "cd"),
    ({"filters": ["n", "LESS_THAN", 2]}, "a"),
    ({"filters": ["n", "IN", [1, "3", 4]]}, "ad"),
    ({"filters": ["o", "EXISTS"]}, "bce"),
    ({"filters": {"NOT": ["o", "EXISTS"]}}, "ad"),
    ({"filters": {"OR": [["n", "EQUALS", 1], {"AND": [["o", "EXISTS"], ["n", "EXISTS", False]]}]}}, "ae"),
    ({"filters": '{"AND":[["raw.n","EQUALS",2],["t","EXISTS"]]}', "rule": ["o"]}, "b"),
    ({"rule": ["n = '1'"]}, ""),
]


async def test_rules_exclusions_and_filters(api: Door, stored: Stored) -> None:
    await stored.write(
        api.buckets["first"],
        [
            event(NOON, "a", n=1, t="xy"),
            event(NOON - 1, "b", n=2, t="x%", o={"p": 1}),
            event(NOON - 2, "c", n=3, o={"p": None}),
            event(NOON - 3, "d", n=4, l=[7, "z"]),
            event(NOON - 4, "e", o={}),
        ],
    )
    for asked, ids in LANGUAGE:
        assert "".join(await found(api, **asked)) == ids, asked
        if not isinstance(asked.get("filters"), dict | list):
            path = "/device_data?" + urlencode({"device_id": "d1", "stream": "raw", **asked}, doseq=True)
            answer = await api.ask("GET", path)
            assert "".join(one["event_id"] for one in answer.body["data"][0]["data"]) == ids, asked


BAD: list[tuple[dict[str, Any], str]] = [
    ({"device_id": None}, "device_id: required"),
    ({"device_id": ""}, "device_id: is required"),
    ({"device_id": []}, "device_id: is required"),
    ({"device_id": ["a", ""]}, "device_id: is required"),
    ({"device_id": ["a", 1]}, "device_id: must be a string or a list"),
    ({"device_id": {"a": 1}}, "device_id: must be a string or a list"),
    ({"device_id": "a\0"}, "device_id: holds"),
    ({"device_id": "x" * 201}, "device_id: longer"),
    ({"device_id": ["a"] * 101}, "device_id: 101 devices, at most 100"),
    ({"stream": None}, "stream: required"),
    ({"stream": ""}, "stream: is required"),
    ({"stream": ["raw"]}, "stream: must be a string"),
    ({"stream": "x" * 101}, "stream: longer"),
    ({"limit": 0}, "limit: must be a whole number from 1 to 10000"),
    ({"limit": 10_001}, "limit"),
    ({"limit": "many"}, "limit"),
    ({"limit": True}, "limit"),
    ({"since": "yesterday"}, "since"),
    ({"until": "yesterday 00:00"}, "until"),
    ({"since": {}}, "since"),
    ({"since": -1}, "since"),
    ({"since": 2000, "until": 1000}, "since: lies after until"),
    ({"sort_by": "n"}, "sort_direction: is required"),
    ({"sort_direction": "asc"}, "sort_by: is required"),
    ({"sort_by": "n", "sort_direction": "up"}, "sort_direction: must be asc or desc"),
    ({"sort_by": "", "sort_direction": "asc"}, "sort_by: at character 1"),
    ({"sort_by": "a..b", "sort_direction": "asc"}, "sort_by: at character 3"),
    ({"sort_by": 5, "sort_direction": "asc"}, "sort_by: must be a string"),
    ({"rule": [1]}, "rule: must be"),
    ({"rule": {"n": 1}}, "rule: must be"),
    ({"rule": ["n", "n = x"]}, "rule[1]: at character 5"),
    ({"rule": ["n"] * 101}, "rule: 101 entries"),
    ({"rule": ["n"] * 60, "xrule": ["n"] * 41}, "rule, xrule, filters: more than 100"),
    ({"xrule": ["="]}, "xrule[0]: at character 1"),
    ({"filters": 5}, "filters: must be"),
    ({"filters": {}}, "filters: at character 2"),
    ({"filters": '{"AND": [["n", "EQUALZ", 1]]}'}, "filters: at character 16"),
    ({"filters": "x" * 20_000}, "filters: longer"),
    ({"filter": ["n", "EXISTS"]}, "filter: there is no such parameter"),
    ({"Device_id": "x"}, "Device_id: there is no such parameter"),
]


async def test_what_is_wrong_is_a_problem_that_names_it(api: Door) -> None:
    for asked, detail in BAD:
        answer = await ask(api, **asked)
        assert answer.status == 400, asked
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert answer.body["status"] == 400
        assert answer.body["detail"].startswith(detail), answer.body
        if "at character" in detail:
            assert answer.body["parameter"] == detail.partition(":")[0]
            assert answer.body["character"] == int(detail.rpartition(" ")[2])
            assert answer.body["expected"]


async def test_a_body_that_is_no_object_is_400(api: Door) -> None:
    for body in (b"{", b"[]", b"\xff", b"[" * 500 + b"]" * 500):
        for method in ("GET", "POST"):
            answer = await api.ask(method, "/device_data", body)
            assert answer.status == 400, body
            assert answer.body["detail"].startswith("body: ")


async def test_a_parameter_that_is_given_twice_is_400(api: Door) -> None:
    answer = await api.ask("GET", "/device_data?device_id=a&device_id=b&stream=raw&stream=cooked")
    assert (answer.status, answer.body["detail"]) == (400, "stream: is given 2 times")


async def test_statuses_of_the_door(api: Door) -> None:
    answer = await api.ask("POST", "/device_data", b'{"stream": "' + b"x" * 1024 * 1024 + b'"}')
    assert answer.status == 413
    answer = await api.ask("POST", "/device_data", b"{}", **{"Content-Encoding": "br"})
    assert answer.status == 415
    answer = await api.ask("DELETE", "/device_data")
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "POST"}
    assert answer.headers["Content-Type"].startswith("application/problem+json")


async def test_the_body_wins_over_the_query_string_and_null_is_not_given(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], [event(NOON + n, str(n), n=n) for n in range(3)])
    answer = await api.ask(
        "POST", "/device_data?device_id=x&stream=raw&limit=1&rule=n", {"device_id": "d1", "rule": None}
    )
    assert [one["event_id"] for one in answer.body["data"][0]["data"]] == ["2", "1", "0"][:1]


# --- who sees what ---


async def test_everybody_sees_what_they_may_read_and_nobody_is_told_of_the_rest(
    api: Door, stored: Stored
) -> None:
    for n, bucket in enumerate(("first", "second", "theirs")):
        await stored.write(
            api.buckets[bucket], [event(NOON + n, bucket), event(NOON + n, f"only {bucket}", bucket)]
        )
    seen: dict[str, set[str]] = {}
    for who in api.secrets:
        answer = await ask(api, who, device_id=["d1", "first", "second", "theirs", "nobody"])
        if who in UNAUTHORIZED:
            assert answer.status == 401, who
            assert answer.headers["Content-Type"].startswith("application/problem+json")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            continue
        assert answer.status == 200, who
        entries = {
            entry["device_id"]: [e["event_id"] for e in entry["data"]] for entry in answer.body["data"]
        }
        assert list(entries) == ["d1", "first", "second", "theirs", "nobody"]
        seen[who] = set(entries["d1"])
        assert entries["d1"] == [b for b in ("theirs", "second", "first") if b in seen[who]]
        assert entries["nobody"] == []
        for bucket in ("first", "second", "theirs"):
            assert entries[bucket] == ([f"only {bucket}"] if bucket in seen[who] else []), (who, bucket)
    both = {"first", "second"}
    expected = {
        "owner": both, "member": both, "admin": {"first"}, "user": {"first"}, "stranger": {"theirs"},
        "root": both | {"theirs"},
        **{f"{bucket} {scope} key": {bucket} for bucket in (*both, "theirs") for scope in ("read", "admin")},
        **{f"{bucket} ingest key": set() for bucket in (*both, "theirs")},
        **{f"owner's {scope} key": both for scope in ("read", "admin")},
        **{f"user's {scope} key": {"first"} for scope in ("read", "admin")},
        **{f"root's {scope} key": both | {"theirs"} for scope in ("read", "admin")},
        **{f"{who}'s ingest key": set() for who in ("owner", "user", "root")},
    }  # fmt: skip
    assert seen == expected


async def test_a_deleted_and_an_emptied_bucket_show_nothing(
    api: Door, stored: Stored, database_dsn: str
) -> None:
    for bucket in ("first", "second"):
        await stored.write(api.buckets[bucket], [event(NOON, bucket)])
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "UPDATE buckets SET deleted_at = now() WHERE bucket_id = %s", [api.buckets["first"]]
        )
        connection.execute(
            "WITH new AS (INSERT INTO bucket_keys (bucket_id) VALUES (%(id)s) RETURNING bucket_key)"
            " UPDATE buckets SET bucket_key = new.bucket_key FROM new WHERE bucket_id = %(id)s",
            {"id": api.buckets["second"]},
        )
    for who in ("owner", "root", "first read key", "second read key"):
        answer = await ask(api, who)
        assert answer.status in (200, 401)
        if answer.status == 200:
            assert answer.body["data"] == [{"tag": "_full_event_", "device_id": "d1", "data": []}]


async def test_each_bucket_shows_its_own_retention(api: Door, stored: Stored, database_dsn: str) -> None:
    now = int(datetime.now(UTC).timestamp()) * SECOND
    for bucket in ("first", "second", "theirs"):
        await stored.write(
            api.buckets[bucket], [event(now - days * DAY, f"{bucket} {days}") for days in (1, 5, 20)]
        )
    with psycopg.connect(database_dsn) as connection:
        for bucket, days in (("first", 10), ("theirs", 2)):
            connection.execute(
                "UPDATE buckets SET retention_days = %s WHERE bucket_id = %s", (days, api.buckets[bucket])
            )
    assert await found(api) == ["first 1", "second 1", "first 5", "second 5", "second 20"]
    assert await found(api, "user") == ["first 1", "first 5"]
    assert await found(api, "stranger") == ["theirs 1"]
    assert sorted(await found(api, "root")) == [
        "first 1", "first 5", "second 1", "second 20", "second 5", "theirs 1",
    ]  # fmt: skip
    since = datetime.fromtimestamp(now / SECOND - 6 * 86_400, UTC).isoformat()
    assert await found(api, "user", since=since) == ["first 1", "first 5"]
    assert await found(api, "stranger", until=since) == []


# --- bounds, receipts, outages ---


@AT_AND_ABOVE
async def test_an_answer_of_too_many_events_is_refused_and_never_cut(
    api: Door, stored: Stored, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    await stored.write(api.buckets["first"], [event(NOON + n, str(n), f"d{n % 2}") for n in range(12)])
    monkeypatch.setattr(query.streams, "MAX_EVENTS", 12 - beyond)
    devices = ["d0", "d1"]
    answer = await ask(api, device_id=devices, limit=10_000)
    if not beyond:
        assert [len(entry["data"]) for entry in answer.body["data"]] == [6, 6]
        return
    assert answer.status == 400
    assert answer.body["detail"].startswith("limit: more than 11 events")
    # What there is counts, not what the limit would allow.
    assert (await ask(api, device_id=devices, limit=5)).status == 200
    assert (await ask(api, device_id="d0", limit=10_000)).status == 200


async def test_a_hundred_devices_and_a_long_answer_arrive_whole(api: Door, stored: Stored) -> None:
    devices = [f"device-{n}" for n in range(100)]
    await stored.write(
        api.buckets["first"],
        [event(NOON + n, f"{n:05}", devices[n % 100], text="ä" * 300, n=n) for n in range(3000)],
    )
    answer = await ask(api, device_id=devices, limit=10_000)
    assert [entry["device_id"] for entry in answer.body["data"]] == devices
    for place, entry in enumerate(answer.body["data"]):
        assert [one["event_data"]["n"] for one in entry["data"]] == list(range(2900 + place, -1, -100))
    assert answer.headers.get("Transfer-Encoding") == "chunked"


async def test_a_receipt_is_waited_for(api: Door, stored: Stored) -> None:
    receipt = {"X-Weir-Receipt": encode_receipt({0: (1, 0)})}
    asked = {"device_id": "d1", "stream": "raw"}
    answer = await api.ask("POST", "/device_data", asked, **receipt)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    await stored.write(api.buckets["first"], [event(int(datetime.now(UTC).timestamp()) * SECOND - 1, "new")])
    answer = await api.ask("GET", "/device_data", asked, **receipt)
    assert [one["event_id"] for one in answer.body["data"][0]["data"]] == ["new"]
    answer = await api.ask("GET", "/device_data", asked, **{"X-Weir-Receipt": "nonsense!"})
    assert answer.status == 400
    assert answer.body["detail"].startswith("X-Weir-Receipt")


async def test_the_database_away_is_503_and_tells_nothing(database_dsn: str) -> None:
    away = urlsplit(database_dsn)
    away = away._replace(netloc=f"{away.username}:{away.password}@127.0.0.1:9", path="/hidden_name")
    async with api_door(database_dsn, database_read_dsn=urlunsplit(away)) as api:
        answer = await ask(api)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "hidden_name" not in json.dumps(answer.body)
