"""Dropping raw rows that are older than the setting, and compressing those that are merely old.

Rollups outlive rows: what is dropped from the raw rows stays counted, frozen. For that, everything
below the cutoff is refreshed and the ledger struck before the *raw floor* moves; and the floor moves
while no writer's transaction is open, so that none stores a row below it that nobody would count.
Chunks go last: from the floor on nothing reads or refreshes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from ingest.writer import device_days, refresh
from ingest.writer.portions import MOST_CHUNKS
from schema.connections import Connection
from schema.tables import LOCK_RAW_FLOOR

log = structlog.get_logger(__name__)

_SQL_CUTOFF = """
SELECT date_trunc('day', now() - $1::interval, 'UTC') AS cutoff, raw_floor FROM store_state
"""
_SQL_LATE_BELOW = "SELECT count(*) FROM late_hours WHERE hour < $1"
_SQL_ADVANCE = "UPDATE store_state SET raw_floor = $1 WHERE raw_floor < $1"
_SQL_EXPIRED = """
SELECT range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = $1 AND range_end <= $2 ORDER BY range_end
"""
_SQL_DROP = "SELECT drop_chunks($1::regclass, older_than => $2::timestamptz)"
_SQL_OLD_CHUNKS = """
SELECT format('%I.%I', chunk_schema, chunk_name) AS chunk FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = ANY($1::text[])
  AND range_end < now() - $2::interval AND NOT is_compressed
ORDER BY range_start
"""


async def drop(connection: Connection, edition: str, days: int, margin_seconds: float) -> None:
    """Move the raw floor to ``days`` ago and drop the chunks below it."""
    row = await connection.fetchrow(_SQL_CUTOFF, timedelta(days=days))
    assert row is not None
    cutoff: datetime = row["cutoff"]
    if cutoff > row["raw_floor"]:
        await _complete_rollups(connection, edition, margin_seconds)
        # Waits for open writers and holds back new ones: kept short by the work done just before.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_RAW_FLOOR)
        try:
            if await connection.fetchval(_SQL_LATE_BELOW, cutoff):
                await _complete_rollups(connection, edition, margin_seconds)
            await connection.execute(_SQL_ADVANCE, cutoff)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_RAW_FLOOR)
        log.info("raw floor moved", raw_floor=cutoff.isoformat())
    for table in ("events", "node_reports"):
        ends = [row["range_end"] for row in await connection.fetch(_SQL_EXPIRED, table, cutoff)]
        dropped = 0
        # A transaction has locks for so many, and no more: history of decades has thousands.
        for end in ends[MOST_CHUNKS - 1 :: MOST_CHUNKS] + ends[-1:]:
            dropped += len(await connection.fetch(_SQL_DROP, table, end))
        if dropped:
            log.info("chunks dropped", table=table, chunks=dropped, older_than=cutoff.isoformat())


async def _complete_rollups(connection: Connection, edition: str, margin_seconds: float) -> None:
    if edition == "community":
        await refresh.refresh_late(connection, margin_seconds)
    else:
        await device_days.build(connection, margin_seconds)


async def compress(connection: Connection, after_days: int) -> None:
    """Compress chunks of raw rows that ended ``after_days`` ago (community edition)."""
    tables = ["events", "node_reports"]
    for row in await connection.fetch(_SQL_OLD_CHUNKS, tables, timedelta(days=after_days)):
        await connection.execute(
            "SELECT compress_chunk($1::regclass, if_not_compressed => true)", row["chunk"]
        )
        log.info("chunk compressed", chunk=row["chunk"])
