"""A question about a stream passes over events of others by their names, and over none of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.writer import purge
from query.execute import Reader, fetch, open_reader
from query.interval import DAY
from query.plan import HOUR
from query.request import Range, Scope, microseconds
from query.streams import (
    NEWEST_FIRST,
    Moment,
    Sorting,
    Streams,
    stream_batches,
    stream_names,
)
from schema.settings import ApiSettings
from schema.tables import STREAM_NAMES
from tests.support.processes import make_bucket
from tests.support.stored import Occurrence, Stored, stored_in


@pytest.fixture
async def stored(database_dsn: str) -> AsyncIterator[Stored]:
    async with stored_in(database_dsn) as found:
        yield found


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    reader = await open_reader(ApiSettings(database_dsn=database_dsn))
    yield reader
    await reader.close(5)


async def now_of(stored: Stored) -> int:
    return microseconds(await stored.writer.fetchval("SELECT now()"))


async def scope_of(stored: Stored, bucket_id: str) -> Scope:
    return Scope(
        (await stored.writer.fetchval("SELECT bucket_key FROM buckets WHERE bucket_id = $1", bucket_id),)
    )


async def known(reader: Reader, asked: Streams) -> tuple[datetime, list[str]]:
    async with reader.snapshot() as connection:
        (row,) = await fetch(connection, stream_names(asked))
    return row["until"], row["names"]


async def ids(reader: Reader, asked: Streams) -> list[str]:
    return [row["id"] async for rows in stream_batches(reader, asked) for row in rows]


def asked(
    scope: Scope, now: int, days: float = 9, sorting: Sorting = NEWEST_FIRST, limit: int = 1000
) -> Streams:
    return Streams(
        (scope,), ("d2", "d1"), "raw", Range(now - int(days * DAY), now + DAY), limit, sorting=sorting
    )


EVENTS = st.tuples(
    # Days of which some are closed, and hours of the day that is open.
    st.one_of(st.integers(0, 6 * 24), st.integers(0, 5)),
    st.sampled_from(["raw", "raw", "events"]),
    st.sampled_from(["boot", "click", "größe"]),
    st.sampled_from(["d1", "d2", ""]),
)
STEPS = st.lists(st.one_of(st.lists(EVENTS, min_size=1, max_size=15), st.none()), min_size=2, max_size=6)
ASKS = st.lists(
    st.tuples(
        st.floats(0.01, 8),
        st.sampled_from([NEWEST_FIRST, Sorting(Moment.OBSERVED_AT, descending=False)]),
        st.sampled_from([2, 1000]),
    ),
    min_size=3,
    max_size=3,
)


@pytest.mark.timeout(200)
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, asks=ASKS)
async def test_no_event_of_a_stream_is_passed_over(
    database_dsn: str,
    steps: list[list[tuple[int, str, str, str]] | None],
    asks: list[tuple[float, Sorting, int]],
) -> None:
    reader = await open_reader(ApiSettings(database_dsn=database_dsn))
    try:
        async with stored_in(database_dsn) as stored:
            bucket_id = make_bucket(database_dsn).bucket_id
            scope, now = await scope_of(stored, bucket_id), await now_of(stored)
            for number, step in enumerate(steps):
                if step is None:
                    await stored.maintain()
                    continue
                made = [
                    Occurrence(now - back * HOUR, f"{number}-{place}", name, device=device, stream=stream)
                    for place, (back, stream, name, device) in enumerate(sorted(step))
                ]
                await stored.write(bucket_id, made)
                for days, sorting, limit in asks:
                    question = asked(scope, now, days, sorting, limit)
                    assert await ids(reader, question) == expected(stored, bucket_id, question)
    finally:
        await reader.close(5)


def expected(stored: Stored, bucket_id: str, question: Streams) -> list[str]:
    found = []
    for device in question.devices:
        events = [
            event
            for event in stored.model[bucket_id].values()
            if event.device == device and event.stream == "raw" and event.observed_at >= question.range.start
        ]
        sign = -1 if question.sorting.descending else 1
        events.sort(key=lambda event: (sign * event.observed_at, event.id.encode()))
        found += [event.id for event in events[: question.limit]]
    return found


async def test_a_name_that_comes_late_is_known_as_late_and_then_as_one_of_them(
    stored: Stored, reader: Reader, database_dsn: str
) -> None:
    bucket_id = make_bucket(database_dsn).bucket_id
    scope, now = await scope_of(stored, bucket_id), await now_of(stored)
    start = now // DAY * DAY
    await stored.write(bucket_id, [Occurrence(start - DAY, "first", "boot", device="d1", stream="raw")])
    await stored.maintain()
    late = start - 2 * DAY + 7
    await stored.write(bucket_id, [Occurrence(late, "late", "new", device="d1", stream="raw")])
    question = asked(scope, now)
    until, names = await known(reader, question)
    assert (microseconds(until), names) == (late // HOUR * HOUR, ["boot"])
    assert await ids(reader, question) == ["first", "late"]
    # What lies before the range says nothing about it.
    assert microseconds((await known(reader, asked(scope, now, 1.5)))[0]) == start
    await stored.maintain()
    until, names = await known(reader, question)
    assert (microseconds(until), names) == (start, ["boot", "new"])
    assert await ids(reader, question) == ["first", "late"]


async def test_a_stream_with_too_many_names_is_read_without_them(
    stored: Stored, reader: Reader, database_dsn: str
) -> None:
    bucket_id = make_bucket(database_dsn).bucket_id
    scope, now = await scope_of(stored, bucket_id), await now_of(stored)
    start = now // DAY * DAY
    for day in (1, 2):
        events = [
            Occurrence(start - day * DAY + n, f"{day}-{n:03}", f"name-{day}-{n}", device="d1", stream="raw")
            for n in range(STREAM_NAMES + 20)
        ]
        await stored.write(bucket_id, events)
    await stored.maintain()
    kept = await stored.maintenance.fetchval("SELECT count(*) FROM stream_names")
    assert kept == STREAM_NAMES + 1
    assert len(await ids(reader, asked(scope, now))) == 2 * (STREAM_NAMES + 20)


async def test_names_go_with_their_bucket_s_key(stored: Stored, database_dsn: str) -> None:
    bucket_id = make_bucket(database_dsn).bucket_id
    now = await now_of(stored)
    await stored.write(bucket_id, [Occurrence(now - 3 * DAY, "a", device="d1", stream="raw")])
    await stored.maintain()
    assert await stored.maintenance.fetchval("SELECT count(*) FROM stream_names") == 1
    await stored.maintenance.execute("UPDATE bucket_keys SET retired_at = now()")
    await purge.purge(stored.maintenance, stored.edition, 0, lambda _: None)
    assert await stored.maintenance.fetchval("SELECT count(*) FROM stream_names") == 0
