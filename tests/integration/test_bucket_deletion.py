"""A deleted bucket: nothing that is on its way is stored any more, and nothing of it is left behind."""

from __future__ import annotations

import psycopg

from ingest.writer.batch import Batch, FetchedRecord, Standing
from ingest.writer.purge import purge
from query.interval import DAY, SECOND
from schema.records import NODE_REPORTS, Segment, encode_node_report, encode_record
from tests.support.api_door import Door
from tests.support.stored import RECORD_AT_MS, Occurrence, Stored

NOON = 1_790_000_000 * SECOND // DAY * DAY
EVENTS = [Occurrence(NOON + i * SECOND, f"e{i}", "boot", "shop", "one", "d1") for i in range(20)]


def counts(dsn: str, bucket: str, key: int) -> dict[str, int]:
    """Rows that are left of a bucket, by table."""
    found = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table in ("events", "event_counts_minute", "event_counts_hour", "event_counts_day"):
            row = connection.execute(f"SELECT count(*) FROM {table} WHERE bucket_key = %s".encode(), [key])
            found[table] = int((row.fetchone() or (0,))[0])
        row = connection.execute("SELECT count(*) FROM node_reports WHERE bucket_id = %s", [bucket])
        found["node_reports"] = int((row.fetchone() or (0,))[0])
    return found


async def test_what_is_on_its_way_is_dropped_and_what_was_there_goes(
    api: Door, stored: Stored, database_dsn: str
) -> None:
    bucket, other = api.buckets["first"], api.buckets["second"]
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        key, other_key = (
            connection.execute("SELECT bucket_key FROM buckets WHERE bucket_id = %s", [one]).fetchone()
            for one in (bucket, other)
        )
    assert key is not None
    assert other_key is not None
    for one in (bucket, other):
        await stored.write(one, EVENTS)
        await write_report(stored, one)
    await stored.maintain()
    assert all(counts(database_dsn, bucket, key[0]).values())
    before = counts(database_dsn, other, other_key[0])

    assert (await api.ask("DELETE", f"/api/bucket/{bucket}", {})).status == 200
    late = [Occurrence(event.observed_at, f"late {event.id}") for event in EVENTS]
    outcome = await stored.write(bucket, late)
    assert (outcome.fenced, outcome.stored) == (len(late), 0)
    assert await write_report(stored, bucket, host="late") == 0
    assert not stored.letters

    purged: list[float] = []
    await purge(stored.maintenance, stored.edition, 0, purged.append)
    assert purged == [len(EVENTS)]
    assert not any(counts(database_dsn, bucket, key[0]).values())
    assert counts(database_dsn, other, other_key[0]) == before
    # It stays that way: the mark outlives what it was for.
    assert (await stored.write(bucket, late)).fenced == len(late)
    await purge(stored.maintenance, stored.edition, 0, purged.append)
    assert len(purged) == 1


async def write_report(stored: Stored, bucket: str, host: str = "one") -> int:
    """One node report, through the writer's transaction; how many were stored."""
    standing = await stored._standing(0)
    batch = Batch(standings={0: standing})
    segment = Segment(
        NODE_REPORTS,
        0,
        bytes.fromhex(bucket),
        b"",
        [encode_node_report(NOON, host, "10.0.0.1", NOON, "1.0", "ONLINE", None, 60)],
    )
    batch.add(FetchedRecord(0, standing.next_offset, RECORD_AT_MS, encode_record(bytes(16), [segment])))
    outcome = await stored.store.write(batch)
    stored.standings[0] = Standing(standing.epoch, standing.next_offset + 1)
    return outcome.node_reports
