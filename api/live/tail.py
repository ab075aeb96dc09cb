"""The end of the events topic, read for the subscribers of this process while it has some.

No consumer group: every process reads all of the topic, for its own subscribers. Guarantee: whatever is
accepted after ``positioned`` was set is read, in each partition's order. While Kafka is away the feed pauses
and then goes on where it was; where that would be far behind, it goes on at the end instead, since what is
live does not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schema.connections import kafka_errors, new_tail, stop_consumer
from schema.errors import Unavailable
from schema.metrics import LiveMetrics
from schema.settings import KafkaSettings

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.5
_POLL_RECORDS = 50
# A broker that is away is no error to the client, only silence.
_PROBE_SECONDS = 3.0
_RETRY_SECONDS = 0.5
_STOP_SECONDS = 2.0
# A longer pause than this is not made up for.
_LONGEST_PAUSE_SECONDS = 60.0
_MOST_BEHIND_RECORDS = 5_000


class Tail:
    """One reading of the topic; ``run`` it as a task, and cancel that.

    ``take``: partition, offset, value of each record. ``resume``: called before the feed goes on after a
    pause.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        take: Callable[[int, int, bytes], None],
        resume: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        metrics: LiveMetrics,
    ) -> None:
        self._settings = settings
        self._topic = settings.kafka_events_topic
        self._take = take
        self._resume = resume
        self._clock = clock
        self._metrics = metrics
        self._positions: dict[int, int] = {}
        self._well_at = clock()
        self._paused = False
        self.positioned = asyncio.Event()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                with kafka_errors():
                    await self._read()
            except Unavailable as error:
                self._pause(error.message)
            except Exception:
                # Subscribers would wait for ever, and the records that did it must not do it again.
                log.exception("live feed failed")
                self._positions.clear()
                self._pause("failed unexpectedly; the log has it")
            await asyncio.sleep(_RETRY_SECONDS)

    def _pause(self, reason: str) -> None:
        if self.trouble is None:
            self._metrics.pauses.inc()
            log.warning("live feed pauses", reason=reason)
        self.trouble = reason
        self._paused = True
        self._metrics.reading.set(0)

    async def _read(self) -> None:
        """Read until an error ends it."""
        client = new_tail(self._settings)
        try:
            async with asyncio.timeout(2 * self._settings.kafka_request_seconds):
                await client.start()
                await self._position(client)
            self.positioned.set()
            self._metrics.reading.set(1)
            if self._paused:
                await self._resume()
                log.info("live feed goes on")
            self._paused, self.trouble = False, None
            while True:
                await self._read_some(client)
        finally:
            await stop_consumer(client, _STOP_SECONDS, "live feed")

    async def _position(self, client: AIOKafkaConsumer) -> None:
        numbers = client.partitions_for_topic(self._topic)
        if not numbers:
            # The client learns of a topic by being asked about it.
            await client.end_offsets([TopicPartition(self._topic, 0)])
            numbers = client.partitions_for_topic(self._topic)
        if not numbers:
            raise Unavailable(f"Kafka: has no topic {self._topic}")
        places = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        client.assign(places)
        ends = await client.end_offsets(places)
        too_old = self._clock() - self._well_at > _LONGEST_PAUSE_SECONDS
        for place in places:
            end = ends[place]
            known = self._positions.get(place.partition)
            if known is None or known > end or too_old or end - known > _MOST_BEHIND_RECORDS:
                if known is not None:
                    self._metrics.skipped.inc()
                known = end
            self._positions[place.partition] = known
            client.seek(place, known)
        self._well_at = self._clock()

    async def _read_some(self, client: AIOKafkaConsumer) -> None:
        found = await client.getmany(timeout_ms=int(_POLL_SECONDS * 1000), max_records=_POLL_RECORDS)
        now = self._clock()
        if not found:
            if now - self._well_at > _PROBE_SECONDS:
                async with asyncio.timeout(self._settings.kafka_request_seconds):
                    await client.end_offsets(self._places(self._positions))
                self._well_at = self._clock()
            return
        self._well_at = now
        for place, records in found.items():
            for record in records:
                self._positions[place.partition] = record.offset + 1
                self._take(place.partition, record.offset, record.value or b"")
                # The doors of this process have their turn between any two.
                await asyncio.sleep(0)
            self._catch_up(client, place)

    def _catch_up(self, client: AIOKafkaConsumer, place: TopicPartition) -> None:
        end = client.highwater(place)
        if end is not None and end - self._positions[place.partition] > _MOST_BEHIND_RECORDS:
            log.warning("live feed is behind and goes on at the end", partition=place.partition)
            self._metrics.skipped.inc()
            self._positions[place.partition] = end
            client.seek(place, end)

    def _places(self, numbers: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in numbers]
