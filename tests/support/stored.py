"""Events put into a test's database by the writer's own transaction and maintenance, without a Kafka between.

`Stored` opens connections with the rights of the writer and of maintenance; `Occurrence` is an event as a
test thinks of it. What the store should hold afterwards is kept beside it (`Stored.model`), so that a test
need not ask the database that it judges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby

from ingest.writer import device_days, refresh, retention, shards
from ingest.writer.batch import Batch, DeadLetter, FetchedRecord, Standing
from ingest.writer.maintenance import SESSION
from ingest.writer.recent import Recent
from ingest.writer.store import Outcome, Store
from schema.connections import Connection, Duty, open_connection
from schema.records import EVENTS, Segment, encode_event, encode_labels, encode_record
from schema.settings import WriterSettings

RECORD_AT_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Occurrence:
    """One event. ``observed_at``: microseconds since 1970; with its id it is its identity in a bucket."""

    observed_at: int
    id: str
    name: str = "boot"
    app: str = ""
    server: str = ""
    device: str = ""
    data: bytes = b"{}"
    stream: str = "events"

    @property
    def identity(self) -> tuple[int, str]:
        return self.observed_at, self.id


@dataclass(slots=True)
class Stored:
    """A database that is written to; ``model``: bucket id → identity → the event that was stored first."""

    writer: Connection
    maintenance: Connection
    edition: str
    settings: WriterSettings
    store: Store
    model: dict[str, dict[tuple[int, str], Occurrence]] = field(default_factory=lambda: defaultdict(dict))
    standings: dict[int, Standing] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    async def write(self, bucket_id: str, events: Sequence[Occurrence], *, partition: int = 0) -> Outcome:
        """One record with these events, stored in one transaction."""
        standing = await self._standing(partition)
        batch = Batch(standings={partition: standing})
        value = encode_record(bytes(16), segments(bucket_id, events))
        batch.add(FetchedRecord(partition, standing.next_offset, RECORD_AT_MS, value))
        outcome = await self.store.write(batch)
        self.standings[partition] = Standing(standing.epoch, standing.next_offset + 1)
        for event in events:
            self.model[bucket_id].setdefault(event.identity, event)
        return outcome

    async def _standing(self, partition: int) -> Standing:
        if partition not in self.standings:
            place = (self.settings.kafka_events_topic, partition)
            await self.writer.execute(
                "INSERT INTO partition_offsets (topic, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                *place,
            )
            row = await self.writer.fetchrow(
                "SELECT epoch, next_offset FROM partition_offsets WHERE topic = $1 AND partition = $2", *place
            )
            assert row is not None
            self.standings[partition] = Standing(row["epoch"], row["next_offset"])
        return self.standings[partition]

    async def maintain(self, *, late: bool = True, margin_seconds: float = 0) -> None:
        """What maintenance does of its own accord; no margin is right where nobody has a transaction open."""
        if self.edition == "apache":
            await device_days.build(self.maintenance, margin_seconds)
            await shards.merge(self.maintenance, margin_seconds)
        elif late:
            await refresh.refresh_late(self.maintenance, margin_seconds)
        else:
            await refresh.refresh_current(self.maintenance, margin_seconds)

    async def drop_raw_rows(self, days: int) -> None:
        """Move the raw floor to the start of the day ``days`` ago, and drop what is below."""
        await retention.drop(self.maintenance, self.edition, days, 0)


@asynccontextmanager
async def stored_in(
    dsn: str, *, topic: str = "weir.events", hold: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[Stored]:
    """A writer and a maintainer of the database at ``dsn`` (a superuser's).

    ``hold``: awaited by a transaction that has dead letters, when all but these and its COMMIT is done.
    """
    settings = WriterSettings(database_dsn=dsn, kafka_events_topic=topic, database_command_seconds=60)
    writer = await open_connection(settings, Duty.WRITER)
    maintenance = await open_connection(settings, Duty.MAINTENANCE, server_settings=SESSION)
    letters: list[DeadLetter] = []

    async def publish(found: list[DeadLetter], _epochs: dict[int, int]) -> None:
        letters.extend(found)
        if hold is not None:
            await hold()

    try:
        edition = await writer.fetchval("SELECT edition FROM store_state")
        store = Store(writer, settings, edition, publish, Recent())
        await store.prepare()
        yield Stored(writer, maintenance, edition, settings, store, letters=letters)
    finally:
        await writer.close(timeout=5)
        await maintenance.close(timeout=5)


def segments(bucket_id: str, events: Iterable[Occurrence]) -> list[Segment]:
    """The events as they travel: one segment for each run of equal labels."""
    return [
        Segment(
            EVENTS,
            0,
            bytes.fromhex(bucket_id),
            encode_labels(name, stream, app, server),
            [encode_event(e.observed_at, e.id, e.observed_at, e.device, e.data) for e in run],
        )
        for (name, stream, app, server), run in groupby(
            events, key=lambda e: (e.name, e.stream, e.app, e.server)
        )
    ]
