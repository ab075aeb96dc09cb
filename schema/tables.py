"""Tables as data: COPY column order and the rollup ladder. The SQL of their making is in migrations/sql.

Writer and planner both read the ladder from here, so a rung exists once: its name, the width of its
periods, and the dimensions that it keeps. Every rung has ``bucket_key``, ``period`` (the start of the
period, UTC) and ``event_count``; readers sum ``event_count``, since a period may be in several rows.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400

# The order of the record codec's fields (schema.records) and of COPY. Changing it is a new record version.
EVENT_COLUMNS = (
    "bucket_key",
    "name",
    "stream",
    "app",
    "server",
    "observed_at",
    "id",
    "received_at",
    "device",
    "data",
)
# Node reports carry the bucket's id, not its key: emptying a bucket of its events must not empty its nodes.
NODE_REPORT_COLUMNS = (
    "bucket_id",
    "observed_at",
    "host",
    "ip",
    "received_at",
    "version",
    "status",
    "latency_ms",
    "interval_seconds",
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One table of the ladder: counts of events by period and dimensions."""

    table: str
    period_seconds: int
    dimensions: tuple[str, ...]

    @property
    def built(self) -> str:
        """The view that questions read: what is built of the table, and no row that is counted anew.

        ``rollup_coverage`` says up to where it is complete.
        """
        return f"{self.table}_built"


EVENT_COUNTS_MINUTE = Rung("event_counts_minute", MINUTE_SECONDS, ("name",))
EVENT_COUNTS_HOUR = Rung("event_counts_hour", HOUR_SECONDS, ("name", "app", "server"))
EVENT_COUNTS_DAY = Rung("event_counts_day", DAY_SECONDS, ("name", "app", "server"))
DEVICE_COUNTS_DAY = Rung("device_counts_day", DAY_SECONDS, ("device", "name"))

# Finest first. ``device_counts_day`` leaves out events without a device.
LADDER = (EVENT_COUNTS_MINUTE, EVENT_COUNTS_HOUR, EVENT_COUNTS_DAY, DEVICE_COUNTS_DAY)

# Rollup rows are spread over so many shards (a lane's lowest partition modulo it), so that two writers seldom
# want the same one.
ROLLUP_SHARDS = 4
# What maintenance merges the shards of closed periods into: writers add to shards from 0.
MERGED_SHARD = -1

# Minutes of the open hour are materialized once they ended so long ago, and a margin more; a row that comes
# so late is noted in the ledger although its hour is open (community edition).
LATE_SECONDS = 300

# With more names than this a stream is not told by them (the table stream_names).
STREAM_NAMES = 200

# Advisory locks (one 64-bit space for the database): who holds which.
LOCK_MIGRATION = 0x57454952_0001
LOCK_MAINTENANCE = 0x57454952_0002
LOCK_RAW_FLOOR = 0x57454952_0003
# The first of two keys, which are a space of their own; the second is a bucket's hash.
LOCK_PLAN = 0x57454952
