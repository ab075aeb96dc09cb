"""One transaction of the writer on a real database: what it stores, and what it recognises."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest

from ingest.writer import statements
from ingest.writer.batch import Batch, FetchedRecord, Standing
from ingest.writer.store import Outcome, StaleOffsets
from schema.records import Segment
from tests.support import oracle
from tests.support.processes import make_bucket
from tests.support.records import DAY, HOUR, SECOND, event, events, now, record, report, reports
from tests.support.stored import Stored, stored_in

AT_MS = 1_750_000_000_000


async def write(stored: Stored, *records: Sequence[Segment], partition: int = 0) -> Outcome:
    """One batch of records behind where the partition stands."""
    standing = await stored._standing(partition)
    batch = Batch(standings={partition: standing})
    for number, segments in enumerate(records):
        batch.add(FetchedRecord(partition, standing.next_offset + number, AT_MS, record(*segments)))
    outcome = await stored.store.write(batch)
    stored.standings[partition] = Standing(standing.epoch, standing.next_offset + len(records))
    return outcome


async def rows(stored: Stored, bucket_id: str) -> list[str]:
    found = await stored.writer.fetch(
        "SELECT id FROM events JOIN buckets USING (bucket_key) WHERE bucket_id = $1 ORDER BY observed_at, id",
        bucket_id,
    )
    return [row["id"] for row in found]


async def test_every_field_arrives_as_it_was_sent(stored: Stored, bucket_id: str) -> None:
    at = now() - 90 * SECOND
    data = b'{"text": "\\u00e9\\n", "big": 12345678901234567890.5, "list": [1, {"a": null}]}'
    await write(stored, [events(bucket_id, event("é-1", at, device="d1", data=data, received_at=at + 7))])
    row = await stored.writer.fetchrow("SELECT * FROM events")
    assert row is not None
    assert (row["name"], row["stream"], row["app"], row["server"]) == ("boot", "events", "app", "s1")
    assert (row["id"], row["device"]) == ("é-1", "d1")
    assert int(row["observed_at"].timestamp() * SECOND + 0.5) == at
    assert int(row["received_at"].timestamp() * SECOND + 0.5) == at + 7
    assert await stored.writer.fetchval("SELECT data = $1::jsonb FROM events", data.decode())


async def test_repeats_within_a_record_a_batch_and_across_batches_are_stored_once(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now()
    ids = [f"e{n}" for n in range(40)]
    tails = [event(i, at - n * HOUR) for n, i in enumerate(ids)]
    first = await write(stored, [events(bucket_id, *tails[:10], *tails[:5])])
    assert (first.stored, first.duplicates) == (10, 5)
    second = await write(
        stored,
        [events(bucket_id, *tails[10:20]), events(bucket_id, *tails[10:12])],
        [events(bucket_id, *tails[12:22])],
    )
    assert (second.stored, second.duplicates) == (12, 10)
    third = await write(stored, [events(bucket_id, *tails[5:15], *tails[22:30])])
    assert (third.stored, third.duplicates) == (8, 10)
    again = await write(stored, [events(bucket_id, *tails[:30])], [events(bucket_id, *tails[:30])])
    assert (again.stored, again.duplicates) == (0, 60)
    # Another process knows nothing of what this one remembers: its COPY runs into the index.
    async with stored_in(database_dsn) as other:
        after_restart = await write(other, [events(bucket_id, *tails)])
        assert (after_restart.stored, after_restart.duplicates, after_restart.staged) == (10, 30, 0)
        nothing_new = await write(other, [events(bucket_id, *tails)])
        assert (nothing_new.stored, nothing_new.duplicates) == (0, 40)
    assert oracle.check(database_dsn, bucket_id, set(ids), set()) == 40


async def test_repeats_that_only_the_database_knows_among_broken_events_are_stored_once(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now()
    old = [event(f"old{n}", at - n * SECOND) for n in range(20)]
    await write(stored, [events(bucket_id, *old)])
    broken = [event(f"broken{n}", at, data=b"{") for n in range(3)]
    unreadable = event("a\x00b", at)
    new = [event(f"new{n}", at - n * SECOND) for n in range(9)]
    async with stored_in(database_dsn) as other:
        outcome = await write(
            other,
            [events(bucket_id, *old[:7], *new[:3], broken[0], unreadable, *old[7:12], *new[3:6])],
            [events(bucket_id, broken[1], *new[6:], *old[12:], broken[2])],
        )
        assert (outcome.stored, outcome.duplicates) == (9, 20)
        assert outcome.letters.total() == len(other.letters) == 4
    ids = {*(f"old{n}" for n in range(20)), *(f"new{n}" for n in range(9))}
    assert oracle.check(database_dsn, bucket_id, ids, set()) == 29


async def test_the_same_id_at_another_moment_or_in_another_bucket_is_another_event(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    other = make_bucket(database_dsn).bucket_id
    at = now()
    outcome = await write(
        stored,
        [events(bucket_id, event("a", at), event("a", at + 1)), events(other, event("a", at))],
    )
    assert (outcome.stored, outcome.duplicates) == (3, 0)
    assert await rows(stored, bucket_id) == ["a", "a"]
    oracle.check_rollups(database_dsn)


async def test_stamped_events_are_known_by_their_id_for_24_hours(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now() - 3 * DAY

    async def stamped(*tails: bytes) -> tuple[int, int]:
        outcome = await write(stored, [events(bucket_id, *tails, stamped=True)])
        return outcome.stored, outcome.duplicates

    # In one batch: twice within a day, and once more beyond it.
    assert await stamped(
        event("a", at),
        event("a", at + HOUR),
        event("a", at + 25 * HOUR),
        event("b", at),
        event("a", at + 26 * HOUR),
    ) == (3, 2)
    # Across batches.
    assert await stamped(event("a", at + 27 * HOUR), event("b", at + 23 * HOUR), event("c", at)) == (1, 2)
    assert await stamped(event("a", at + 49 * HOUR + 1), event("b", at + DAY)) == (2, 0)
    # Read again in a new epoch: all of it is known.
    assert await stamped(event("a", at), event("a", at + 25 * HOUR), event("b", at), event("c", at)) == (0, 4)
    assert await rows(stored, bucket_id) == ["a", "b", "c", "b", "a", "a"]
    oracle.check_rollups(database_dsn)


async def test_an_event_with_its_own_moment_repeats_no_stamped_one(stored: Stored, bucket_id: str) -> None:
    at = now()
    await write(stored, [events(bucket_id, event("a", at), stamped=True)])
    outcome = await write(stored, [events(bucket_id, event("a", at - 5))])
    assert outcome.stored == 1


async def test_node_reports_are_stored_once_by_bucket_id(stored: Stored, bucket_id: str) -> None:
    at = now()
    tails = [report("h1", at), report("h2", at, latency_ms=None), report("h1", at + 1)]
    assert (await write(stored, [reports(bucket_id, *tails)])).node_reports == 3
    again = await write(stored, [reports(bucket_id, *tails, report("h3", at))])
    assert (again.node_reports, again.duplicates) == (1, 3)
    found = await stored.writer.fetch(
        "SELECT host, latency_ms FROM node_reports WHERE bucket_id = $1", bucket_id
    )
    assert sorted((row["host"], row["latency_ms"]) for row in found) == [
        ("h1", 1.5),
        ("h1", 1.5),
        ("h2", None),
        ("h3", 1.5),
    ]


async def test_a_zombie_writes_nothing(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    """Two stores believe that the partition is theirs: whoever moves the offset first has it."""
    at = now()
    await write(stored, [events(bucket_id, event("a", at))])
    async with stored_in(database_dsn) as zombie:
        await zombie._standing(0)
        await write(stored, [events(bucket_id, event("b", at))])
        with pytest.raises(StaleOffsets) as caught:
            await write(zombie, [events(bucket_id, event("z", at)), reports(bucket_id, report("z"))])
        assert caught.value.partitions == {0}
        # The same connection goes on as soon as it stands where the database does.
        zombie.standings.clear()
        await write(zombie, [events(bucket_id, event("c", at))])
    assert await rows(stored, bucket_id) == ["a", "b", "c"]
    assert await stored.writer.fetchval("SELECT count(*) FROM node_reports") == 0
    oracle.check_rollups(database_dsn)


async def test_one_stale_partition_stops_the_whole_transaction(stored: Stored, bucket_id: str) -> None:
    batch = Batch(standings={0: await stored._standing(0), 1: Standing(1, 99)})
    batch.add(FetchedRecord(0, 0, AT_MS, record(events(bucket_id, event("a")))))
    batch.add(FetchedRecord(1, 99, AT_MS, record(events(bucket_id, event("b")))))
    with pytest.raises(StaleOffsets) as caught:
        await stored.store.write(batch)
    assert caught.value.partitions == {1}
    assert await rows(stored, bucket_id) == []
    assert await stored.writer.fetchval("SELECT next_offset FROM partition_offsets") == 0


async def test_a_fence_drops_what_lies_before_it_and_the_rest_has_the_new_key(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    at = now()
    await write(stored, [events(bucket_id, event("old", at))])
    (old_key,) = await stored.writer.fetchrow("SELECT bucket_key FROM buckets")  # type: ignore[misc]
    # Two records are on their way when the bucket is emptied, two come after.
    async with stored.maintenance.transaction():
        new_key = await stored.maintenance.fetchval(
            "INSERT INTO bucket_keys (bucket_id) VALUES ($1) RETURNING bucket_key", bucket_id
        )
        await stored.maintenance.execute("UPDATE buckets SET bucket_key = $1", new_key)
        await stored.maintenance.execute(
            "UPDATE bucket_keys SET retired_at = now() WHERE bucket_key = $1", old_key
        )
        await stored.maintenance.execute(
            "INSERT INTO fences VALUES ($1, 'weir.events', 0, 1, 3, now())", bucket_id
        )
    outcome = await write(
        stored,
        [events(bucket_id, event("fenced-1", at))],
        [events(bucket_id, event("fenced-2", at), stamped=True), reports(bucket_id, report())],
        [events(bucket_id, event("new", at))],
        # Sent again after the call returned: a new event.
        [events(bucket_id, event("old", at))],
    )
    assert (outcome.stored, outcome.fenced, outcome.node_reports) == (2, 2, 1)
    assert await rows(stored, bucket_id) == ["new", "old"]
    assert {
        row[0] for row in await stored.writer.fetch("SELECT bucket_key FROM events WHERE id <> 'old'")
    } == {new_key}
    oracle.check_rollups(database_dsn)


async def test_lanes_that_count_into_the_same_rows_lose_no_update(bucket_id: str, database_dsn: str) -> None:
    """Partitions 0, 4, 8, … share a shard of the rollups: here three stores want the same rows at once."""

    async def lane(partition: int) -> None:
        async with stored_in(database_dsn) as stored:
            source = secrets.SystemRandom()
            for number in range(25):
                tails = [
                    event(f"{partition}-{number}-{n}", at - source.randrange(5) * HOUR, device="d")
                    for n in range(20)
                ]
                for attempt in range(20):
                    try:
                        await write(stored, [events(bucket_id, *tails)], partition=partition)
                        break
                    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                        assert attempt < 19

    at = now()
    await asyncio.gather(lane(0), lane(4), lane(8))
    sent = {f"{p}-{number}-{n}" for p in (0, 4, 8) for number in range(25) for n in range(20)}
    assert oracle.check(database_dsn, bucket_id, sent, set()) == 1500


async def test_old_repeats_are_looked_up_in_the_index_of_a_young_chunk(stored: Stored) -> None:
    """Nothing has told the planner yet how many rows there are: it must not read them all."""
    rows, count = 20_000, 10_000
    await stored.maintenance.execute(
        "INSERT INTO events SELECT 1, 'boot', 'events', '', '', now(), i::text, now(), '', '{}'"
        " FROM generate_series(1, $1::int) AS i",
        rows,
    )
    for statement in (statements.KNOWN, statements.STAMPED_KNOWN):
        moment = await stored.maintenance.fetchval("SELECT min(observed_at) FROM events")
        arguments = ([1] * count, [str(i) for i in range(count)], [moment] * count)
        bounds = (moment - timedelta(hours=1), moment + timedelta(hours=1))
        plan = await stored.maintenance.fetch(f"EXPLAIN {statement}", *arguments, *bounds)
        text = "\n".join(row[0] for row in plan)
        # A join sorts all of the chunk's rows beside those that are looked for.
        assert "events_identity" in text, text
        assert not [word for word in ("Join", "Sort", "Seq Scan") if word in text], text
