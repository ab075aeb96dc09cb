"""A device's journal and counts through real sockets: every documented status, and every edge of a range."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

import psycopg
import pytest

from query.interval import SECOND
from schema.receipts import encode_receipt
from tests.support.api_door import UNAUTHORIZED, Answer, Door
from tests.support.stored import Occurrence, Stored

DEVICE = "87c41d45-7eab-40da-9f33-e86f086b08c9"
# 2012-04-15T14:00:00Z, the hour of the document's example.
HOUR_AT = 1_334_498_400
BOTH_PATHS = ("", "/laas/api/v1")


def opened(*seconds: float, device: str = DEVICE, name: str = "door_opened") -> list[Occurrence]:
    """Events at these moments (Unix seconds)."""
    return [
        Occurrence(round(at * SECOND), f"{name}-{device}-{at}-{number}", name, device=device)
        for number, at in enumerate(seconds)
    ]


async def get(
    api: Door,
    event: str = "door_opened",
    device: str = DEVICE,
    who: str = "owner",
    prefix: str = "",
    given: Mapping[str, object] | None = None,
    **query: object,
) -> Answer:
    path = f"{prefix}/devices/{quote(device, safe='')}/events/{quote(event, safe='')}"
    asked = urlencode({**(given or {}), **query})
    return await api.ask("GET", f"{path}?{asked}" if asked else path, who=who)


@pytest.mark.parametrize("prefix", BOTH_PATHS)
async def test_the_example_of_the_document(api: Door, stored: Stored, prefix: str) -> None:
    counts = {0: 35, 1: 23, 2: 43}
    await stored.write(
        api.buckets["first"],
        opened(*(HOUR_AT + 1600 + hour * 3600 + i for hour, count in counts.items() for i in range(count))),
    )
    answer = await get(
        api,
        who="first read key",
        prefix=prefix,
        begin=1_334_500_000,
        end=1_334_672_800,
        mode="aggregate_hourly",
    )
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.body == [
        {"tst": 1334498400, "val": 35},
        {"tst": 1334502000, "val": 23},
        {"tst": 1334505600, "val": 43},
    ]


async def test_a_journal_lists_every_time_oldest_first(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT + 5, HOUR_AT, HOUR_AT + 5, HOUR_AT + 1.75))
    assert (await get(api)).body == [HOUR_AT, HOUR_AT + 1, HOUR_AT + 5, HOUR_AT + 5]
    for order in ("olderFirst", "older_first"):
        newest_first = await get(api, given={order: "false"})
        assert newest_first.body == [HOUR_AT + 5, HOUR_AT + 5, HOUR_AT + 1, HOUR_AT]
        assert (await get(api, given={order: "true"})).body == newest_first.body[::-1]


@pytest.mark.parametrize("parameter", ["human_readable", "humanReadable"])
async def test_times_to_be_read_by_people(api: Door, stored: Stored, parameter: str) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT + 61.5))
    given = {parameter: "true"}
    assert (await get(api, given=given)).body == ["2012-04-15T14:01:01Z"]
    hourly = await get(api, mode="aggregate_hourly", given=given)
    assert hourly.body == [{"tst": "2012-04-15T14:00:00Z", "val": 1}]
    daily = await get(api, mode="aggregate_daily", given=given)
    assert daily.body == [{"tst": "2012-04-15T00:00:00Z", "val": 1}]
    assert (await get(api, given={parameter: "false"})).body == [HOUR_AT + 61]


@pytest.mark.parametrize(
    ("begin", "end", "within"),
    [
        (HOUR_AT, HOUR_AT + 3600, [0, 1, 3600]),
        (HOUR_AT + 1, HOUR_AT + 3599, [1]),
        (HOUR_AT + 1, HOUR_AT + 1, [1]),
        (HOUR_AT - 1, HOUR_AT - 1, []),
        (0, HOUR_AT, [0]),
        ("2012-04-15T14:00:01Z", "2012-04-15T15:00:00Z", [1, 3600]),
        ("2012-04-15T14:00:01", "2012-04-15T15:00:00.000000", [1, 3600]),
        ("2012-04-15 14:00:01", "2012-04-15 15:00:00", [1, 3600]),
        ("2012-04-15T16:00:01+02:00", "2012-04-15T17:00:00 02:00", [1, 3600]),
        ("2012-04-15T14:00:01.000001Z", "2012-04-15T14:59:59.999999Z", []),
        ("2012-04-15", "2012-04-16", [0, 1, 3600]),
    ],
)
async def test_both_ends_are_included(
    api: Door, stored: Stored, begin: object, end: object, within: list[int]
) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT, HOUR_AT + 1, HOUR_AT + 3600))
    answer = await get(api, begin=begin, end=end)
    assert (answer.status, answer.body) == (200, [HOUR_AT + second for second in within])
    for mode in ("aggregate_hourly", "aggregate_daily"):
        counted = await get(api, begin=begin, end=end, mode=mode)
        assert sum(period["val"] for period in counted.body) == len(within)


async def test_a_plus_that_was_not_encoded_arrives_as_a_space(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT, HOUR_AT + 1))
    path = f"/devices/{DEVICE}/events/door_opened?begin=2012-04-15T16:00:01+02:00&end=2012-04-15+14:00:01"
    assert (await api.ask("GET", path)).body == [HOUR_AT + 1]


async def test_without_an_end_until_now_and_the_future_is_nothing(api: Door, stored: Stored) -> None:
    row = await stored.writer.fetchval("SELECT extract(epoch FROM now())::bigint")
    await stored.write(api.buckets["first"], opened(row - 60, row + 3600))
    assert (await get(api)).body == [row - 60]
    assert (await get(api, end=row + 7200)).body == [row - 60, row + 3600]
    begun_ahead = await get(api, begin=row + 1800)
    assert (begun_ahead.status, begun_ahead.body) == (200, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("begin", -1), ("begin", "yesterday"), ("begin", ""), ("begin", "1.5"), ("begin", "NaN"),
        ("begin", 10**12), ("begin", "9" * 90), ("begin", "2012-13-01"), ("begin", "1969-12-31T23:59:59Z"),
        ("begin", "\u0661\u0662"), ("end", -5), ("end", "2012-04-15T25:00:00Z"), ("end", "\x00"),
        ("page", -1), ("page", "x"), ("page", "1.5"), ("page", 10**20), ("page", ""),
        ("mode", "weekly"), ("mode", ""), ("mode", "JOURNAL"),
        ("human_readable", "maybe"), ("olderFirst", "2"), ("older_first", ""), ("humanReadable", "yes"),
    ],
)  # fmt: skip
async def test_what_is_not_valid_is_named(api: Door, stored: Stored, field: str, value: object) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    answer = await get(api, given={field: value})
    assert answer.status == 400
    assert list(answer.body) == ["responseStatus", "message"]
    assert answer.body["responseStatus"] == 400
    assert answer.body["message"].startswith(f"{field}:")


async def test_begin_after_end_is_refused(api: Door) -> None:
    answer = await get(api, begin=HOUR_AT + 1, end=HOUR_AT)
    assert (answer.status, answer.body) == (400, {"responseStatus": 400, "message": "begin: lies after end"})


async def test_unknown_parameters_are_ignored(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    assert (await get(api, limit="x", app_name="y")).body == [HOUR_AT]


@pytest.mark.parametrize("prefix", BOTH_PATHS)
async def test_who_is_nobody_is_401(api: Door, stored: Stored, prefix: str) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    for who in UNAUTHORIZED:
        answer = await get(api, who=who, prefix=prefix, mode="nonsense")
        assert answer.status == 401, who
        assert (list(answer.body), answer.body["responseStatus"]) == (["responseStatus", "message"], 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


READERS = (
    "owner", "admin", "user", "member", "root", "first read key", "first admin key", "owner's read key",
    "owner's admin key", "user's read key", "root's read key",
)  # fmt: skip
SEE_NOTHING = (
    "stranger", "first ingest key", "second read key", "theirs read key", "theirs admin key",
    "owner's ingest key", "root's ingest key",
)  # fmt: skip


async def test_who_sees_the_device_and_to_whom_it_is_unknown(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    for who in READERS:
        assert (await get(api, who=who)).body == [HOUR_AT], who
    for who in SEE_NOTHING:
        answer = await get(api, who=who)
        assert answer.status == 404, who
        assert (list(answer.body), answer.body["responseStatus"]) == (["responseStatus", "message"], 404)
        # The refusal does not tell a device that is somebody else's from one that is nobody's.
        assert answer.body == (await get(api, who=who, device="never seen")).body


@pytest.mark.parametrize(
    ("device", "event"),
    [
        ("unknown", "door_opened"), (DEVICE, "unknown"), ("x" * 300, "door_opened"), (DEVICE, "x" * 300),
        ("\x00", "door_opened"), (DEVICE, "\x00"), (DEVICE.upper(), "door_opened"), (DEVICE, "' OR ''='"),
        ("%", "door_opened"), (DEVICE, "door%opened"),
    ],
)  # fmt: skip
async def test_an_unknown_device_or_event_is_404(api: Door, stored: Stored, device: str, event: str) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    for mode in ("journal", "aggregate_daily", "aggregate_hourly"):
        answer = await get(api, event, device, mode=mode)
        assert (answer.status, answer.body["responseStatus"]) == (404, 404)


async def test_a_known_event_outside_of_the_range_is_an_empty_list(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    for mode in ("journal", "aggregate_daily", "aggregate_hourly"):
        answer = await get(api, mode=mode, begin=HOUR_AT + 1)
        assert (answer.status, answer.body) == (200, [])


async def test_names_with_slashes_and_other_letters_are_names(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT, device="a/b c?", name="tür/auf+zu"))
    assert (await get(api, "tür/auf+zu", "a/b c?")).body == [HOUR_AT]


async def test_a_device_in_several_buckets_has_its_events_together(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT, HOUR_AT + 2))
    await stored.write(api.buckets["second"], opened(HOUR_AT + 1))
    await stored.write(api.buckets["theirs"], opened(HOUR_AT + 3))
    seen = {"owner": [0, 1, 2], "user": [0, 2], "stranger": [3], "second read key": [1], "root": [0, 1, 2, 3]}
    for who, seconds in seen.items():
        assert (await get(api, who=who)).body == [HOUR_AT + second for second in seconds], who
        for mode in ("aggregate_hourly", "aggregate_daily"):
            periods = (await get(api, who=who, mode=mode)).body
            assert [period["val"] for period in periods] == [len(seconds)], who


async def test_pages_of_a_thousand_in_every_mode(api: Door, stored: Stored) -> None:
    moments = [HOUR_AT + i * 3600 for i in range(2003)]
    await stored.write(api.buckets["first"], opened(*moments))
    days = sorted({at // 86_400 * 86_400 for at in moments})
    for mode, expected in (("journal", moments), ("aggregate_hourly", moments), ("aggregate_daily", days)):
        for order, listed in (("true", expected), ("false", expected[::-1])):
            pages = [(await get(api, mode=mode, page=page, olderFirst=order)).body for page in range(4)]
            assert [len(page) for page in pages] == [len(listed[n : n + 1000]) for n in range(0, 4000, 1000)]
            found = [entry if mode == "journal" else entry["tst"] for page in pages for entry in page]
            assert found == listed
    far = await get(api, page=1_000_000_000)
    assert (far.status, far.body) == (200, [])


async def test_days_come_from_the_device_rung_late_events_and_all(api: Door, stored: Stored) -> None:
    """Built days, a day that is stale since an event came late, and raw rows after them: counted exactly."""
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()))::bigint")
    today = now // 86_400 * 86_400
    moments = [today - 86_400 * day + 10 * day for day in range(1, 30)] + [now - 1]
    await stored.write(api.buckets["first"], opened(*moments))
    await stored.maintain()
    late = [today - 86_400 * 5 + 7, today - 86_400 * 9 + 11]
    await stored.write(api.buckets["first"], opened(*late, name="door_opened"))
    expected: dict[int, int] = {}
    for at in moments + late:
        expected[at // 86_400 * 86_400] = expected.get(at // 86_400 * 86_400, 0) + 1
    answer = await get(api, mode="aggregate_daily")
    assert answer.body == [{"tst": day, "val": count} for day, count in sorted(expected.items())]
    # The borders of a range cut through days: only what is within is counted.
    begin, end = moments[20] + 1, moments[3]
    cut = await get(api, mode="aggregate_daily", begin=begin, end=end)
    within = [at for at in moments + late if begin <= at <= end]
    assert sum(period["val"] for period in cut.body) == len(within)


async def test_what_is_older_than_the_retention_is_gone(api: Door, stored: Stored, database_dsn: str) -> None:
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()))::bigint")
    old, young = now - 40 * 86_400, now - 2 * 86_400
    await stored.write(api.buckets["first"], opened(old, young))
    await stored.write(api.buckets["first"], opened(old, name="old"))
    await stored.write(api.buckets["second"], opened(old + 1))
    await stored.maintain()
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "UPDATE buckets SET retention_days = 10 WHERE bucket_id = %s", [api.buckets["first"]]
        )
    assert (await get(api, who="first read key")).body == [young]
    assert (await get(api, "old", who="first read key")).status == 404
    assert (await get(api, who="owner")).body == [old + 1, young]
    days = (await get(api, who="owner", mode="aggregate_daily")).body
    assert [(day["tst"], day["val"]) for day in days] == [
        ((old + 1) // 86_400 * 86_400, 1), (young // 86_400 * 86_400, 1)
    ]  # fmt: skip


async def test_times_whose_rows_were_dropped_are_said_to_be_missing(api: Door, stored: Stored) -> None:
    now = await stored.writer.fetchval("SELECT floor(extract(epoch FROM now()))::bigint")
    old, young = now - 40 * 86_400, now - 2 * 86_400
    await stored.write(api.buckets["first"], opened(old, young))
    await stored.maintain()
    await stored.drop_raw_rows(10)
    journal = await get(api)
    assert journal.body == [young]
    assert journal.headers["X-Weir-Incomplete"].startswith("1970-01-01T00:00:00+00:00/")
    days = await get(api, mode="aggregate_daily")
    assert [day["val"] for day in days.body] == [1, 1]


async def test_an_emptied_or_deleted_bucket_shows_nothing(
    api: Door, stored: Stored, database_dsn: str
) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "UPDATE buckets SET deleted_at = now() WHERE bucket_id = %s", [api.buckets["first"]]
        )
    assert (await get(api, who="root")).status == 404
    assert (await get(api, who="owner")).status == 404


async def test_a_receipt_is_waited_for(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], opened(HOUR_AT))
    path = f"/devices/{DEVICE}/events/door_opened"
    met = encode_receipt({0: (1, 0)})
    assert (await api.ask("GET", path, **{"X-Weir-Receipt": met})).body == [HOUR_AT]
    late = await api.ask("GET", path, **{"X-Weir-Receipt": encode_receipt({0: (1, 10)})})
    assert (late.status, late.body["responseStatus"], late.headers["Retry-After"]) == (503, 503, "1")


async def test_other_methods_and_paths_are_refused_in_the_same_form(api: Door) -> None:
    answer = await api.ask("DELETE", f"/devices/{DEVICE}/events/door_opened")
    assert (answer.status, list(answer.body)) == (405, ["responseStatus", "message"])
    answer = await api.ask("GET", f"/laas/api/v1/devices/{DEVICE}")
    assert (answer.status, list(answer.body)) == (404, ["responseStatus", "message"])
