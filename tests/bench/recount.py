"""The oracle of a run: what was accepted is stored, once, and every rollup says so. A run that fails it is
void."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from tests.support.oracle import check_rollups

POLL_SECONDS = 0.004
_STORED = "SELECT coalesce(sum(next_offset), 0)::bigint FROM partition_offsets WHERE topic = $1"
_SUMS = """
SELECT (SELECT count(*) FROM events) AS events,
       (SELECT coalesce(sum(event_count), 0)::bigint FROM event_counts_minute) AS minutes,
       (SELECT coalesce(sum(event_count), 0)::bigint FROM event_counts_hour) AS hours,
       (SELECT coalesce(sum(event_count), 0)::bigint FROM event_counts_day) AS days,
       (SELECT count(*) FROM dead_letters) AS dead_letters
"""


class Void(Exception):
    """Counts are wrong: whatever was measured is worth nothing."""


async def wait_visible(
    connection: asyncpg.Connection[asyncpg.Record], topic: str, records: int, timeout_seconds: float
) -> float:
    """Until a query sees the offsets of ``records`` records moved, which commits with their rows.

    Returns the moment (monotonic). Raises Void when the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        stored = await connection.fetchval(_STORED, topic)
        now = time.monotonic()
        if stored >= records:
            return now
        if now > deadline:
            raise Void(f"{records - stored} of {records} records are not stored after {timeout_seconds:g} s")
        await asyncio.sleep(POLL_SECONDS)


async def check_sums(connection: asyncpg.Connection[asyncpg.Record], expected: int) -> None:
    """count(*) and the sum of each rollup equal ``expected``. Raises Void."""
    row = await connection.fetchrow(_SUMS)
    assert row is not None
    found = dict(row)
    wanted = {"events": expected, "minutes": expected, "hours": expected, "days": expected, "dead_letters": 0}
    if found != wanted:
        raise Void(f"expected {wanted}, found {found}")


async def check_every_count(dsn: str) -> None:
    """Every row of every rollup against a recount. Raises Void."""
    try:
        await asyncio.to_thread(check_rollups, dsn)
    except AssertionError as error:
        raise Void(str(error)) from error
