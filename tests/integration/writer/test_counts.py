"""Counts are exact at every moment: inserts, late rows, refreshes, deletions and readers all at once.

Two stores write (some of their transactions are held open for a while before they commit), maintenance
refreshes, compresses and purges, a bucket is emptied again and again; meanwhile readers count by the rules
in one snapshot and compare with the raw rows of the same snapshot. What the rules leave to maintenance is
right at the end, when everything has come to rest.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from ingest.writer import device_days, purge, refresh, retention, shards
from ingest.writer.batch import Batch, FetchedRecord
from ingest.writer.store import StaleOffsets, Store
from query.execute import Reader, pool_options
from query.interval import Interval, Unit
from query.request import Filters, Histogram, Range, Scope
from schema.connections import Connection, Duty, close_pool, open_connection, open_pool
from schema.records import encode_labels
from schema.settings import ApiSettings
from schema.tables import DAY_SECONDS, HOUR_SECONDS, LADDER, Rung
from tests.support import oracle
from tests.support.records import DAY, HOUR, event, events, now, record
from tests.support.stored import Stored, stored_in

SECONDS = 15.0
MARGIN_SECONDS = 1.0
OPEN_SECONDS = 0.5
BACK_DAYS = 3
NAMES = ("boot", "sale")
APPS = ("", "shop")
DEVICES = ("", "d1", "d2")


_COVERAGE = (
    "SELECT rollup, least(complete_until, '9999-01-01 00:00:00+00') AS complete_until FROM rollup_coverage"
)


class SlowStore(Store):
    """Holds some of its transactions open, as a busy machine would, so that refreshes pass them."""

    source = random.Random(1)

    async def _commit(self) -> None:
        await asyncio.sleep(self.source.choice([0, 0, 0, OPEN_SECONDS / 4, OPEN_SECONDS]))
        await super()._commit()


@dataclass(slots=True)
class Tally:
    """What happened: a run that did too little proves nothing."""

    written: int = 0
    late: int = 0
    deleted: int = 0
    maintained: int = 0
    checked: int = 0
    with_stale_hours: int = 0
    wrong: list[str] = field(default_factory=list)


@pytest.mark.timeout(90)
async def test_no_count_is_ever_wrong(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    tally = Tally()
    deadline = asyncio.get_running_loop().time() + SECONDS
    reading = [await open_connection(stored.settings, Duty.API, dsn=database_dsn) for _ in range(2)]
    emptying = await open_connection(stored.settings, Duty.API, dsn=database_dsn)
    purging = await open_connection(stored.settings, Duty.MAINTENANCE, dsn=database_dsn)
    api = ApiSettings(database_dsn=database_dsn, database_pool_size=2)
    pool = await open_pool(api, Duty.API, server_settings=pool_options(api), command_seconds=30)
    reader = Reader(pool, acquire_seconds=5)
    try:
        async with stored_in(database_dsn) as first, stored_in(database_dsn) as second:
            await _until(
                deadline,
                lambda: _write(first, 0, bucket_id, random.Random(11), tally),
                lambda: _write(second, 4, bucket_id, random.Random(12), tally),
                lambda: _maintain(stored, tally),
                lambda: _empty(emptying, bucket_id, (first, second), tally),
                lambda: _purge(purging, stored),
                lambda: _check_by_hand(reading[0], bucket_id, tally),
                lambda: _check_by_plan(reader, reading[1], bucket_id, random.Random(13), tally),
            )
            assert tally.wrong == [], f"{len(tally.wrong)} of {tally.checked} checks"
            assert min(tally.written, tally.late, tally.deleted, tally.maintained) >= 3, tally
            assert tally.checked >= 40, tally
            assert tally.with_stale_hours >= 5, tally
        # Once everything rests and every margin is over, nothing is stale and every rung is a recount.
        await _maintain(stored, tally, margin_seconds=0)
        oracle.check_rollups(database_dsn)
        assert (
            await stored.writer.fetchval(
                "SELECT count(*) FROM late_hours WHERE hour < now() - INTERVAL '1 day'"
            )
            == 0
        )
    finally:
        await close_pool(pool, 5)
        for connection in (*reading, emptying, purging):
            await connection.close(timeout=5)


async def _until(deadline: float, *works: Callable[[], Awaitable[None]]) -> None:
    async def repeat(work: Callable[[], Awaitable[None]]) -> None:
        while asyncio.get_running_loop().time() < deadline:
            try:
                await work()
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError):
                # What lanes and maintenance try again too.
                await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(repeat(work))


async def _write(stored: Stored, partition: int, bucket_id: str, source: random.Random, tally: Tally) -> None:
    """One batch: recent events, late ones, and repeats of both."""
    if not isinstance(stored.store, SlowStore):
        stored.store.__class__ = SlowStore
    standing = await stored._standing(partition)
    batch = Batch(standings={partition: standing})
    at, late = now(), source.random() < 0.6
    segments = []
    for _ in range(source.randrange(1, 4)):
        labels = encode_labels(source.choice(NAMES), "events", source.choice(APPS), "")
        tails = []
        for _ in range(source.randrange(1, 12)):
            hours = source.randrange(2, BACK_DAYS * 24) if late and source.random() < 0.5 else 0
            moment = (at - hours * HOUR) // 10_000_000 * 10_000_000 - source.randrange(3) * 1_000_000
            tails.append(event(f"{source.randrange(400)}", moment, device=source.choice(DEVICES)))
        segments.append(events(bucket_id, *tails, labels=labels))
    batch.add(FetchedRecord(partition, standing.next_offset, at // 1000, record(*segments)))
    stored.standings.pop(partition)
    try:
        await stored.store.write(batch)
    except StaleOffsets as error:
        raise AssertionError("nobody else moves this partition") from error
    tally.written += 1
    tally.late += late
    await asyncio.sleep(source.choice([0, 0, 0.05]))


async def _maintain(stored: Stored, tally: Tally, margin_seconds: float = MARGIN_SECONDS) -> None:
    connection = stored.maintenance
    if stored.edition == "community":
        await refresh.refresh_late(connection, margin_seconds)
        if tally.maintained % 5 == 1:
            await retention.compress(connection, 1)
        await asyncio.sleep(0.1)
        await refresh.refresh_current(connection, margin_seconds)
    else:
        await device_days.build(connection, margin_seconds)
        await shards.merge(connection, margin_seconds)
        await asyncio.sleep(0.1)
    tally.maintained += 1


async def _empty(connection: Connection, bucket_id: str, writers: tuple[Stored, ...], tally: Tally) -> None:
    """As the query API does it: a new key, and a fence on every partition where its log ends."""
    async with connection.transaction(isolation="repeatable_read"):
        old = await connection.fetchval(
            "SELECT bucket_key FROM buckets WHERE bucket_id = $1 FOR UPDATE", bucket_id
        )
        for partition, _ in zip((0, 4), writers, strict=True):
            await connection.execute(
                "INSERT INTO fences SELECT $1, topic, partition, epoch, next_offset, clock_timestamp()"
                " FROM partition_offsets WHERE partition = $2 ON CONFLICT (bucket_id, topic, partition)"
                " DO UPDATE SET fence_offset = excluded.fence_offset",
                bucket_id,
                partition,
            )
        new = await connection.fetchval(
            "INSERT INTO bucket_keys (bucket_id) VALUES ($1) RETURNING bucket_key", bucket_id
        )
        await connection.execute("UPDATE buckets SET bucket_key = $2 WHERE bucket_id = $1", bucket_id, new)
        await connection.execute("UPDATE bucket_keys SET retired_at = now() WHERE bucket_key = $1", old)
    tally.deleted += 1
    await asyncio.sleep(2.5)


async def _purge(connection: Connection, stored: Stored) -> None:
    await purge.purge(connection, stored.edition, MARGIN_SECONDS, lambda _rows: None)
    await asyncio.sleep(0.5)


async def _check_by_hand(connection: Connection, bucket_id: str, tally: Tally) -> None:
    """Every rung by the rules, written down here once more, against the raw rows of the same snapshot."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        key = await connection.fetchval("SELECT bucket_key FROM buckets WHERE bucket_id = $1", bucket_id)
        stale: dict[str, set[datetime]] = {}
        for row in await connection.fetch("SELECT rollup, hour FROM rollup_stale_hours"):
            stale.setdefault(row["rollup"], set()).add(row["hour"])
        complete = {row["rollup"]: row["complete_until"] for row in await connection.fetch(_COVERAGE)}
        for rung in LADDER:
            counted = await _counted(connection, rung, key)
            kept = await _kept(connection, rung, key)
            trusted = {
                place
                for place in counted.keys() | kept.keys()
                if _whole_period(place[0], rung) <= complete[rung.table]
                and not any(_holds(rung, place[0], hour) for hour in stale.get(rung.table, ()))
            }
            wrong = {p: (kept.get(p), counted.get(p)) for p in trusted if kept.get(p) != counted.get(p)}
            tally.checked += 1
            tally.with_stale_hours += bool(stale.get(rung.table))
            if wrong:
                tally.wrong.append(f"{rung.table}: {dict(list(wrong.items())[:2])}")
    await asyncio.sleep(0.03)


def _whole_period(start: datetime, rung: Rung) -> datetime:
    return start + timedelta(seconds=rung.period_seconds)


def _holds(rung: Rung, start: datetime, hour: datetime) -> bool:
    """Whether a period must not be trusted for a stale hour: minutes of it, itself, or the day around it."""
    width = max(rung.period_seconds, HOUR_SECONDS)
    seconds = int((hour - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    begin = int((start - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return begin // width == seconds // width


async def _counted(connection: Connection, rung: Rung, key: int) -> dict[tuple[datetime, ...], int]:
    columns = ", ".join(rung.dimensions)
    only = "AND device <> ''" if "device" in rung.dimensions else ""
    rows = await connection.fetch(
        f"SELECT time_bucket(make_interval(secs => {rung.period_seconds}), observed_at), {columns}, count(*)"
        f" FROM events WHERE bucket_key = $1 {only} GROUP BY 1, {columns}",
        key,
    )
    return {tuple(row)[:-1]: row["count"] for row in rows}


async def _kept(connection: Connection, rung: Rung, key: int) -> dict[tuple[datetime, ...], int]:
    columns = ", ".join(rung.dimensions)
    rows = await connection.fetch(
        f"SELECT period, {columns}, sum(event_count)::bigint AS count FROM {rung.built}"
        f" WHERE bucket_key = $1 GROUP BY period, {columns}",
        key,
    )
    return {tuple(row)[:-1]: row["count"] for row in rows}


async def _check_by_plan(
    reader: Reader, connection: Connection, bucket_id: str, source: random.Random, tally: Tally
) -> None:
    """What the query API would answer lies between the raw rows just before and those just after."""
    key = await connection.fetchval("SELECT bucket_key FROM buckets WHERE bucket_id = $1", bucket_id)
    interval = Interval(source.choice([Unit.DAY, Unit.HOUR, Unit.MINUTE]))
    chosen = Filters(
        name=source.choice([None, "boot"]),
        app=source.choice([None, "shop"]),
        device=source.choice([None, "d1"]),
    )
    end = now() + HOUR
    asked = Range(end - source.randrange(BACK_DAYS * 24 + 24) * HOUR - source.randrange(HOUR), end)
    before = await _raw(connection, key, asked, interval, chosen)
    points, way = await reader.histogram(Histogram(Scope((key,)), asked, interval, chosen))
    after = await _raw(connection, key, asked, interval, chosen)
    if await connection.fetchval("SELECT retired_at IS NOT NULL FROM bucket_keys WHERE bucket_key = $1", key):
        return  # Emptied meanwhile: its rows may be on their way out.
    answered = Counter({x: y for x, y in points if y})
    tally.checked += 1
    if not before <= answered <= after:
        tally.wrong.append(f"{before} <= {answered} <= {after} by {way}")
    await asyncio.sleep(0.03)


async def _raw(
    connection: Connection, key: int, asked: Range, interval: Interval, chosen: Filters
) -> Counter[int]:
    where = " AND ".join(f"{column} = '{value}'" for column, value in chosen.wanted.items()) or "true"
    rows = await connection.fetch(
        "SELECT observed_at FROM events"
        f" WHERE bucket_key = $1 AND observed_at >= $2 AND observed_at < $3 AND {where}",
        key,
        _moment(asked.start),
        _moment(asked.end),
    )
    return Counter(interval.period(round(row["observed_at"].timestamp() * 1_000_000)) // 1000 for row in rows)


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def test_the_range_covers_what_is_written() -> None:
    assert BACK_DAYS * DAY_SECONDS * 1_000_000 == BACK_DAYS * DAY
