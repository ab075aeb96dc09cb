"""What maintenance does beside storing: retention, purge, chunks ahead, compression; and who may do it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from ingest.writer import chunks, device_days, purge, retention, stream_names
from ingest.writer.batch import Batch, FetchedRecord
from ingest.writer.maintenance import Maintenance
from ingest.writer.process import main
from ingest.writer.store import Outcome
from schema.connections import Duty, open_connection
from schema.metrics import WriterMetrics
from schema.migrations.migrate import set_chunk_hours
from schema.records import encode_labels
from schema.tables import LOCK_MAINTENANCE, LOCK_RAW_FLOOR
from tests.support import oracle
from tests.support.records import DAY, HOUR, event, events, now, record
from tests.support.stored import Stored, stored_in

AT_MS = 1_750_000_000_000
NAMES = ("boot", "sale")
_LONGEST_CHUNK = """
SELECT max(range_end - range_start) FROM timescaledb_information.chunks WHERE hypertable_name = 'events'
"""
_CHUNKS_LOCKED = """
SELECT count(DISTINCT chunk_name) FROM pg_locks
JOIN timescaledb_information.chunks
    ON relation = format('%I.%I', chunk_schema, chunk_name)::regclass AND hypertable_name = 'events'
WHERE pid = pg_backend_pid()
"""


async def write(stored: Stored, bucket_id: str, *tails: bytes, name: str = "boot") -> Outcome:
    standing = await stored._standing(0)
    batch = Batch(standings={0: standing})
    labels = encode_labels(name, "events", "app", "")
    value = record(events(bucket_id, *tails, labels=labels))
    batch.add(FetchedRecord(0, standing.next_offset, AT_MS, value))
    stored.standings.clear()
    return await stored.store.write(batch)


async def counts(stored: Stored) -> dict[str, dict[tuple[int, datetime, str], int]]:
    """All that the rungs hold, without zeros."""
    found = {}
    for rung in ("event_counts_minute", "event_counts_hour", "event_counts_day", "device_counts_day"):
        rows = await stored.maintenance.fetch(
            f"SELECT bucket_key, period, name, sum(event_count)::bigint AS total FROM {rung}"
            " WHERE event_count <> 0 GROUP BY 1, 2, 3"
        )
        found[rung] = {(row["bucket_key"], row["period"], row["name"]): row["total"] for row in rows}
    return found


@pytest.mark.parametrize("chunk_hours", [24, 3])
async def test_retention_drops_rows_and_leaves_their_counts(
    stored: Stored, bucket_id: str, database_dsn: str, chunk_hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_CHUNKS", 4)
    set_chunk_hours(database_dsn, chunk_hours)
    at = now()
    for name in NAMES:
        tails = [event(f"{name}-{n}", at - n * 3 * HOUR, device=f"d{n % 2 or ''}") for n in range(60)]
        await write(stored, bucket_id, *tails, name=name)
    assert await stored.maintenance.fetchval(_LONGEST_CHUNK) == timedelta(hours=chunk_hours)
    await stored.maintain()
    # Late rows that no refresh has seen yet are counted too before their chunk goes.
    await write(stored, bucket_id, *[event(f"late-{n}", at - n * DAY - 7, device="d1") for n in range(3, 7)])
    before = await stored.maintenance.fetchval("SELECT count(*) FROM events")
    rows = await stored.maintenance.fetch(
        "SELECT time_bucket('1 day', observed_at) AS day, name, count(*) FROM events GROUP BY 1, 2"
    )
    days = {(row["day"], row["name"]): row["count"] for row in rows}
    table_chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'events'"
    chunks_before = await stored.maintenance.fetchval(table_chunks)
    statements: list[str] = []
    with stored.maintenance.query_logger(lambda query: statements.append(query.query)):
        await stored.drop_raw_rows(days=2)
    # A few at a time, and no more.
    dropped = chunks_before - await stored.maintenance.fetchval(table_chunks)
    assert dropped > 4
    assert sum("drop_chunks" in statement for statement in statements) >= -(-dropped // 4)
    floor: datetime = await stored.maintenance.fetchval("SELECT raw_floor FROM store_state")
    assert floor == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    assert await stored.maintenance.fetchval("SELECT min(observed_at) >= $1 FROM events", floor)
    assert await stored.maintenance.fetchval("SELECT count(*) FROM events") < before
    kept = await counts(stored)
    assert {(day, name): total for (_, day, name), total in kept["event_counts_day"].items()} == days
    assert sum(kept["event_counts_minute"].values()) == sum(kept["event_counts_hour"].values()) == before
    # Whatever maintenance does from now on leaves the frozen counts as they are.
    await write(stored, bucket_id, event("late-again", at - 25 * HOUR, device="d1"))
    await stored.maintain()
    await stored.drop_raw_rows(days=2)
    after = await counts(stored)
    for rung, frozen in kept.items():
        old = {place: total for place, total in frozen.items() if place[1] < floor}
        assert old
        assert {place: total for place, total in after[rung].items() if place[1] < floor} == old
    # Below the floor nothing is stored any more, at it everything is.
    start = int(floor.timestamp()) * 1_000_000
    outcome = await write(stored, bucket_id, event("below", start - 1), event("at", start))
    assert (outcome.stored, dict(outcome.letters)) == (1, {"floor": 1})


async def test_the_floor_waits_for_open_transactions_and_holds_new_ones_back(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    """Else a writer could store, below the floor, a row that nobody would count any more."""
    at = now() - 3 * DAY
    await write(stored, bucket_id, event("a", at))
    await stored.maintain()
    async with stored_in(database_dsn) as other:
        await other.writer.execute("BEGIN")
        await other.writer.execute("SELECT pg_advisory_xact_lock_shared($1)", LOCK_RAW_FLOOR)
        dropping = asyncio.create_task(stored.drop_raw_rows(days=1))
        await asyncio.sleep(0.5)
        assert not dropping.done()
        late = asyncio.create_task(write(stored, bucket_id, event("b", at)))
        await asyncio.sleep(0.3)
        assert not late.done()
        await other.writer.execute("COMMIT")
        await asyncio.wait_for(dropping, 20)
        assert dict((await asyncio.wait_for(late, 20)).letters) == {"floor": 1}
    assert await stored.maintenance.fetchval("SELECT count(*) FROM events") == 0


async def test_a_purge_removes_the_old_key_and_nothing_else(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now()
    tails = [event(f"{n}", at - n * HOUR, device="d1") for n in range(80)]
    await write(stored, bucket_id, *tails)
    await stored.maintain()
    old = await stored.maintenance.fetchval("SELECT bucket_key FROM buckets")
    new = await stored.maintenance.fetchval(
        "WITH fresh AS (INSERT INTO bucket_keys (bucket_id) VALUES ($1) RETURNING bucket_key), retired AS"
        " (UPDATE bucket_keys SET retired_at = now() WHERE bucket_key = $2)"
        " UPDATE buckets SET bucket_key = (SELECT bucket_key FROM fresh) RETURNING bucket_key",
        bucket_id,
        old,
    )
    await write(stored, bucket_id, *tails[:30])
    await stored.maintain()
    removed: list[float] = []
    await purge.purge(stored.maintenance, stored.edition, 60, removed.append)
    assert removed == [], "a writer may still be storing under the key"
    await purge.purge(stored.maintenance, stored.edition, 0, removed.append)
    assert removed == [80]
    await purge.purge(stored.maintenance, stored.edition, 0, removed.append)
    assert removed == [80], "once is enough"
    assert await stored.maintenance.fetchval("SELECT count(*) FROM events") == 30
    for rung, found in (await counts(stored)).items():
        assert {key for key, _, _ in found} == {new}, rung
    assert oracle.check(database_dsn, bucket_id, {f"{n}" for n in range(30)}, set()) == 30


async def test_what_is_asked_day_by_day_locks_the_chunk_of_that_day_alone(
    stored: Stored, bucket_id: str
) -> None:
    """However often: a server has locks for some thousands of chunks, and years of history have more."""
    today = now() // DAY * DAY
    await write(stored, bucket_id, *[event(str(n), today - n * DAY, device="d1") for n in range(40)])
    connection = stored.maintenance
    start = datetime.fromtimestamp((today - 20 * DAY) // 1_000_000, UTC)
    works: list[Callable[[], Awaitable[None]]] = [lambda: stream_names.note_day(connection, start)]
    if stored.edition == "apache":
        works.append(lambda: device_days._build_day(connection, start, []))
    for work in works:
        async with connection.transaction(isolation="repeatable_read"):
            for _ in range(8):
                await work()
            assert await connection.fetchval(_CHUNKS_LOCKED) == 1


async def test_chunks_are_there_before_they_are_needed(stored: Stored) -> None:
    ahead = (
        "SELECT h.hypertable_name FROM timescaledb_information.dimensions AS h"
        " WHERE h.hypertable_schema = 'public' AND EXISTS ("
        " SELECT FROM timescaledb_information.chunks AS c WHERE c.hypertable_name = h.hypertable_name"
        " AND now() + h.time_interval >= c.range_start AND now() + h.time_interval < c.range_end) ORDER BY 1"
    )
    assert await stored.maintenance.fetch(ahead) == []
    await chunks.make_ahead(stored.maintenance)
    made = [row[0] for row in await stored.maintenance.fetch(ahead)]
    rungs = ["event_counts_day", "event_counts_hour", "event_counts_minute"]
    assert made == [*(rungs if stored.edition == "apache" else []), "events", "node_reports"]
    number = await stored.maintenance.fetchval("SELECT count(*) FROM timescaledb_information.chunks")
    await chunks.make_ahead(stored.maintenance)
    assert await stored.maintenance.fetchval("SELECT count(*) FROM timescaledb_information.chunks") == number
    for table in ("events", "node_reports"):
        assert await stored.maintenance.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.timeout(90)
async def test_late_rows_and_repeats_find_their_way_into_old_chunks(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    """Compressed in the community edition: more rows are unpacked at once than its default limit allows."""
    source = random.Random(5)
    day = now() // DAY * DAY - 10 * DAY
    ids = [f"{source.getrandbits(64):016x}" for _ in range(130_000)]
    tails = [event(identifier, day + n * 600_000, device="d1") for n, identifier in enumerate(ids)]
    for start in range(0, len(tails), 26_000):
        await write(stored, bucket_id, *tails[start : start + 26_000])
    await stored.maintain()
    if stored.edition == "community":
        await retention.compress(stored.maintenance, 7)
        compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
        assert await stored.maintenance.fetchval(compressed) == 1
    late = [event(f"late-{n}", day + n * 8_000_000 + 1, device="d2") for n in range(8_000)]
    sample = source.sample(tails, 4_000)
    outcome = await write(stored, bucket_id, *late, *sample)
    assert (outcome.stored, outcome.duplicates) == (8_000, 4_000)
    again = await write(stored, bucket_id, *late, *source.sample(tails, 4_000))
    assert (again.stored, again.duplicates) == (0, 12_000)
    await stored.maintain()
    oracle.check_rollups(database_dsn)
    assert await stored.maintenance.fetchval("SELECT count(*) FROM events") == 138_000
    # And a purge of all of it.
    await stored.maintenance.execute("UPDATE bucket_keys SET retired_at = now()")
    removed: list[float] = []
    await purge.purge(stored.maintenance, stored.edition, 0, removed.append)
    assert removed == [138_000]


async def test_one_process_at_a_time_maintains_and_another_takes_over(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now()
    await write(stored, bucket_id, *[event(f"{n}", at - n * HOUR, device="d1") for n in range(60)])
    settings = stored.settings.model_copy(update={"database_dsn": database_dsn})
    holder = await open_connection(settings, Duty.MAINTENANCE)
    await holder.execute("SELECT pg_advisory_lock($1)", LOCK_MAINTENANCE)
    stop = asyncio.Event()
    metrics = WriterMetrics(CollectorRegistry())
    running = asyncio.create_task(Maintenance(settings, metrics).run(stop))
    await asyncio.sleep(1)
    chunks_of_next = "SELECT count(*) FROM timescaledb_information.chunks WHERE range_start > now()"
    assert await stored.maintenance.fetchval(chunks_of_next) == 0
    await holder.close()
    for _ in range(150):
        if await stored.maintenance.fetchval(chunks_of_next) and not await _stale(stored):
            break
        await asyncio.sleep(0.1)
    assert not await _stale(stored)
    stop.set()
    await asyncio.wait_for(running, 5)
    failures = [s for found in metrics.maintenance_failures.collect() for s in found.samples]
    assert not any(sample.value for sample in failures), failures
    oracle.check_rollups(database_dsn)


async def _stale(stored: Stored) -> int:
    found: int = await stored.maintenance.fetchval(
        "SELECT count(*) FROM rollup_stale_hours WHERE hour < now() - INTERVAL '3 hours'"
    )
    return found


async def test_the_writers_role_can_change_and_delete_no_event(stored: Stored, bucket_id: str) -> None:
    await write(stored, bucket_id, event("a"))
    for statement in (
        "DELETE FROM events",
        "UPDATE events SET id = 'b'",
        "TRUNCATE events",
        "DELETE FROM dead_letters",
        "UPDATE buckets SET name = 'x'",
        "SELECT * FROM api_keys",
    ):
        with pytest.raises(Exception, match="permission denied"):
            await stored.writer.execute(statement)


def test_the_margin_must_outlast_a_transaction(monkeypatch: pytest.MonkeyPatch, database_dsn: str) -> None:
    monkeypatch.setenv("WEIR_DATABASE_DSN", database_dsn)
    monkeypatch.setenv("WEIR_TRANSACTION_SECONDS", "60")
    monkeypatch.setenv("WEIR_MAINTENANCE_MARGIN_SECONDS", "60")
    assert main() == 2
    with psycopg.connect(database_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM partition_offsets").fetchone() == (0,)
