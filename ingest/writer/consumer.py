"""Fetches records and hands them to lanes; follows the group's rebalances; pauses under pressure.

A partition that is assigned is paused at once and only read when a task of its own has learned from the
database where it goes on (``assignment``); so nothing in a rebalance callback waits for the database.
A partition that is revoked is taken from its lane. Kafka's own committed offsets are not used.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError

from ingest.writer.assignment import Assignment
from ingest.writer.batch import FetchedRecord
from ingest.writer.continuity import Continuity
from ingest.writer.lane import Lane
from schema.connections import new_group_consumer, stop_consumer
from schema.errors import Unavailable
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings
from schema.topics import ensure_topics

log = structlog.get_logger(__name__)

_POLL_MS = 200
_RELEASE_SECONDS = 4.0


class EventConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member of the writers' group."""

    def __init__(
        self, settings: WriterSettings, metrics: WriterMetrics, assignment: Assignment, lanes: Sequence[Lane]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._assignment = assignment
        self._continuity = Continuity(assignment)
        self._lanes = lanes
        self._consumer: AIOKafkaConsumer | None = None
        self._unprepared: set[int] = set()
        self._prepare = asyncio.Event()
        self._paused = False
        self._joined = False
        # By their places among those that are assigned: of two writers, each gets every second partition.
        self._ranks: dict[int, int] = {}
        # How often each partition was begun with.
        self._begun: Counter[int] = Counter()

    def lane(self, partition: int) -> Lane:
        """The lane that stores a partition."""
        return self._lanes[self._ranks.get(partition, partition) % len(self._lanes)]

    def lost(self, partitions: Iterable[int]) -> None:
        """A lane found that a partition stands elsewhere: learn anew where, if it is still ours."""
        self._unprepared |= set(partitions)
        self._prepare.set()

    @property
    def connected(self) -> bool:
        """Whether Kafka answered lately. A member without partitions is content to be in the group."""
        consumer = self._consumer
        if consumer is None:
            return False
        places = consumer.assignment()
        if not places:
            return self._joined
        answered_ms = max(consumer.last_poll_timestamp(place) or 0 for place in places)
        return self._paused or time.time() - answered_ms / 1000 < 2 * self._settings.session_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Fetch until ``stop``; survives any outage of Kafka. Raises what is a defect."""
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._prepare_loop())
            try:
                while not stop.is_set():
                    try:
                        await self._session(stop)
                    except (KafkaError, OSError, Unavailable) as error:
                        log.warning("Kafka does not answer, will be tried again", error=repr(error))
                        await asyncio.sleep(1.0)
            finally:
                preparing.cancel()

    async def _session(self, stop: asyncio.Event) -> None:
        # A topic that appears after the subscription would go unnoticed for minutes.
        await ensure_topics(self._settings)
        consumer = new_group_consumer(self._settings, self._settings.session_seconds)
        try:
            await consumer.start()
            self._consumer = consumer
            consumer.subscribe([self._settings.kafka_events_topic], listener=self)
            while not stop.is_set():
                await self._fetch(consumer)
        finally:
            self._consumer = None
            self._joined = False
            await stop_consumer(consumer, 5.0, "consumer")

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        self._press(consumer)
        try:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
        except OffsetOutOfRangeError as error:
            self._reprepare(consumer, {place.partition for place in error.args[0]})
            return
        begun = self._begun.copy()
        broken = await self._broken(consumer)
        for place, records in fetched.items():
            partition = place.partition
            # What was begun anew meanwhile is read from where it stands, which may lie before these.
            if partition in broken or self._begun[partition] != begun[partition]:
                continue
            self.lane(partition).offer(
                FetchedRecord(partition, record.offset, record.timestamp, record.value or b"")
                for record in records
            )
            self._continuity.read(partition, records[-1].offset, records[-1].value or b"")
        self._observe(consumer)

    async def _broken(self, consumer: AIOKafkaConsumer) -> set[int]:
        """Partitions whose log may have been replaced while Kafka was silent: prepared again, not read on."""
        answered_ms = {
            place.partition: consumer.last_poll_timestamp(place) or 0
            for place in consumer.assignment()
            if place.partition not in self._unprepared
        }
        broken = await self._continuity.broken(answered_ms)
        if broken:
            log.warning("the log may be another one after a silence", partitions=sorted(broken))
            assigned = {place.partition for place in consumer.assignment()}
            self._reprepare(consumer, broken & assigned)
        return broken

    def _press(self, consumer: AIOKafkaConsumer) -> None:
        """Pause everything while too much waits for the database; resume at half of it."""
        queued = sum(lane.queued_bytes for lane in self._lanes)
        self._metrics.queue_bytes.set(queued)
        prepared = [p for p in consumer.assignment() if p.partition not in self._unprepared]
        if not self._paused and queued > self._settings.queue_bytes:
            self._paused = True
            log.info("fetching paused", queued_bytes=queued)
        elif self._paused and queued < self._settings.queue_bytes / 2:
            self._paused = False
            consumer.resume(*prepared)
            log.info("fetching resumed", queued_bytes=queued)
        if self._paused:
            consumer.pause(*prepared)

    def _observe(self, consumer: AIOKafkaConsumer) -> None:
        for place in consumer.assignment():
            standing = self.lane(place.partition).standing(place.partition)
            end = consumer.highwater(place)
            if standing is not None and end is not None:
                self._metrics.lag.labels(str(place.partition)).set(max(0, end - standing.next_offset))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Take partitions from their lanes, within the time that a rebalance leaves."""
        partitions = {place.partition for place in revoked}
        self._unprepared -= partitions
        by_lane: dict[Lane, set[int]] = {}
        for partition in partitions:
            self._continuity.forget(partition)
            by_lane.setdefault(self.lane(partition), set()).add(partition)
            self._metrics.lag.remove(str(partition))
        await asyncio.gather(*(lane.release(some, _RELEASE_SECONDS) for lane, some in by_lane.items()))
        if partitions:
            log.info("partitions revoked", partitions=sorted(partitions))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Hold partitions back until it is known where they go on."""
        self._joined = True
        consumer = self._consumer
        places = list(assigned)
        if consumer is None or not places:
            return
        self._ranks = {partition: rank for rank, partition in enumerate(sorted(p.partition for p in places))}
        self._reprepare(consumer, {place.partition for place in places})
        log.info("partitions assigned", partitions=sorted(place.partition for place in places))

    def _reprepare(self, consumer: AIOKafkaConsumer, partitions: set[int]) -> None:
        """Stop reading partitions until it is known where they go on."""
        places = [TopicPartition(self._settings.kafka_events_topic, partition) for partition in partitions]
        consumer.pause(*places)
        for place in places:
            # Any position will do: without one the client would look for a committed offset, and fail.
            consumer.seek(place, 0)
        self._unprepared |= partitions
        self._prepare.set()

    async def _prepare_loop(self) -> None:
        while True:
            await self._prepare.wait()
            self._prepare.clear()
            for partition in sorted(self._unprepared):
                try:
                    await self._prepare_partition(partition)
                except (Unavailable, asyncpg.PostgresError) as error:
                    log.warning("partition not ready yet", partition=partition, error=str(error))
            if self._unprepared:
                await asyncio.sleep(0.5)
                self._prepare.set()

    async def _prepare_partition(self, partition: int) -> None:
        consumer: AIOKafkaConsumer | None = self._consumer
        place = TopicPartition(self._settings.kafka_events_topic, partition)
        if consumer is None or place not in consumer.assignment():
            self._unprepared.discard(partition)
            return
        standing = await self._assignment.standing(partition)
        # Whatever a lane still has of the partition was fetched from elsewhere.
        for lane in self._lanes:
            await lane.release({partition}, 0)
        if not self._still_awaits(consumer, partition):
            return
        try:
            # From here on nothing comes in between.
            consumer.seek(place, standing.next_offset)
            self._begun[partition] += 1
            self.lane(partition).take_over(partition, standing)
            self._continuity.begin(partition)
            self._unprepared.discard(partition)
            if not self._paused:
                consumer.resume(place)
        except IllegalStateError:
            self._unprepared.discard(partition)

    def _still_awaits(self, consumer: AIOKafkaConsumer, partition: int) -> bool:
        """Whether no session began and nothing was revoked while we asked for its standing."""
        return consumer is self._consumer and partition in self._unprepared
