"""What happens at the bounds of a Reader: busy connections, statements without end, readers that dawdle."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest

from query.events import batches
from query.execute import Reader, open_reader
from query.interval import SECOND, Interval, Unit
from query.request import Filters, Histogram, Page, Range, Scope
from query.sql import Statement
from schema.errors import Overloaded, Unavailable
from schema.settings import ApiSettings
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import stored_in

NOW = 1_790_000_000 * SECOND
CONNECTIONS = 4
HISTOGRAM = Histogram(Scope((1,)), Range(NOW, NOW + SECOND), Interval(Unit.SECOND), Filters())


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    settings = ApiSettings(
        database_dsn=database_dsn,
        database_pool_size=CONNECTIONS,
        # Also what a new connection may take, on a machine that is busy.
        database_connect_seconds=2.0,
        query_seconds=1,
    )
    made = await open_reader(settings)
    yield made
    await made.close(5)


async def test_when_all_connections_are_busy_a_question_waits_and_then_is_told_so(reader: Reader) -> None:
    async with AsyncExitStack() as busy:
        for _ in range(CONNECTIONS):
            await busy.enter_async_context(reader.snapshot())
        began = time.monotonic()
        with pytest.raises(Overloaded, match="too many questions"):
            await reader.histogram(HISTOGRAM)
        assert time.monotonic() - began < 5
    assert (await reader.histogram(HISTOGRAM))[0] == []


async def test_long_answers_leave_half_of_the_connections_to_the_others(
    reader: Reader, database_dsn: str
) -> None:
    async with stored_in(database_dsn) as stored:
        await stored.writer.execute("SELECT")
        await stored.maintenance.execute(
            "INSERT INTO events SELECT 1, 'boot', 'events', '', '',"
            " to_timestamp($1::bigint) + i * interval '1 s', i::text, now(), '', '{}'"
            " FROM generate_series(1, 100) AS i",
            NOW // SECOND,
        )
    page = Page(Scope((1,)), Range(), Filters("boot"), limit=100, asked_at=NOW)
    async with AsyncExitStack() as dawdling:
        for _ in range(CONNECTIONS // 2):
            answer = await dawdling.enter_async_context(aclosing(batches(reader, page)))
            assert len(await anext(answer)) == 16
        with pytest.raises(Overloaded):
            await anext(batches(reader, page))
        await asyncio.gather(*(reader.histogram(HISTOGRAM) for _ in range(20)))
        short = Page(Scope((1,)), Range(), Filters("boot"), limit=10, asked_at=NOW)
        assert [len(rows) async for rows in batches(reader, short)] == [10]
    assert sum([len(rows) async for rows in batches(reader, page)]) == 100


@AT_AND_ABOVE
async def test_a_statement_without_end_is_ended(reader: Reader, beyond: int) -> None:
    statement = Statement(f"SELECT pg_sleep({0.2 + 30 * beyond})", ())
    if not beyond:
        assert len(await reader.look(statement)) == 1
        return
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await reader.look(statement)
    assert time.monotonic() - began < 3
    assert (await reader.histogram(HISTOGRAM))[0] == []


async def test_a_reader_cannot_write(reader: Reader) -> None:
    with pytest.raises(Exception, match="read-only transaction"):
        await reader.look(Statement("DELETE FROM buckets", ()))


async def test_a_histogram_that_guessed_wrong_is_planned_anew(reader: Reader, database_dsn: str) -> None:
    day = Histogram(Scope((1,)), Range(0, NOW + SECOND), Interval(Unit.DAY), Filters("boot"))
    assert (await reader.histogram(day))[0] == []
    async with stored_in(database_dsn) as stored:
        if stored.edition == "community":
            await stored.maintenance.execute(
                "INSERT INTO late_hours (hour) VALUES (to_timestamp($1::bigint))", 7200
            )
            _, plan = await reader.histogram(day)
            assert [piece.rung for piece in plan.slices if piece.start <= 7200 * SECOND < piece.end] == [None]
        else:
            await stored.maintenance.execute(
                "UPDATE store_state SET raw_floor = to_timestamp($1::bigint)", 86_400
            )
            part = Histogram(day.scope, Range(SECOND, NOW), day.interval, day.filters)
            _, plan = await reader.histogram(part)
            assert plan.left_out == (Range(SECOND, 60 * SECOND),)
