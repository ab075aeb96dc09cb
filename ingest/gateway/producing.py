"""The Kafka producer of the gateway, which may be given up and made anew at any moment.

An idempotent producer of aiokafka never expires a batch: with a broker that is frozen or gone, its
sends and its ``stop()`` wait for ever, and a sender task that died fails everything until there is a
new producer. So whoever sees that it is stuck calls ``give_up``: its waiters fail at once, its
connections are cut without flushing (their buffers are memory), and a new producer is made in the
background, for as long as it takes. In between there is none, and requests are refused at once.

What was given up may still land: a broker that wakes up reads what lies in its sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from schema.connections import kafka_errors, new_producer, stop_within
from schema.errors import Unavailable
from schema.metrics import GatewayMetrics
from schema.settings import KafkaSettings
from schema.topics import ensure_topics

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_ABANDON_SECONDS = 10.0


class Producing:
    """At most one producer at a time. ``partitions``: those of the events topic, as Kafka has them."""

    def __init__(self, settings: KafkaSettings, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._topics_ensured = False
        self._given_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._abandoning: set[asyncio.Task[None]] = set()
        self.producer: AIOKafkaProducer | None = None
        self.partitions = 0
        self.trouble = "not connected yet"

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._keeper = asyncio.create_task(self._keep())

    def current(self) -> AIOKafkaProducer:
        """The producer. Raises Unavailable at once while there is none."""
        if self.producer is None:
            raise Unavailable(f"Kafka: {self.trouble}")
        return self.producer

    def give_up(self, producer: AIOKafkaProducer, reason: str) -> None:
        """Drop ``producer`` if it is still the current one; everybody who waits for it fails."""
        if producer is not self.producer:
            return
        log.warning("producer given up", reason=reason)
        self.producer = None
        self.trouble = reason
        self._metrics.producer_rebuilds.inc()
        self._abandon(producer, reason)
        self._given_up.set()

    async def close(self, grace_seconds: float) -> None:
        """Flush and stop, within ``grace_seconds``."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        producer, self.producer = self.producer, None
        self.trouble = "stopping"
        if producer is not None:
            await stop_within(producer.stop(), grace_seconds, "producer")
            self._abandon(producer, "stopping")
        if self._abandoning:
            await asyncio.wait(self._abandoning, timeout=grace_seconds)

    async def _keep(self) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                producer = await self._connect()
            except Unavailable as error:
                self.trouble = error.message.removeprefix("Kafka: ")
                log.warning("no producer yet", reason=error.message, pause_seconds=pause_seconds)
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                continue
            pause_seconds = _FIRST_PAUSE_SECONDS
            self._given_up.clear()
            self.producer = producer
            log.info("producer ready", partitions=self.partitions)
            await self._given_up.wait()

    async def _connect(self) -> AIOKafkaProducer:
        """A started producer that knows its topic. Raises Unavailable within two requests' time."""
        bound_seconds = 2 * self._settings.kafka_request_seconds
        if not self._topics_ensured:
            # Before the first metadata request: a broker may be set to make a topic up, with one partition.
            with kafka_errors():
                async with asyncio.timeout(bound_seconds):
                    created = await ensure_topics(self._settings)
            self._topics_ensured = True
            if created:
                log.info("topics made", topics=created)
        producer = new_producer(self._settings)
        try:
            with kafka_errors():
                async with asyncio.timeout(bound_seconds):
                    await producer.start()
                    known = await producer.partitions_for(self._settings.kafka_events_topic)
        except BaseException:
            self._abandon(producer, "could not start")
            raise
        self._notice_partitions(len(known))
        sender: Any = producer._sender.sender_task  # noqa: SLF001 - its death is announced nowhere else
        sender.add_done_callback(lambda _task: self.give_up(producer, "the producer's sender ended"))
        return producer

    def _notice_partitions(self, count: int) -> None:
        if count != self._settings.kafka_partitions:
            log.error(
                "partitions differ from the setting", topic=count, setting=self._settings.kafka_partitions
            )
        if self.partitions and count != self.partitions:
            log.error("the topic's partitions have changed: repeats may go unnoticed", before=self.partitions)
        self.partitions = count

    def _abandon(self, producer: AIOKafkaProducer, reason: str) -> None:
        cut(producer, KafkaConnectionError(reason))
        task = asyncio.create_task(stop_within(_end(producer), _ABANDON_SECONDS, "abandoned producer"))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)


def cut(producer: AIOKafkaProducer, error: KafkaError) -> None:
    """Fail whatever waits for ``producer`` and cut its connections, now and without waiting.

    aiokafka has no call for it: ``stop()`` waits for the broker, and closing a connection waits until
    its buffer is sent.
    """
    internals: Any = producer
    internals._closed = True  # noqa: SLF001
    accumulator = internals._message_accumulator  # noqa: SLF001
    accumulator._closed = True  # noqa: SLF001
    accumulator.fail_all(error)
    accumulator._batches.clear()  # noqa: SLF001
    for connection in list(internals.client._conns.values()):  # noqa: SLF001
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001
        connection.close(exc=error)


async def _end(producer: AIOKafkaProducer) -> None:
    """End the tasks of a producer that was cut."""
    internals: Any = producer
    sender = internals._sender.sender_task  # noqa: SLF001
    if sender is not None and not sender.done():
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError, KafkaError):
            await sender
    await internals.client.close()
