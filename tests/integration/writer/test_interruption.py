"""Maintenance that is ended while it makes counts: nothing is counted wrongly, then or later.

In the community edition a refresh is several transactions inside TimescaleDB, and what lies between them has
differed from release to release.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from schema.connections import Duty, database_errors
from schema.errors import Unavailable
from tests.support import oracle
from tests.support.clock import Clock
from tests.support.stored import Occurrence, Stored, stored_in

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SECOND = timedelta(seconds=1)
HOUR_US = 3_600_000_000
# The last second of the day.
AT = int(MIDNIGHT.timestamp()) * 1_000_000 - 1_000_000
WAIT_SECONDS = 20.0

_SQL_WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %s AND wait_event_type = 'Lock'
"""
_SQL_MATERIALIZED = """
SELECT format('%I.%I', c.chunk_schema, c.chunk_name)
FROM timescaledb_information.chunks AS c
JOIN timescaledb_information.continuous_aggregates AS a
  ON (c.hypertable_schema, c.hypertable_name)
   = (a.materialization_hypertable_schema, a.materialization_hypertable_name)
WHERE a.view_name = 'event_counts_hour'
"""


def boots(*numbers: int, hours_ago: int = 0) -> list[Occurrence]:
    """Events of yesterday's last hour, or of so many hours before."""
    return [
        Occurrence(AT - hours_ago * HOUR_US - number, f"{hours_ago}-{number}", device="d")
        for number in numbers
    ]


@contextmanager
def held(dsn: str, *statements: str) -> Iterator[psycopg.Connection]:
    """A transaction with these locks, for as long as the block lasts."""
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


async def interrupted(stored: Stored, holder: psycopg.Connection) -> None:
    """Maintenance, until it waits for what ``holder`` holds; then its connection is ended."""
    working = asyncio.create_task(maintained(stored))
    deadline = time.monotonic() + WAIT_SECONDS
    while not (waiting := holder.execute(_SQL_WAITING, [Duty.MAINTENANCE]).fetchone()):
        assert time.monotonic() < deadline
        assert not working.done(), "maintenance met no lock"
        await asyncio.sleep(0.05)
    holder.execute("SELECT pg_terminate_backend(%s, 5000)", waiting)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(working, WAIT_SECONDS)


async def maintained(stored: Stored) -> None:
    with database_errors():
        await stored.maintain()


async def test_what_is_interrupted_while_it_is_built_is_built_later(
    database_dsn: str, bucket_id: str
) -> None:
    """The next turn has more to do, and leaves no hole before it."""
    clock = Clock(database_dsn)
    clock.show(MIDNIGHT + SECOND)
    async with stored_in(database_dsn) as stored:
        for hours in (0, 1, 30):
            await stored.write(bucket_id, boots(1, 2, 3, hours_ago=hours))
        # Both are changed last, in the transaction that builds.
        last = (
            "LOCK TABLE _timescaledb_catalog.continuous_aggs_watermark IN SHARE MODE"
            if stored.edition == "community"
            else "SELECT FROM store_state FOR UPDATE"
        )
        with held(database_dsn, last) as holder:
            await interrupted(stored, holder)
    oracle.check_rollups(database_dsn)
    async with stored_in(database_dsn) as stored:
        clock.show(MIDNIGHT + timedelta(hours=25, seconds=1))
        await stored.write(bucket_id, boots(4, hours_ago=-1) + boots(5, hours_ago=-24))
        await stored.maintain()
        oracle.check_rollups(database_dsn)
        assert await stored.maintenance.fetch("SELECT FROM late_hours") == []
        until = await stored.maintenance.fetchval("SELECT min(complete_until) FROM rollup_coverage")
        assert until >= MIDNIGHT + timedelta(days=1)


async def test_late_hours_that_are_interrupted_are_counted_later(database_dsn: str, bucket_id: str) -> None:
    clock = Clock(database_dsn)
    clock.show(MIDNIGHT + SECOND)
    async with stored_in(database_dsn) as stored:
        for hours in (0, 3):
            await stored.write(bucket_id, boots(1, 2, hours_ago=hours))
        await stored.maintain()
        await stored.write(bucket_id, boots(3, 4, hours_ago=3))
        if stored.edition == "community":
            found = await stored.maintenance.fetch(_SQL_MATERIALIZED)
            locks = [f"LOCK TABLE ONLY {row[0]} IN SHARE MODE" for row in found]
        else:
            locks = ["SELECT FROM late_hours FOR UPDATE"]
        assert locks
        with held(database_dsn, *locks) as holder:
            await interrupted(stored, holder)
    oracle.check_rollups(database_dsn)
    async with stored_in(database_dsn) as stored:
        assert len(await stored.maintenance.fetch("SELECT FROM late_hours")) > 0
        await stored.maintain()
        assert await stored.maintenance.fetch("SELECT FROM late_hours") == []
        oracle.check_rollups(database_dsn)
