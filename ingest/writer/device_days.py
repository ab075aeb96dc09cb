"""The device rollup of the Apache edition: built a closed day at a time, from the raw rows.

In the writer's transaction it would cost half of the throughput, since device deltas are nearly one a
row. A day is built once it ended longer ago than the margin, which no writer's transaction outlasts;
rows that come later have their hour in the ledger, and their day is built again. Building, moving the
coverage and striking the ledger is one transaction, so readers see all of it or nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ingest.writer import stream_names
from schema.connections import Connection

_SQL_CLOCK = """
SELECT date_trunc('day', now() - $1::interval, 'UTC') AS until,
       device_days_until AS built_until,
       date_trunc('day', raw_floor + INTERVAL '1 day' - INTERVAL '1 microsecond', 'UTC') AS floor
FROM store_state
"""
_SQL_FIRST_DAY = """
SELECT date_trunc('day', min(range_start), 'UTC') FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = 'events'
"""
_SQL_DELETE_DAY = "DELETE FROM device_counts_day WHERE period = $1"
# Both ends are known when it is planned, so that no other chunks are.
_SQL_BUILD_DAY = """
INSERT INTO device_counts_day (bucket_key, period, device, name, event_count)
SELECT bucket_key, $1, device, name, count(*) FROM events
WHERE observed_at >= $1 AND observed_at < $2 AND device <> ''
GROUP BY bucket_key, device, name
"""
_SQL_COVERED = "UPDATE store_state SET device_days_until = $1 WHERE device_days_until < $1"
# A day that is not built yet will be built from all rows that are committed by then.
_SQL_STRIKE_UNBUILT = "DELETE FROM late_hours WHERE hour >= $1"
_SQL_LATE = "SELECT late_hour_id, date_trunc('day', hour, 'UTC') AS day FROM late_hours WHERE hour < $1"
_SQL_STRIKE = "DELETE FROM late_hours WHERE late_hour_id = ANY($1::bigint[])"

DAY = timedelta(days=1)


async def build(connection: Connection, margin_seconds: float) -> None:
    """Build the days that have closed, then those that the ledger names."""
    row = await connection.fetchrow(_SQL_CLOCK, timedelta(seconds=margin_seconds))
    assert row is not None
    until: datetime = row["until"]
    first = await connection.fetchval(_SQL_FIRST_DAY)
    if first is not None:
        day = max(first, row["built_until"], row["floor"])
        while day < until:
            await _build_day(connection, day, [])
            day += DAY
    await connection.execute(_SQL_COVERED, until)
    await stream_names.note_closed(connection, until)
    await connection.execute(_SQL_STRIKE_UNBUILT, until)
    late: dict[datetime, list[int]] = {}
    for entry in await connection.fetch(_SQL_LATE, until):
        late.setdefault(entry["day"], []).append(entry["late_hour_id"])
    for day, entries in sorted(late.items()):
        if day >= row["floor"]:
            await _build_day(connection, day, entries)
        else:
            await connection.execute(_SQL_STRIKE, entries)


async def _build_day(connection: Connection, day: datetime, entries: list[int]) -> None:
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute(_SQL_DELETE_DAY, day)
        await connection.execute(_SQL_BUILD_DAY, day, day + DAY)
        if entries:
            await stream_names.note_day(connection, day)
        await connection.execute(_SQL_STRIKE, entries)
        await connection.execute(_SQL_COVERED, day + DAY)
