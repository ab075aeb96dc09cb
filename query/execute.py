"""Runs statements: one read-only snapshot a question, a deadline, and another try where that helps.

Ledger, coverage, floor and counts are read in the same REPEATABLE READ snapshot: read apart, an hour
could be refreshed or get late rows in between, and the counts would be wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import asyncpg
import stamina

from query import sql
from query.interval import DAY, Interval
from query.plan import Knowledge, Plan, plan
from query.request import END_OF_TIME, Histogram, Range, microseconds, moment
from query.series import Point, filled
from schema.connections import Connection, Pool, PooledConnection, acquired
from schema.settings import ApiSettings

T = TypeVar("T")
AnyConnection: TypeAlias = "Connection | PooledConnection"
# What another try in a new snapshot may cure: serialization failures (a replica's conflicts too), deadlocks.
AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_ATTEMPTS = 4


def pool_options(settings: ApiSettings) -> dict[str, str]:
    """Server settings of a pool that questions run on."""
    return {
        "statement_timeout": str(int(settings.query_seconds * 1000)),
        # A snapshot is held while a slow client reads its answer, but not for ever.
        "idle_in_transaction_session_timeout": str(int(settings.request_seconds * 1000)),
        # Which chunks a plan may leave out depends on the range: a plan for any range reads them all.
        "plan_cache_mode": "force_custom_plan",
    }


class Reader:
    """Questions to one database (the primary, or a replica)."""

    def __init__(self, pool: Pool, *, acquire_seconds: float) -> None:
        self.pool = pool
        self.acquire_seconds = acquire_seconds

    def attempts(self) -> AsyncIterator[stamina.Attempt]:
        """What to repeat a whole question in: its statements belong to one snapshot."""
        return stamina.retry_context(
            on=AGAIN, attempts=_ATTEMPTS, timeout=None, wait_initial=0.01, wait_max=0.2, wait_jitter=0.02
        )

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AnyConnection]:
        """A connection whose statements all see the same moment.

        Raises Unavailable when the database is away or a statement outlasts its deadline.
        """
        async with (
            acquired(self.pool, self.acquire_seconds) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def in_snapshot(self, work: Callable[[AnyConnection], Awaitable[T]]) -> T:
        """``work`` in a snapshot, tried again as a whole. Raises Unavailable, and what ``work`` raises."""
        async for attempt in self.attempts():
            with attempt:
                async with self.snapshot() as connection:
                    return await work(connection)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def histogram(self, asked: Histogram) -> tuple[list[Point], Plan]:
        """The points, and the plan that they came by (what it left out matters to the caller)."""

        async def work(connection: AnyConnection) -> tuple[list[asyncpg.Record], Plan]:
            seen = asked.range.seen_by(asked.scope)
            way = await planned(connection, seen, asked.interval, asked.filters.dimensions)
            if not way.slices:
                return [], way
            statement = sql.counts_by_period(asked.scope, way, asked.interval, asked.filters)
            return await fetch(connection, statement), way

        rows, way = await self.in_snapshot(work)
        return filled(((row["x"], row["y"]) for row in rows), asked.interval), way


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
    """What the planner has to know about the days that ``seen`` touches."""
    until = min(-(-seen.end // DAY) * DAY, END_OF_TIME)
    rows = await connection.fetch(sql.KNOWLEDGE, moment(seen.start // DAY * DAY), moment(until))
    stale: dict[str, list[int]] = {}
    complete: dict[str, int] = {}
    floor = 0
    for row in rows:
        at = microseconds(row["moment"])
        if row["kind"] == "stale_hour":
            stale.setdefault(row["rollup"], []).append(at)
        elif row["kind"] == "complete_until":
            complete[row["rollup"]] = at
        else:
            floor = at
    return Knowledge(stale, complete, floor)
