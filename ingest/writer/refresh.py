"""Refreshing continuous aggregates so that a count is exact at every moment (community edition).

A real-time aggregate answers from what is materialized below its watermark, and from raw rows above. A
row that arrives late below the watermark is invisible until its hour is refreshed. The rules:

- an hour is closed when it ended before the writer's transaction began; who stores rows into a closed
  hour notes that hour in the ledger, in the same transaction; so does who stores rows into minutes that ended
  LATE_SECONDS before, closed or not;
- a refresh ends at the hour before now minus the margin, that of the minutes LATE_SECONDS and the margin
  before now, and the margin is longer than any writer's transaction; so whatever a refresh passes without
  seeing has its note in the ledger;
- the ledger's entries are read before the refresh and struck by id after it; entries made meanwhile stay;
- hours before days, since days are made of them; nothing else refreshes, and nothing below the raw floor;
- readers take hours that are in the ledger from the raw rows, and no day that holds one from the days.

A refresh must never begin above the watermark, or the hole between them would read as materialized. For the
same reason a range is materialized in one transaction: nobody sees, and no crash leaves, half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.writer import stream_names
from schema.connections import Connection
from schema.tables import (
    DAY_SECONDS,
    DEVICE_COUNTS_DAY,
    EVENT_COUNTS_DAY,
    EVENT_COUNTS_HOUR,
    EVENT_COUNTS_MINUTE,
    HOUR_SECONDS,
    LATE_SECONDS,
    Rung,
)

HOUR = timedelta(hours=1)
# Each hour of a range adds as much. With one bound for all, a backlog of many hours would be begun in vain,
# again and again.
HOUR_REFRESH_SECONDS = 600.0
LONGEST_REFRESH_SECONDS = 6 * 3600.0
# In this order: days are read from hours.
_ORDER = (EVENT_COUNTS_HOUR, EVENT_COUNTS_DAY, EVENT_COUNTS_MINUTE, DEVICE_COUNTS_DAY)

_SQL_CLOCK = """
SELECT date_trunc('hour', now() - $1::interval, 'UTC') AS until,
       -- Once an hour is closed its last minutes need not wait.
       greatest(
           date_trunc('hour', now() - $1::interval, 'UTC'),
           date_trunc('minute', now() - $1::interval - $2::interval, 'UTC')
       ) AS minutes_until,
       date_trunc('day', raw_floor + INTERVAL '1 day' - INTERVAL '1 microsecond', 'UTC') AS floor
FROM store_state
"""
# Null while nothing is materialized: the watermark then lies before all of time, where no client can follow.
_SQL_WATERMARK = """
SELECT nullif(greatest(watermark, TIMESTAMPTZ '1900-01-01 00:00:00+00'), TIMESTAMPTZ '1900-01-01 00:00:00+00')
FROM (
    SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id))
        AS watermark
    FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = 'public' AND user_view_name = $1
) AS materialized
"""
_SQL_REFRESH = "CALL refresh_continuous_aggregate($1::regclass, $2::timestamptz, $3::timestamptz)"
# By itself 2.28 refreshes ten periods a transaction, newest first, and the first one moves the watermark.
# From 2.21 on there are options, to which this one means nothing until then; before there are none.
_SQL_REFRESH_AT_ONCE = """
CALL refresh_continuous_aggregate(
    $1::regclass, $2::timestamptz, $3::timestamptz, options => '{"buckets_per_batch": 0}'
)
"""
_SQL_HAS_OPTIONS = """
SELECT EXISTS (
    SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'options' = ANY(proargnames)
)
"""
_SQL_LATE = "SELECT late_hour_id, hour FROM late_hours WHERE hour < $1 ORDER BY hour"
_SQL_STRIKE = "DELETE FROM late_hours WHERE late_hour_id = ANY($1::bigint[])"


@dataclass(frozen=True, slots=True)
class Clock:
    """What is complete, and will change by late rows alone: hours before ``hours_until``, minutes before
    ``minutes_until``. Nothing is refreshed before ``floor``.
    """

    hours_until: datetime
    minutes_until: datetime
    floor: datetime

    def until(self, rung: Rung) -> datetime:
        """Up to where a rung may be materialized."""
        return self.minutes_until if rung.period_seconds < HOUR_SECONDS else floored(self.hours_until, rung)


async def refresh_current(connection: Connection, margin_seconds: float) -> None:
    """Materialize every rung from its watermark up to what is surely complete."""
    await _materialize(connection, await _clock(connection, margin_seconds))


async def _materialize(connection: Connection, clock: Clock) -> None:
    for rung in _ORDER:
        end = clock.until(rung)
        watermark: datetime | None = await connection.fetchval(_SQL_WATERMARK, rung.table)
        start = clock.floor if watermark is None else max(clock.floor, floored(watermark, rung))
        if start < end:
            await _refresh(connection, rung, start, end)


async def refresh_late(connection: Connection, margin_seconds: float) -> None:
    """Refresh the hours that the ledger names, and strike exactly the entries read before."""
    clock = await _clock(connection, margin_seconds)
    # First, and by the same clock, so that no refresh below begins above a watermark.
    await _materialize(connection, clock)
    await stream_names.note_closed(connection, clock.until(EVENT_COUNTS_DAY))
    # Of an open hour, too: the row is in a minute before this, or in one that is not materialized.
    entries = await connection.fetch(_SQL_LATE, clock.minutes_until)
    if not entries:
        return
    hours = sorted({entry["hour"] for entry in entries if entry["hour"] >= clock.floor})
    for rung in _ORDER:
        for start, end in coalesced(hours, rung, clock.until(rung)):
            await _refresh(connection, rung, start, end)
    for day in sorted({floored(hour, EVENT_COUNTS_DAY) for hour in hours}):
        await stream_names.note_day(connection, day)
    await connection.execute(_SQL_STRIKE, [entry["late_hour_id"] for entry in entries])


def coalesced(hours: list[datetime], rung: Rung, end: datetime) -> list[tuple[datetime, datetime]]:
    """The rung's periods before ``end`` that hold ``hours``, neighbours joined.

    Of the minutes of an open hour those before ``end``, otherwise whole periods.
    """
    is_minutes = rung.period_seconds < HOUR_SECONDS
    width = HOUR if is_minutes else timedelta(seconds=rung.period_seconds)
    ranges: list[tuple[datetime, datetime]] = []
    for hour in hours:
        start = hour.astimezone(UTC) if is_minutes else floored(hour, rung)
        stop = min(start + width, end) if is_minutes else start + width
        if start >= stop or stop > end:
            continue
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], stop))
        else:
            ranges.append((start, stop))
    return ranges


def floored(moment: datetime, rung: Rung) -> datetime:
    """The start of the rung's period that holds a moment."""
    whole = moment.astimezone(UTC).replace(second=0, microsecond=0)
    if rung.period_seconds >= HOUR_SECONDS:
        whole = whole.replace(minute=0)
    return whole.replace(hour=0) if rung.period_seconds >= DAY_SECONDS else whole


async def _clock(connection: Connection, margin_seconds: float) -> Clock:
    late = timedelta(seconds=LATE_SECONDS)
    row = await connection.fetchrow(_SQL_CLOCK, timedelta(seconds=margin_seconds), late)
    assert row is not None
    return Clock(row["until"], row["minutes_until"], row["floor"])


async def _refresh(connection: Connection, rung: Rung, start: datetime, end: datetime) -> None:
    at_once = await connection.fetchval(_SQL_HAS_OPTIONS)
    statement = _SQL_REFRESH_AT_ONCE if at_once else _SQL_REFRESH
    await connection.execute(statement, rung.table, start, end, timeout=bound_seconds(start, end))


def bound_seconds(start: datetime, end: datetime) -> float:
    """How long the refresh of a range may take: by the hours that it covers."""
    return min(max(1.0, (end - start) / HOUR) * HOUR_REFRESH_SECONDS, LONGEST_REFRESH_SECONDS)
