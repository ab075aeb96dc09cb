"""Which names the events of each stream have, noted a closed day at a time.

The index by device has an event's name, but not its stream: by the names a question about one stream passes
over the events of others without fetching them. Guarantee: of a day before ``stream_names_until`` no name is
missing, but for hours in the late ledger; ``device_days`` and ``refresh`` note the day of such an hour again
before they strike it. A name that is too many costs time only, so nothing is ever taken away but with its
bucket's key.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from schema.connections import Connection
from schema.tables import STREAM_NAMES

DAY = timedelta(days=1)

_SQL_STANDING = """
SELECT stream_names_until AS noted_until,
       date_trunc('day', raw_floor + INTERVAL '1 day' - INTERVAL '1 microsecond', 'UTC') AS floor
FROM store_state
"""
_SQL_FIRST_DAY = """
SELECT date_trunc('day', min(range_start), 'UTC') FROM timescaledb_information.chunks
WHERE hypertable_schema = 'public' AND hypertable_name = 'events'
"""
# Both ends of the day are known when it is planned, so that no other chunks are. Whoever puts values into
# names gets no more rows than it takes to see that.
_SQL_NOTE_DAY = f"""
INSERT INTO stream_names (bucket_key, stream, name)
SELECT bucket_key, stream, name
FROM (
    SELECT bucket_key, stream, name, row_number() OVER (PARTITION BY bucket_key, stream) AS number
    FROM events
    WHERE observed_at >= $1 AND observed_at < $2 AND device <> ''
    GROUP BY bucket_key, stream, name
) AS day
WHERE number <= {STREAM_NAMES} + 1
    AND (
        SELECT count(*) FROM stream_names AS known
        WHERE known.bucket_key = day.bucket_key AND known.stream = day.stream
    ) <= {STREAM_NAMES}
ON CONFLICT DO NOTHING
"""  # noqa: S608 - a number of ours
_SQL_NOTED = "UPDATE store_state SET stream_names_until = $1 WHERE stream_names_until < $1"


async def note_closed(connection: Connection, until: datetime) -> None:
    """Note the days before ``until``, the start of one.

    They ended longer ago than the margin: no transaction of a writer is open that saw them open. What the
    ledger has from ``until`` on may be struck: those days will be noted from all rows committed by then.
    """
    row = await connection.fetchrow(_SQL_STANDING)
    assert row is not None
    if row["noted_until"] >= until:
        return
    first = await connection.fetchval(_SQL_FIRST_DAY)
    if first is not None:
        day = max(first, row["noted_until"], row["floor"])
        while day < until:
            async with connection.transaction():
                await note_day(connection, day)
                await connection.execute(_SQL_NOTED, day + DAY)
            day += DAY
    await connection.execute(_SQL_NOTED, until)


async def note_day(connection: Connection, day: datetime) -> None:
    """Note the names of the day that begins at ``day``."""
    await connection.execute(_SQL_NOTE_DAY, day, day + DAY)
