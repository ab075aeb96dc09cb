"""Closed periods come to one row a key while writers add late events, and no snapshot ever counts wrong.

In the community edition maintenance refreshes instead; the same is asked of it.
"""

import asyncio
import itertools
import time

import pytest

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from ingest.writer import shards
from query.interval import SECOND
from query.plan import HOUR
from schema.connections import Connection, Duty, open_connection
from schema.settings import WriterSettings
from schema.tables import MERGED_SHARD, ROLLUP_SHARDS
from tests.support.oracle import check_rollups
from tests.support.stored import Occurrence, Stored, stored_in

SECONDS = 6.0
LEAST_CHECKS = 20
LEAST_MERGES = 20
TABLES = ("event_counts_minute", "event_counts_hour", "event_counts_day")


@pytest.fixture
def bucket(database_dsn: str) -> str:
    with administration(database_dsn) as connection:
        owner = create_user(connection, "owner@example.com")
        return create_bucket(connection, create_workspace(connection, "w"), "b", owner_id=owner)


def two_days_ago(number: int) -> int:
    """A moment in one of three hours, whose day closed before today."""
    start = (int(time.time()) // 86_400 - 2) * 86_400 * SECOND
    return start + number % 3 * HOUR + number % 7 * 60 * SECOND


async def write(stored: Stored, bucket: str, partition: int, deadline: float) -> None:
    for number in itertools.count():
        if time.monotonic() > deadline:
            return
        events = [
            Occurrence(two_days_ago(number + n) + partition, f"{number}-{n}", ("boot", "click")[n % 2])
            for n in range(5)
        ]
        await stored.write(bucket, events, partition=partition)


async def merge(stored: Stored, deadline: float) -> shards.Merging:
    """Merge without a pause; returns what was done in all."""
    total = shards.Merging()
    while time.monotonic() < deadline:
        done = await shards.merge(stored.maintenance, 0)
        total.keys += done.keys
        total.portions_left += done.portions_left
    return total


async def refresh(stored: Stored, deadline: float) -> shards.Merging:
    while time.monotonic() < deadline:
        await stored.maintain()
        await asyncio.sleep(0.05)
    return shards.Merging(keys=LEAST_MERGES)


async def check(dsn: str, deadline: float) -> int:
    checks = 0
    while time.monotonic() < deadline:
        await asyncio.to_thread(check_rollups, dsn)
        checks += 1
    return checks


@pytest.mark.timeout(90)
async def test_merging_under_late_writers_loses_no_count(database_dsn: str, bucket: str) -> None:
    deadline = time.monotonic() + SECONDS
    async with (
        stored_in(database_dsn) as one,
        stored_in(database_dsn) as two,
        stored_in(database_dsn) as three,
    ):
        work = merge if one.edition == "apache" else refresh
        # Two of them share a shard: their upserts meet each other and the merging.
        _, _, _, done, checks = await asyncio.gather(
            write(one, bucket, 0, deadline),
            write(two, bucket, ROLLUP_SHARDS, deadline),
            write(three, bucket, 1, deadline),
            work(one, deadline),
            check(database_dsn, deadline),
        )
        await one.maintain()
    check_rollups(database_dsn)
    assert checks >= LEAST_CHECKS
    assert done.keys >= LEAST_MERGES, done


@pytest.mark.timeout(60)
async def test_what_closed_has_one_row_a_key_and_merging_again_does_nothing(
    database_dsn: str, bucket: str
) -> None:
    async with stored_in(database_dsn) as stored:
        for partition in range(ROLLUP_SHARDS):
            events = [Occurrence(two_days_ago(n) + partition, f"{n}") for n in range(21)]
            # The hour that is open now stays as it is.
            events.append(Occurrence(int(time.time()) * SECOND + partition, "now"))
            await stored.write(bucket, events, partition=partition)
        await stored.maintain()
        for table in TABLES:
            most = await stored.maintenance.fetchval(
                f"SELECT max(n) FROM (SELECT count(*) AS n FROM {table}"
                " WHERE period < now() - INTERVAL '25 hours' GROUP BY bucket_key, period, name) AS keys"
            )
            assert most == 1, table
        if stored.edition == "apache":
            assert await rows_of(stored.maintenance, "event_counts_hour") == {
                MERGED_SHARD: 3,
                **dict.fromkeys(range(ROLLUP_SHARDS), 1),
            }
            assert await shards.merge(stored.maintenance, 0) == shards.Merging()
            late = [Occurrence(two_days_ago(0) + 5, "late")]
            await stored.write(bucket, late, partition=2)
            # One key of each rung has a row beside the merged one; no other row is touched.
            assert await shards.merge(stored.maintenance, 0) == shards.Merging(keys=len(TABLES))
    check_rollups(database_dsn)


async def rows_of(connection: Connection, table: str) -> dict[int, int]:
    rows = await connection.fetch(f"SELECT shard, count(*) AS n FROM {table} GROUP BY shard")
    return {row["shard"]: row["n"] for row in rows}


@pytest.mark.timeout(60)
async def test_a_portion_that_a_writer_is_at_is_left_and_others_are_merged(
    database_dsn: str, bucket: str
) -> None:
    async with stored_in(database_dsn) as stored:
        if stored.edition == "community":
            # Nothing is merged there; the writer has no rung to lock.
            return
        for partition in range(2):
            events = [Occurrence(two_days_ago(n) + partition, f"{n}") for n in range(3)]
            await stored.write(bucket, events, partition=partition)
        writer = await open_connection(
            WriterSettings(database_dsn=database_dsn), Duty.WRITER, command_seconds=20
        )
        holding = writer.transaction()
        await holding.start()
        await writer.execute("UPDATE event_counts_hour SET event_count = event_count + 0 WHERE shard = 1")
        done = await shards.merge(stored.maintenance, 0)
        # Minutes (three of them) and the day are done, the portion of hours is not.
        assert done == shards.Merging(keys=4, portions_left=1)
        await holding.rollback()
        await writer.close(timeout=5)
        assert await shards.merge(stored.maintenance, 0) == shards.Merging(keys=3)
    check_rollups(database_dsn)
