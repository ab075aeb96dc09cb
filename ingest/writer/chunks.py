"""Make chunks before they are needed: making one blocks every writer of its table until commit.

TimescaleDB makes a chunk when the first row falls into it, so each table gets one row in its next
interval, which leaves again in the same short transaction; the chunk stays.
"""

from __future__ import annotations

from schema.connections import Connection

# Only tables that are hypertables in this edition, and only where the next interval has no chunk yet.
_SQL_MISSING = """
SELECT d.hypertable_name, now() + d.time_interval AS moment
FROM timescaledb_information.dimensions AS d
WHERE d.hypertable_schema = 'public' AND d.dimension_number = 1
  AND d.hypertable_name = ANY($1::text[])
  AND NOT EXISTS (
      SELECT FROM timescaledb_information.chunks AS c
      WHERE c.hypertable_schema = d.hypertable_schema AND c.hypertable_name = d.hypertable_name
        AND c.range_start <= now() + d.time_interval AND c.range_end > now() + d.time_interval)
"""

_TEMPORARY_ROWS = {
    "events": (
        "INSERT INTO events VALUES (0, '', '', '', '', $1, '', $1, '', '{}')",
        "DELETE FROM events WHERE bucket_key = 0 AND observed_at = $1",
    ),
    "node_reports": (
        "INSERT INTO node_reports VALUES ('', $1, '', '', $1, '', 'ONLINE', NULL, 1)",
        "DELETE FROM node_reports WHERE bucket_id = '' AND observed_at = $1",
    ),
    "event_counts_minute": (
        "INSERT INTO event_counts_minute VALUES (0, $1, '', 0, 0)",
        "DELETE FROM event_counts_minute WHERE bucket_key = 0 AND period = $1",
    ),
    "event_counts_hour": (
        "INSERT INTO event_counts_hour VALUES (0, $1, '', '', '', 0, 0)",
        "DELETE FROM event_counts_hour WHERE bucket_key = 0 AND period = $1",
    ),
    "event_counts_day": (
        "INSERT INTO event_counts_day VALUES (0, $1, '', '', '', 0, 0)",
        "DELETE FROM event_counts_day WHERE bucket_key = 0 AND period = $1",
    ),
}


async def make_ahead(connection: Connection) -> None:
    """Make the chunk one interval ahead of now for every table that grows with time."""
    for row in await connection.fetch(_SQL_MISSING, list(_TEMPORARY_ROWS)):
        insert, delete = _TEMPORARY_ROWS[row["hypertable_name"]]
        async with connection.transaction():
            await connection.execute(insert, row["moment"])
            await connection.execute(delete, row["moment"])
