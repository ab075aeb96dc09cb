"""A lane: one database connection, some of the partitions, and the batches between them.

Concurrency: the consumer offers records from its own task; everything else happens in the lane's task,
one batch at a time. A batch is closed by its size or its age. It is tried until it is stored, or until
the offsets say that its partition is somebody else's; after any failure the offsets are read again,
because a commit whose answer was lost may have happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

import asyncpg
import structlog

from ingest.writer.batch import Batch, FetchedRecord, Standing
from ingest.writer.poison import Poisoned
from ingest.writer.portions import bounded, smaller
from ingest.writer.recent import Recent
from ingest.writer.store import Outcome, Publish, StaleOffsets, Store
from schema.connections import Connection, Duty, database_errors, open_connection
from schema.errors import Unavailable
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings

log = structlog.get_logger(__name__)

_SQL_STANDINGS = """
SELECT partition, epoch, next_offset FROM partition_offsets WHERE topic = $1 AND partition = ANY($2::int[])
"""
_LEAST_DELAY_SECONDS = 0.05
_MAX_DELAY_SECONDS = 2.0


class Lane:
    """Stores what it is offered, in order for each partition."""

    def __init__(
        self,
        settings: WriterSettings,
        metrics: WriterMetrics,
        publish_letters: Publish,
        lost: Callable[[Iterable[int]], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._publish_letters = publish_letters
        self._lost = lost
        self._recent = Recent()
        self._pending: deque[FetchedRecord] = deque()
        self._pending_bytes = 0
        self._oldest_at = 0.0
        # Where each partition stands in the database, and which offset is to be offered next.
        self._standings: dict[int, Standing] = {}
        self._expected: dict[int, int] = {}
        self._fresh: set[int] = set()
        self._holes: dict[int, tuple[int, int]] = {}
        self.newest_at = 0.0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy: set[int] = set()
        self._stopping = False
        self._connection: Connection | None = None
        self._store: Store | None = None

    @property
    def queued_bytes(self) -> int:
        """Record bytes offered and not yet stored, the batch in hand included."""
        return self._pending_bytes

    def standing(self, partition: int) -> Standing | None:
        """Where a partition stands, if it is ours."""
        return self._standings.get(partition)

    def take_over(self, partition: int, standing: Standing) -> None:
        """From now on accept the partition's records, from ``standing`` on."""
        self._standings[partition] = standing
        self._expected[partition] = standing.next_offset
        self._fresh.add(partition)

    def offer(self, records: Iterable[FetchedRecord]) -> None:
        """Queue records of one partition, in order; each must follow on the one before it.

        A hole right behind the place that we asked for is the log's own. Anywhere else records may have gone
        missing on the way: the partition is read again from where it stands, and a hole that is still there
        then is the log's too (a foreign transaction's marker leaves one).
        """
        for record in records:
            expected = self._expected.get(record.partition)
            if expected is None or record.offset < expected:
                continue
            if record.offset > expected:
                log.warning(
                    "hole before a record",
                    partition=record.partition,
                    offset=record.offset,
                    expected_offset=expected,
                )
                hole = (expected, record.offset)
                if record.partition not in self._fresh and self._holes.get(record.partition) != hole:
                    self._holes[record.partition] = hole
                    self._forget({record.partition})
                    self._lost({record.partition})
                    break
            self._fresh.discard(record.partition)
            self._expected[record.partition] = record.offset + 1
            if not self._pending:
                self._oldest_at = time.monotonic()
            self._pending.append(record)
            self._pending_bytes += len(record.value)
        self._arrived.set()

    async def release(self, partitions: set[int], grace_seconds: float) -> None:
        """Forget partitions; wait a little for the batch in hand, which the next owner would repeat."""
        self._forget(partitions)
        if self._busy & partitions:
            try:
                await asyncio.wait_for(self._idle.wait(), grace_seconds)
            except TimeoutError:
                log.warning("partitions released with a batch in hand", partitions=sorted(partitions))

    def _forget(self, partitions: set[int]) -> None:
        kept = [record for record in self._pending if record.partition not in partitions]
        self._pending_bytes -= sum(len(r.value) for r in self._pending) - sum(len(r.value) for r in kept)
        self._pending = deque(kept)
        for partition in partitions:
            self._standings.pop(partition, None)
            self._expected.pop(partition, None)
            self._fresh.discard(partition)

    def stop(self) -> None:
        """Finish the batch in hand and end."""
        self._stopping = True
        self._arrived.set()

    async def run(self) -> None:
        """Until ``stop``. Raises what must end the process (DeadLetterFlood, defects)."""
        try:
            while batch := await self._next_batch():
                self._busy = {record.partition for record in batch.records}
                self._idle.clear()
                size = batch.bytes
                try:
                    await self._store_batch(batch)
                finally:
                    self._pending_bytes -= size
                    self._busy = set()
                    self._idle.set()
        finally:
            self._disconnect()

    async def _next_batch(self) -> Batch | None:
        """The next batch, or None when stopping."""
        settings = self._settings
        while not self._stopping:
            if not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            remaining = self._oldest_at + settings.batch_seconds - time.monotonic()
            if remaining > 0 and self._pending_bytes < settings.batch_bytes:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), remaining)
                continue
            # A copy: the partition may be released and taken over again while the batch is in hand.
            batch = Batch(standings=dict(self._standings))
            while (
                self._pending and batch.events < settings.batch_events and batch.bytes < settings.batch_bytes
            ):
                batch.add(self._pending.popleft())
            self._oldest_at = time.monotonic() - settings.batch_seconds if self._pending else 0.0
            return batch
        return None

    async def _store_batch(self, batch: Batch) -> None:
        """Store a batch, in parts where the whole takes too long, or give up what is not ours any more."""
        parts = [batch]
        delay = _LEAST_DELAY_SECONDS
        while parts:
            part = parts[0]
            started = time.monotonic()
            try:
                store = await self._ready_store()
                if len(portions := bounded(part, store.chunks())) > 1:
                    parts[:1] = portions
                    continue
                with database_errors():
                    outcome = await store.write(part)
                self._advance(part)
                self._observe(part, outcome, time.monotonic() - started)
                del parts[0]
                delay = _LEAST_DELAY_SECONDS
                continue
            except Poisoned as error:
                # Trying it again would find the same again, and as slowly.
                log.warning("rows that cannot be stored are too many", records=len(part.records))
                parts[:1] = part.halves() if len(part.records) > 1 else [part.buried(error.message)]
                continue
            except StaleOffsets as error:
                self._metrics.stale_offsets.inc()
                log.warning("offsets moved by another writer", partitions=sorted(error.partitions))
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                self._metrics.retries.labels("conflict").inc()
                log.info("transaction conflicts, tried again", error=repr(error))
                await asyncio.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - spreads retries, guards nothing
                continue
            except (Unavailable, asyncpg.PostgresError) as error:
                self._metrics.retries.labels("unavailable").inc()
                log.warning("batch not stored, will be tried again", error=str(error), delay_seconds=delay)
                chunks = None if self._store is None else self._store.chunks()
                self._disconnect()
                if self._stopping:
                    return
                too_long = time.monotonic() - started > 0.9 * self._settings.transaction_seconds
                # What there is no memory for, too, may be locks.
                if chunks is not None and (too_long or isinstance(error, asyncpg.OutOfMemoryError)):
                    parts[:1] = smaller(part, chunks)
                await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - spreads retries, guards nothing
                delay = min(delay * 2, _MAX_DELAY_SECONDS)
            parts = [part for part in await self._reconciled(parts) if part.records]

    def _advance(self, batch: Batch) -> None:
        if not batch.moves_offsets:
            return
        for partition, (next_offset, _) in batch.ends().items():
            if self._standings.get(partition) == batch.standings[partition]:
                self._standings[partition] = Standing(batch.standings[partition].epoch, next_offset)

    async def _reconciled(self, parts: list[Batch]) -> list[Batch]:
        """The parts less what is stored already, and less what is not ours any more."""
        batch, rest = parts[0], parts[1:]
        ends = batch.ends()
        try:
            await self._ready_store()
            assert self._connection is not None
            with database_errors():
                rows = await self._connection.fetch(
                    _SQL_STANDINGS, self._settings.kafka_events_topic, list(ends)
                )
        except (Unavailable, asyncpg.PostgresError):
            self._disconnect()
            return parts
        found = {row["partition"]: Standing(row["epoch"], row["next_offset"]) for row in rows}
        settled: set[int] = set()
        lost: set[int] = set()
        for partition, (next_offset, _) in ends.items():
            standing = batch.standings[partition]
            actual = found.get(partition)
            if actual == Standing(standing.epoch, next_offset):
                # Our commit, whose answer was lost.
                if self._standings.get(partition) == standing:
                    self._standings[partition] = actual
                settled.add(partition)
            elif actual != standing:
                lost.add(partition)
        if lost:
            self._forget(lost)
            self._lost(lost)
        if settled | lost:
            batch = batch.without(settled | lost)
        if lost:
            rest = [part.without(lost) for part in rest]
        return [batch, *rest]

    async def _ready_store(self) -> Store:
        if self._store is None:
            settings = self._settings
            milliseconds = int(settings.transaction_seconds * 1000)
            self._connection = connection = await open_connection(
                settings,
                Duty.WRITER,
                server_settings={
                    "transaction_timeout": str(milliseconds),
                    "idle_in_transaction_session_timeout": str(milliseconds),
                    # Late rows may meet compressed ones; how many are unpacked is bounded by time.
                    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
                },
                command_seconds=settings.transaction_seconds,
            )
            with database_errors():
                edition = await connection.fetchval("SELECT edition FROM store_state")
                store = Store(connection, settings, edition, self._publish_letters, self._recent)
                await store.prepare()
            self._store = store
        return self._store

    def _disconnect(self) -> None:
        connection, self._connection, self._store = self._connection, None, None
        if connection is not None:
            connection.terminate()

    def _observe(self, batch: Batch, outcome: Outcome, seconds: float) -> None:
        metrics = self._metrics
        metrics.batch_events.observe(batch.events)
        metrics.write_seconds.observe(seconds)
        metrics.stored.labels("event").inc(outcome.stored)
        metrics.stored.labels("node_report").inc(outcome.node_reports)
        metrics.duplicates.inc(outcome.duplicates)
        metrics.fenced.inc(outcome.fenced)
        metrics.staged_events.inc(outcome.staged)
        for kind, count in outcome.letters.items():
            metrics.dead_letters.labels(kind).inc(count)
        self.newest_at = max(record.at_ms for record in batch.records) / 1000
        log.debug(
            "batch stored",
            events=batch.events,
            records=len(batch.records),
            stored=outcome.stored,
            duplicates=outcome.duplicates,
            dead_letters=outcome.letters.total(),
            seconds=round(seconds, 4),
        )
