"""While writers store late and current events and maintenance refreshes, every snapshot's counts are exact.

Each check compares what the planner answers with a count over the raw rows, in the same snapshot.
"""

import asyncio
import itertools
import time

import asyncpg
import pytest

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from query.execute import AnyConnection, Reader, fetch, hours_around, open_reader, planned
from query.interval import DAY, SECOND, Interval, Unit
from query.metadata import names_by_app
from query.plan import HOUR, Plan, Slice
from query.request import Filters, Histogram, Metadata, Range, Scope
from query.sql import counts_by_app, counts_by_period
from schema.settings import ApiSettings
from tests.support.stored import Occurrence, Stored, stored_in

SECONDS = 8.0
LEAST_CHECKS = 30
NAMES = ("boot", "click")
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


async def maintain(stored: Stored, deadline: float) -> None:
    while time.monotonic() < deadline:
        await stored.maintain()
        await asyncio.sleep(0.05)


def by_period(row: asyncpg.Record) -> dict[int, int]:
    """What ``counts_by_period`` answered; a period that came twice would be lost here."""
    assert len(set(row["xs"])) == len(row["xs"])
    return dict(zip(row["xs"], row["ys"], strict=True))


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
