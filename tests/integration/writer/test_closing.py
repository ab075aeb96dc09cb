"""Days that close while a writer's transaction is open: what the margin is for, and that it suffices.

The database's clock is the test's; statements, transactions and refreshes are Weir's own. A transaction that
began before midnight stores rows of yesterday, notes nothing (nothing was late when it began), and commits
after midnight. Both editions make something of yesterday's rows once it is over: the community's aggregates,
the Apache edition's days by device.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ingest.writer.store import Outcome
from schema.tables import LADDER
from tests.support import oracle
from tests.support.clock import Clock
from tests.support.stored import Occurrence, Stored, stored_in

MARGIN = timedelta(seconds=60)
TICK = timedelta(microseconds=1)
WAIT_SECONDS = 20
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LAST_HOUR = MIDNIGHT - timedelta(hours=1)
HOUR = 3600 * 1_000_000
# In the last seconds of the day: nothing was late when a transaction began before its end.
AT = int(MIDNIGHT.timestamp()) * 1_000_000 - 5_000_000
# Too far ahead to be stored: a dead letter, at which the transaction can be held.
AHEAD = Occurrence(AT + 90 * HOUR, "ahead")

_SQL_MATERIALIZED = """
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
FROM timescaledb_information.continuous_aggregates WHERE view_name = $1
"""


class Hold:
    """Where a writer's transaction stops, its rows written, until it is let go."""

    def __init__(self) -> None:
        self.written = asyncio.Event()
        self.free = asyncio.Event()

    async def __call__(self) -> None:
        self.written.set()
        await asyncio.wait_for(self.free.wait(), WAIT_SECONDS)


def late_rows(*numbers: int) -> list[Occurrence]:
    """Rows of yesterday's last hour."""
    return [Occurrence(AT + number, f"{number}", device="d1") for number in numbers]


async def complete_until(stored: Stored) -> datetime:
    """Up to where what is made of rows has been made."""
    asked = (
        "SELECT greatest('1900-01-01 00:00:00+00',"
        " _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(mat_hypertable_id)))"
        " FROM _timescaledb_catalog.continuous_agg WHERE user_view_name = 'event_counts_hour'"
        if stored.edition == "community"
        else "SELECT device_days_until FROM store_state"
    )
    found: datetime = await stored.maintenance.fetchval(asked)
    return found


async def over_midnight(
    stored: Stored, hold: Hold, clock: Clock, bucket_id: str, *, maintained_at: datetime, margin: timedelta
) -> Outcome:
    """A transaction from a moment before midnight until after the maintenance of ``maintained_at``."""
    clock.show(MIDNIGHT - TICK)
    await stored.write(bucket_id, late_rows(1))
    writing = asyncio.create_task(stored.write(bucket_id, [*late_rows(2, 3, 4), AHEAD]))
    await asyncio.wait_for(hold.written.wait(), WAIT_SECONDS)
    clock.show(maintained_at)
    await stored.maintain(margin_seconds=margin.total_seconds())
    hold.free.set()
    outcome = await writing
    assert outcome.stored == 3
    noted = await stored.maintenance.fetchval("SELECT count(*) FROM late_hours WHERE hour = $1", LAST_HOUR)
    assert noted == 0, "the ledger would have helped, too"
    return outcome


async def test_a_day_that_closes_under_an_open_transaction_waits_for_it(
    database_dsn: str, bucket_id: str
) -> None:
    clock, hold = Clock(database_dsn), Hold()
    async with stored_in(database_dsn, hold=hold) as stored:
        almost = MIDNIGHT + MARGIN - TICK
        await over_midnight(stored, hold, clock, bucket_id, maintained_at=almost, margin=MARGIN)
        oracle.check_rollups(database_dsn)
        assert await complete_until(stored) < MIDNIGHT
        clock.show(MIDNIGHT + MARGIN)
        await stored.maintain(margin_seconds=MARGIN.total_seconds())
        assert await complete_until(stored) == MIDNIGHT
        oracle.check_rollups(database_dsn)


async def test_without_the_margin_its_rows_would_be_missing(database_dsn: str, bucket_id: str) -> None:
    """So the rule is needed, and the test above is able to fail."""
    clock, hold = Clock(database_dsn), Hold()
    async with stored_in(database_dsn, hold=hold) as stored:
        await over_midnight(stored, hold, clock, bucket_id, maintained_at=MIDNIGHT, margin=timedelta())
        with pytest.raises(AssertionError, match="counts are wrong"):
            oracle.check_rollups(database_dsn)


@pytest.mark.parametrize(("began_at", "noted"), [(MIDNIGHT - TICK, []), (MIDNIGHT, [LAST_HOUR])])
async def test_an_hour_is_late_from_its_very_end_on(
    database_dsn: str, bucket_id: str, began_at: datetime, noted: list[datetime]
) -> None:
    """The moment at which the transaction began decides, not the one at which it stored or committed."""
    clock, hold = Clock(database_dsn), Hold()
    async with stored_in(database_dsn, hold=hold) as stored:
        clock.show(began_at)
        writing = asyncio.create_task(stored.write(bucket_id, [*late_rows(1), AHEAD]))
        await asyncio.wait_for(hold.written.wait(), WAIT_SECONDS)
        clock.show(MIDNIGHT + MARGIN)
        hold.free.set()
        await writing
        rows = await stored.maintenance.fetch("SELECT hour FROM late_hours")
        assert [row["hour"] for row in rows] == noted
        await stored.maintain(margin_seconds=MARGIN.total_seconds())
        assert await stored.maintenance.fetch("SELECT hour FROM late_hours") == []
        oracle.check_rollups(database_dsn)


async def test_an_hour_is_materialized_in_one_transaction(database_dsn: str, bucket_id: str) -> None:
    """Of several, the first would move the watermark past what the others had not done yet."""
    async with stored_in(database_dsn) as stored:
        await stored.write(bucket_id, [Occurrence(AT - n * 60_000_000, f"{n}") for n in range(600)])
        await stored.maintain()
        if stored.edition == "community":
            for rung in LADDER[:2]:
                found = await stored.maintenance.fetchval(_SQL_MATERIALIZED, rung.table)
                assert await stored.maintenance.fetchval(f"SELECT count(*) FROM {found}") > 0
                assert (
                    await stored.maintenance.fetchval(f"SELECT count(DISTINCT xmin::text) FROM {found}") == 1
                )
        oracle.check_rollups(database_dsn)
