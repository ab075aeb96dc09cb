"""Removing what emptied buckets left behind: rows and rollups of keys that are retired.

What a bucket that was deleted as a whole had in node reports, which lie under its id, goes with its last key.

Nobody reads a retired key, so this is only about disk; it waits until no writer's transaction can still
be storing under the key, and goes chunk by chunk, in short transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from schema.connections import Connection
from schema.tables import LADDER

log = structlog.get_logger(__name__)

_SQL_RETIRED = """
SELECT bucket_keys.bucket_key, bucket_id, coalesce(deleted_at IS NOT NULL, true) AS deleted
FROM bucket_keys LEFT JOIN buckets USING (bucket_id)
WHERE retired_at < now() - $1::interval AND purged_at IS NULL ORDER BY retired_at LIMIT 20
"""
_SQL_CHUNKS = """
SELECT range_start, range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = $1 ORDER BY range_start
"""
_SQL_DELETE_REPORTS = """
DELETE FROM node_reports WHERE bucket_id = $1 AND observed_at >= $2 AND observed_at < $3
"""
_SQL_DELETE = "DELETE FROM events WHERE bucket_key = $1 AND observed_at >= $2 AND observed_at < $3"
_SQL_DELETE_COUNTS = "DELETE FROM {table} WHERE bucket_key = $1"
_SQL_DELETE_NAMES = "DELETE FROM stream_names WHERE bucket_key = $1"
_SQL_PURGED = "UPDATE bucket_keys SET purged_at = now() WHERE bucket_key = $1"
# Where the rows of a continuous aggregate lie. Refreshing it would remove them too, but by counting all other
# buckets anew, and not at all below the raw floor.
_SQL_ROLLUPS = """
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS rollup
FROM timescaledb_information.continuous_aggregates
WHERE view_schema = 'public' AND view_name = ANY($1::text[])
"""


async def purge(
    connection: Connection, edition: str, margin_seconds: float, purged: Callable[[float], None]
) -> None:
    """Delete the rows and the counts of every retired key."""
    rungs = [rung.table for rung in LADDER]
    if edition == "community":
        rungs = [row["rollup"] for row in await connection.fetch(_SQL_ROLLUPS, rungs)]
    for retired in await connection.fetch(_SQL_RETIRED, timedelta(seconds=margin_seconds)):
        key = retired["bucket_key"]
        rows = 0
        for chunk in await connection.fetch(_SQL_CHUNKS, "events"):
            status = await connection.execute(_SQL_DELETE, key, chunk["range_start"], chunk["range_end"])
            rows += int(status.rsplit(" ", 1)[1])
        for rung in rungs:
            await connection.execute(_SQL_DELETE_COUNTS.format(table=rung), key)
        await connection.execute(_SQL_DELETE_NAMES, key)
        if retired["deleted"]:
            for chunk in await connection.fetch(_SQL_CHUNKS, "node_reports"):
                bounds = chunk["range_start"], chunk["range_end"]
                await connection.execute(_SQL_DELETE_REPORTS, retired["bucket_id"], *bounds)
        await connection.execute(_SQL_PURGED, key)
        purged(rows)
        log.info("emptied bucket purged", bucket_key=key, rows=rows)
