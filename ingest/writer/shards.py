"""One row a key for what has closed: merges the shards of the Apache edition's minutes, hours and days.

Writers spread a period over several rows so that they seldom want the same one; readers pay for each
row. Once a period has closed, its shards become one row with a shard that no writer adds to
(``MERGED``); a late event then makes a row beside it, and the key is merged again. Maintenance calls this.

Counts stay exact without a lock that writers must know of:

- rows go and the merged row comes in one transaction, so every snapshot sees the same sum;
- it is REPEATABLE READ: a row that a writer changed meanwhile fails the portion, and nothing of it happens;
- a writer that meets a row on its way out waits for it, and then inserts anew (``ON CONFLICT`` tries again);
- a row that is not committed yet is not seen, stays, and is merged at the next turn.

A portion that cannot have its rows at once is left for the next turn; before PostgreSQL would look for a
deadlock it has given up, so no writer is ever made to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import structlog

from schema.connections import Connection
from schema.tables import (
    DAY_SECONDS,
    EVENT_COUNTS_DAY,
    EVENT_COUNTS_HOUR,
    EVENT_COUNTS_MINUTE,
    MERGED_SHARD,
    Rung,
)

log = structlog.get_logger(__name__)

RUNGS = (EVENT_COUNTS_MINUTE, EVENT_COUNTS_HOUR, EVENT_COUNTS_DAY)

# Each makes a few rows of the hour rung, more where a name has many apps and servers.
_GROUPS_OF_A_PORTION = 500

_SQL_CLOSED_UNTIL = "SELECT date_trunc($1, now() - $2::interval, 'UTC')"
_SQL_CHUNKS = """
SELECT range_start, least(range_end, $2) AS range_end FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = $1 AND range_start < $2
ORDER BY range_start
"""
# Answered by the index of what is not merged, which is nearly empty when there is nothing to do.
_SQL_GROUPS = """
SELECT DISTINCT bucket_key, name, period FROM {table}
WHERE shard >= 0 AND period >= $1 AND period < $2 AND (bucket_key, name, period) > ($3, $4, $5)
ORDER BY bucket_key, name, period LIMIT {limit}
"""
# Joins other than by index would read the whole chunk for each portion.
_SQL_BEGIN = """
SET LOCAL lock_timeout = '100ms';
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off
"""
# Sorted, so that the periods of a name lie beside each other.
_SQL_MERGE = """
WITH unmerged AS (
    SELECT DISTINCT {kept_key}
    FROM unnest($1::integer[], $2::text[], $3::timestamptz[]) AS wanted (bucket_key, name, period)
    JOIN {table} AS kept
      ON (kept.bucket_key, kept.name, kept.period) = (wanted.bucket_key, wanted.name, wanted.period)
    WHERE kept.shard >= 0 AND kept.period >= $4 AND kept.period < $5
), gone AS (
    DELETE FROM {table} AS kept USING unmerged
    WHERE ({kept_key}) = ({unmerged_key}) AND kept.period >= $4 AND kept.period < $5
    RETURNING {kept_key}, kept.event_count
)
INSERT INTO {table} ({key}, shard, event_count)
SELECT {key}, {merged}, sum(event_count)::bigint FROM gone GROUP BY {key} ORDER BY {key}
"""


@dataclass(slots=True)
class Merging:
    """What a turn did: keys that have one row now, and portions that writers were at."""

    keys: int = 0
    portions_left: int = 0


async def merge(connection: Connection, margin_seconds: float) -> Merging:
    """Merge the days that ended longer ago than the margin, and the minutes and hours of hours that did."""
    done = Merging()
    for rung in RUNGS:
        closes_with = "day" if rung.period_seconds >= DAY_SECONDS else "hour"
        until = await connection.fetchval(_SQL_CLOSED_UNTIL, closes_with, timedelta(seconds=margin_seconds))
        for chunk in await connection.fetch(_SQL_CHUNKS, rung.table, until):
            await _merge_range(connection, rung, chunk["range_start"], chunk["range_end"], done)
    if done.keys or done.portions_left:
        log.debug("shards merged", keys=done.keys, portions_left=done.portions_left)
    return done


async def _merge_range(
    connection: Connection, rung: Rung, start: datetime, end: datetime, done: Merging
) -> None:
    groups_sql = _SQL_GROUPS.format(table=rung.table, limit=_GROUPS_OF_A_PORTION)
    merge_sql = _merge_statement(rung)
    after = (-1, "", start)
    while groups := await connection.fetch(groups_sql, start, end, *after):
        columns = zip(*groups, strict=True)
        try:
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute(_SQL_BEGIN)
                status = await connection.execute(merge_sql, *map(list, columns), start, end)
            done.keys += int(status.rsplit(" ", 1)[1])
        except (
            asyncpg.SerializationError,
            asyncpg.DeadlockDetectedError,
            asyncpg.LockNotAvailableError,
        ):
            done.portions_left += 1
        after = tuple(groups[-1])


def _merge_statement(rung: Rung) -> str:
    columns = ("bucket_key", "name", "period", *(d for d in rung.dimensions if d != "name"))
    return _SQL_MERGE.format(
        table=rung.table,
        key=", ".join(columns),
        kept_key=", ".join(f"kept.{column}" for column in columns),
        unmerged_key=", ".join(f"unmerged.{column}" for column in columns),
        merged=MERGED_SHARD,
    )
