"""Runs statements: one read-only snapshot a question, a deadline, and another try where that helps.

Ledger, coverage, floor and counts are read in the same REPEATABLE READ snapshot: read apart, an hour
could be refreshed or get late rows in between, and the counts would be wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias, TypeVar

import asyncpg
import stamina

from query import sql
from query.interval import DAY, Interval
from query.plan import Knowledge, Plan, plan
from query.request import END_OF_TIME, Histogram, Range, microseconds, moment
from query.series import Point, filled
from schema.connections import Connection, Duty, Pool, PooledConnection, acquired, close_pool, open_pool
from schema.errors import Overloaded
from schema.settings import ApiSettings

T = TypeVar("T")
AnyConnection: TypeAlias = "Connection | PooledConnection"
# What another try in a new snapshot may cure: serialization failures (a replica's conflicts too), deadlocks.
AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_ATTEMPTS = 4
_WIDE_POINTS = 20_000
# The client gives up a statement a moment after the server should have.
_DEADLINE_SLACK_SECONDS = 1.0


def pool_options(settings: ApiSettings) -> dict[str, str]:
    """Server settings of a pool that questions run on."""
    return {
        "statement_timeout": str(int(settings.query_seconds * 1000)),
        # A snapshot is held while a slow client reads its answer, but not for ever.
        "idle_in_transaction_session_timeout": str(int(settings.request_seconds * 1000)),
        # Which chunks a plan may leave out depends on the range: a plan for any range reads them all.
        "plan_cache_mode": "force_custom_plan",
    }


async def open_reader(settings: ApiSettings) -> Reader:
    """A Reader of the replica, or of the primary where there is none. Connects when first used."""
    options = {
        **pool_options(settings),
        "default_transaction_isolation": "repeatable read",
        "default_transaction_read_only": "on",
    }
    pool = await open_pool(
        settings,
        Duty.API,
        dsn=settings.database_read_dsn,
        server_settings=options,
        command_seconds=settings.query_seconds + _DEADLINE_SLACK_SECONDS,
        clean_sessions=True,
    )
    return Reader(pool, acquire_seconds=settings.database_connect_seconds)


class Reader:
    """Questions to one database (the primary, or a replica). ``open_reader`` makes one."""

    def __init__(self, pool: Pool, *, acquire_seconds: float) -> None:
        self._pool = pool
        self._acquire_seconds = acquire_seconds
        # What the last look-up found: a guess for the next question, never trusted.
        self._known: Knowledge | None = None
        self._edition: str | None = None
        self._places = asyncio.Semaphore(pool.get_max_size())
        self._wide_places = asyncio.Semaphore(max(1, pool.get_max_size() // 2))

    def attempts(self) -> AsyncIterator[stamina.Attempt]:
        """What to repeat a whole question in: its statements belong to one snapshot."""
        return stamina.retry_context(
            on=AGAIN, attempts=_ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.2, wait_jitter=0.02
        )

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AnyConnection]:
        """A connection whose statements all see the same moment.

        Raises Unavailable when the database is away or a statement outlasts its deadline, Overloaded when
        all connections are busy with other questions for too long.
        """
        async with (
            self._place(),
            acquired(self._pool, self._acquire_seconds) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def look(self, statement: sql.Statement) -> list[asyncpg.Record]:
        """The rows of one small statement. Raises Unavailable, Overloaded."""
        async with self._place(), acquired(self._pool, self._acquire_seconds) as connection:
            return await fetch(connection, statement)

    async def compresses(self, connection: AnyConnection) -> bool:
        """Whether chunks may be compressed: what edition a database has is asked once."""
        if self._edition is None:
            self._edition = await connection.fetchval("SELECT edition FROM store_state")
        return self._edition == "community"

    async def close(self, grace_seconds: float) -> None:
        """Close the pool within a bound."""
        await close_pool(self._pool, grace_seconds)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A turn among the pool's connections: waiting for one is not a database that is away."""
        async with self._turn(self._places):
            yield

    @asynccontextmanager
    async def wide(self) -> AsyncIterator[None]:
        """A turn among the questions whose answers may be long: half of the connections stay for the others.

        Bounds the memory of answers, too. Raises Overloaded.
        """
        async with self._turn(self._wide_places):
            yield

    @asynccontextmanager
    async def _turn(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            if places.locked():
                await asyncio.wait_for(places.acquire(), self._acquire_seconds)
            else:
                # Returns at once, without the task that a bounded wait costs.
                await places.acquire()
        except TimeoutError:
            raise Overloaded("too many questions at once; ask again") from None
        try:
            yield
        finally:
            places.release()

    async def in_snapshot(self, work: Callable[[AnyConnection], Awaitable[T]]) -> T:
        """``work`` in a snapshot, tried again as a whole. Raises Unavailable, and what ``work`` raises."""
        async for attempt in self.attempts():
            with attempt:
                async with self.snapshot() as connection:
                    return await work(connection)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def histogram(self, asked: Histogram) -> tuple[list[Point], Plan]:
        """The points, and the plan that they came by (what it left out matters to the caller).

        Raises Unavailable, Overloaded.
        """
        seen = asked.range.seen_by(asked.scope)
        if seen.empty:
            return [], Plan(())
        is_wide = asked.interval.points(seen.start, seen.end) > _WIDE_POINTS
        async with self.wide() if is_wide else nullcontext():
            found = await self._guessed(asked, seen)
            if found is None:
                found = await self.in_snapshot(partial(self._looked_up, asked=asked, seen=seen))
            row, way = found
            return filled(zip(row["xs"] or (), row["ys"] or (), strict=True), asked.interval), way

    async def _guessed(self, asked: Histogram, seen: Range) -> tuple[asyncpg.Record, Plan] | None:
        """An answer in one round trip: planned by what was known a moment ago, which the answer confirms.

        None when the store has changed since. The one statement is its own REPEATABLE READ transaction (see
        ``open_reader``), so that it is planned, looks and counts in one snapshot.
        """
        if self._known is None:
            return None
        known = self._known.within(hours_around(seen))
        way = plan(seen, asked.interval, asked.filters.dimensions, known)
        try:
            async with self._place(), acquired(self._pool, self._acquire_seconds) as connection:
                row = await _counted(connection, asked, seen, way)
        except AGAIN:
            return None
        return (row, way) if _known_of(row) == known else None

    async def _looked_up(
        self, connection: AnyConnection, asked: Histogram, seen: Range
    ) -> tuple[asyncpg.Record, Plan]:
        """An answer in a snapshot that was looked at first."""
        self._known = await knowledge(connection, seen)
        way = plan(seen, asked.interval, asked.filters.dimensions, self._known)
        return await _counted(connection, asked, seen, way), way


async def _counted(connection: AnyConnection, asked: Histogram, seen: Range, way: Plan) -> asyncpg.Record:
    statement = sql.counts_by_period(asked.scope, way, asked.interval, asked.filters, hours_around(seen))
    (row,) = await fetch(connection, statement)
    return row


async def counts_in(connection: AnyConnection, asked: Histogram, known: Knowledge) -> list[Point]:
    """(start of a period in microseconds since 1970, count) of the periods that have any, oldest first.

    ``known``: of the snapshot of ``connection``'s transaction, and of ``asked.range`` at least.
    """
    way = plan(asked.range, asked.interval, asked.filters.dimensions, known.within(hours_around(asked.range)))
    row = await _counted(connection, asked, asked.range, way)
    return sorted((x * 1000, y) for x, y in zip(row["xs"] or (), row["ys"] or (), strict=True))


def _known_of(row: asyncpg.Record) -> Knowledge:
    return knowledge_of(zip(row["kinds"], row["rollups"], row["moments"], strict=True))


async def fetch(
    connection: AnyConnection, statement: sql.Statement, timeout_seconds: float | None = None
) -> list[asyncpg.Record]:
    """All rows; ``timeout_seconds`` replaces the pool's deadline."""
    return await connection.fetch(statement.text, *statement.arguments, timeout=timeout_seconds)


async def planned(
    connection: AnyConnection, seen: Range, interval: Interval | None, dimensions: Iterable[str]
) -> Plan:
    """A plan from what the store says in this snapshot."""
    if seen.empty:
        return Plan(())
    return plan(seen, interval, dimensions, await knowledge(connection, seen))


async def knowledge(connection: AnyConnection, seen: Range) -> Knowledge:
    """What the planner has to know about the hours that ``seen`` touches."""
    hours = hours_around(seen)
    return knowledge_of(await connection.fetch(sql.KNOWLEDGE, moment(hours.start), moment(hours.end)))


def hours_around(seen: Range) -> Range:
    """The days that a range touches: hours beside it may keep a day from being read."""
    return Range(seen.start // DAY * DAY, min(-(-seen.end // DAY) * DAY, END_OF_TIME))


def knowledge_of(rows: Iterable[Iterable[Any]]) -> Knowledge:
    """Knowledge from rows (kind, rollup, moment)."""
    stale: dict[str, list[int]] = {}
    complete: dict[str, int] = {}
    floor = 0
    for kind, rollup, found in rows:
        at = microseconds(found)
        if kind == "stale_hour":
            stale.setdefault(rollup, []).append(at)
        elif kind == "complete_until":
            complete[rollup] = at
        else:
            floor = at
    return Knowledge({rollup: sorted(hours) for rollup, hours in stale.items()}, complete, floor)
