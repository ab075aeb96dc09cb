"""While writers store late and current events and maintenance refreshes, every snapshot's counts are exact.

Each check compares what the planner answers with a count over the raw rows, in the same snapshot.
"""

import asyncio
import contextlib
import itertools
import random
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from query.execute import AnyConnection, Reader, fetch, hours_around, open_reader, planned
from query.interval import DAY, SECOND, Interval, Unit
from query.metadata import names_by_app
from query.plan import HOUR, Plan, Slice
from query.request import Filters, Histogram, Metadata, Range, Scope
from query.sql import counts_by_app, counts_by_period
from schema.errors import Unavailable
from schema.settings import ApiSettings
from tests.support import oracle
from tests.support.clock import Clock
from tests.support.processes import make_bucket
from tests.support.stored import Occurrence, Stored, stored_in

SECONDS = 8.0
LEAST_CHECKS = 30
NAMES = ("boot", "click")
# Of the clock that runs ahead: its seconds in a real one. In real seconds: how long a transaction is held
# open, how long it may last, and how far refreshes stay behind.
PACE = 3600.0
HOLD_SECONDS, LIMIT_SECONDS, MARGIN_SECONDS = 0.4, 0.8, 0.9
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
EPOCH = "SELECT extract(epoch FROM now())"
APPS = ("", "shop", "till")


@pytest.mark.timeout(120)
async def test_counts_equal_the_raw_rows_of_the_same_snapshot_at_every_moment(database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        owner = create_user(connection, "owner@example.com")
        bucket = create_bucket(connection, create_workspace(connection, "w"), "b", owner_id=owner)
    reader = await open_reader(ApiSettings(database_dsn=database_dsn))
    deadline = time.monotonic() + SECONDS
    async with stored_in(database_dsn) as one, stored_in(database_dsn) as two:
        now = int(await one.writer.fetchval("SELECT extract(epoch FROM now())")) * SECOND
        key = await one.writer.fetchval("SELECT bucket_key FROM buckets WHERE bucket_id = $1", bucket)
        # So that there is something to be stale.
        await one.write(bucket, [Occurrence(now - hours * HOUR, f"first{hours}") for hours in range(80)])
        await one.maintain()
        checks = [0]
        await asyncio.gather(
            write(one, bucket, now, 0, deadline),
            write(two, bucket, now, 1, deadline),
            maintain(one, deadline),
            *(check(reader, Scope((key,)), now, deadline, checks) for _ in range(2)),
        )
    await reader.close(5)
    assert checks[0] >= LEAST_CHECKS


@pytest.mark.timeout(120)
async def test_counts_are_exact_while_hours_and_days_close_under_open_transactions(database_dsn: str) -> None:
    """The database's clock runs an hour a second, over midnight; a transaction may last 48 minutes."""
    Clock(database_dsn).show(MIDNIGHT - timedelta(hours=4), pace=PACE)
    bucket = make_bucket(database_dsn).bucket_id
    reader = await open_reader(ApiSettings(database_dsn=database_dsn))
    deadline = time.monotonic() + SECONDS
    async with stored_in(database_dsn) as stored:
        now = int(await stored.writer.fetchval("SELECT extract(epoch FROM now())")) * SECOND
        key = await stored.writer.fetchval("SELECT bucket_key FROM buckets WHERE bucket_id = $1", bucket)
        checks, ahead = [0], now + 2 * int(SECONDS) * HOUR
        closings = await asyncio.gather(
            write_slowly(database_dsn, bucket, 0, deadline),
            write_slowly(database_dsn, bucket, 1, deadline),
            maintain(stored, deadline, MARGIN_SECONDS * PACE),
            *(check(reader, Scope((key,)), ahead, deadline, checks) for _ in range(2)),
        )
        await stored.maintain(margin_seconds=MARGIN_SECONDS * PACE)
    await reader.close(5)
    oracle.check_rollups(database_dsn)
    # On a machine that is busy enough there is time for few; without any the test would prove nothing.
    assert sum(crossed for crossed in closings[:2] if crossed is not None) >= 2
    assert checks[0] >= 10


async def write_slowly(dsn: str, bucket: str, partition: int, deadline: float) -> int:
    """Transactions that stay open for a while; returns how many of them saw an hour end."""
    source = random.Random(partition)

    async def hold() -> None:
        await asyncio.sleep(source.uniform(0, HOLD_SECONDS))

    crossed = 0
    for attempt in itertools.count():
        # What outlasts the limit ends with its connection, as a writer's does.
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, Unavailable):
            async with stored_in(dsn, hold=hold) as stored:
                await stored.writer.execute(f"SET transaction_timeout = '{LIMIT_SECONDS}s'")
                for number in itertools.count():
                    if time.monotonic() > deadline:
                        return crossed
                    began_at = int(await stored.writer.fetchval(EPOCH)) * SECOND
                    ids = [f"{partition}-{attempt}-{number}-{n}" for n in range(4)]
                    events = [
                        Occurrence(began_at - n * SECOND, name, NAMES[n % 2], device="d1")
                        for n, name in enumerate(ids)
                    ]
                    ahead = Occurrence(began_at + 3 * DAY, "ahead")
                    await stored.write(bucket, [*events, ahead], partition=partition)
                    ended_at = int(await stored.writer.fetchval(EPOCH)) * SECOND
                    crossed += ended_at // HOUR > began_at // HOUR
        if time.monotonic() > deadline:
            return crossed
    raise AssertionError("not reached")


async def write(stored: Stored, bucket: str, now: int, partition: int, deadline: float) -> None:
    for number in itertools.count():
        if time.monotonic() > deadline:
            return
        back = (number % 7) * 11 * HOUR
        events = [
            Occurrence(now - back + n * SECOND, f"{partition}-{number}-{n}", NAMES[n % 2], APPS[n % 3])
            for n in range(6)
        ]
        await stored.write(bucket, events, partition=partition)
        await asyncio.sleep(0.02)


async def maintain(stored: Stored, deadline: float, margin_seconds: float = 0) -> None:
    while time.monotonic() < deadline:
        await stored.maintain(margin_seconds=margin_seconds)
        await asyncio.sleep(0.05)


def by_period(row: asyncpg.Record) -> dict[int, int]:
    """What ``counts_by_period`` answered; a period that came twice would be lost here."""
    xs, ys = row["xs"] or [], row["ys"] or []
    assert len(set(xs)) == len(xs)
    return dict(zip(xs, ys, strict=True))


async def check(reader: Reader, scope: Scope, now: int, deadline: float, checks: list[int]) -> None:
    asked = Range(now - 4 * DAY - 7 * SECOND, now + HOUR)
    raw = Plan((Slice(None, asked.start, asked.end),))
    hours, boot = hours_around(asked), Filters("boot")
    grids = [Interval(Unit.MINUTE), Interval(Unit.HOUR), Interval(Unit.DAY)]

    async def compare(connection: AnyConnection) -> None:
        for interval in grids:
            way = await planned(connection, asked, interval, {"name"})
            (found,) = await fetch(connection, counts_by_period(scope, way, interval, boot, hours))
            (counted,) = await fetch(connection, counts_by_period(scope, raw, interval, boot, hours))
            assert by_period(found) == by_period(counted), way
        names = await names_by_app(connection, Metadata(scope, asked, Filters()))
        by_app = {(entry.app, name): n for entry in names.apps for name, n in entry.counts.items()}
        rows = await fetch(connection, counts_by_app(scope, raw, Filters(), 100))
        assert by_app == {
            (row["app"], name): y for row in rows for name, y in zip(row["names"], row["ys"], strict=True)
        }, names.plan

    least = 0
    while time.monotonic() < deadline:
        await reader.in_snapshot(compare)
        # Without a snapshot of ours: events only ever grow in number.
        points, way = await reader.histogram(Histogram(scope, asked, Interval(Unit.DAY), boot))
        counted = sum(y for _, y in points)
        assert counted >= least, way
        least = counted
        checks[0] += 1
