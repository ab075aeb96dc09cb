"""Events become records, and a request learns when Kafka has acknowledged all of its own.

For each partition the publisher gathers what concurrent requests bring within ``gather_seconds``, or
until ``record_bytes`` are together, into one record: a record costs as much to produce as a hundred
events inside one. A request waits for its records and no others. Guarantees: no answer before the
acknowledgement; no wait beyond ``publish_seconds`` (then Unavailable: it may have landed or not);
never more than ``in_flight_bytes`` held, counted until the client library has let go of them.

Everything runs on one event loop; nothing between two awaits is seen half done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import lru_cache

import structlog
import uuid_utils
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    DuplicateSequenceNumber,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)

from ingest.gateway.admission import EVENT_OVERHEAD_BYTES, SEGMENT_OVERHEAD_BYTES, Admitted, Part
from ingest.gateway.producing import Producing
from schema.errors import Overloaded, Unavailable
from schema.metrics import GatewayMetrics
from schema.records import Segment, encode_labels, encode_record
from schema.settings import GatewaySettings

log = structlog.get_logger(__name__)

# What a waiting request costs beside its events: its task, its connection's buffers.
REQUEST_OVERHEAD_BYTES = 8 * 1024
# A record's header counts its segments in two bytes.
_MAX_SEGMENTS = 10_000
_REMEMBERED_CHARACTERS = 200

# What a broker says to a producer whose identity another one has, as after Kafka's folder was put back. Its
# records are numbered on; where a number meets one of the other's, the broker takes the record for a repeat
# and acknowledges it.
_NOT_ITS_OWN = (
    DuplicateSequenceNumber,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    UnknownProducerId,
)

_SegmentKey = tuple[int, int, bytes, bytes]


class Delivery:
    """One request's events on their way: done when every record that carries some is acknowledged."""

    __slots__ = ("done", "last_offsets", "records_out")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.records_out = 0
        self.last_offsets: dict[int, int] = {}

    def acknowledged(self, partition: int, offset: int) -> None:
        """One of its records is at ``offset``."""
        self.last_offsets[partition] = max(offset, self.last_offsets.get(partition, -1))
        self.records_out -= 1
        if self.records_out == 0 and not self.done.done():
            self.done.set_result(None)

    def failed(self, message: str) -> None:
        """One of its records will not be acknowledged."""
        if not self.done.done():
            # Each its own: one error raised in many requests would hold on to all of their frames.
            self.done.set_exception(Unavailable(message))


class _Record:
    """A record while it is gathered, and until it is acknowledged."""

    __slots__ = ("deliveries", "events", "held_bytes", "opened_at", "partition", "segments", "size_bytes")

    def __init__(self, partition: int, opened_at: float) -> None:
        self.partition = partition
        self.opened_at = opened_at
        self.segments: dict[_SegmentKey, list[bytes]] = {}
        self.deliveries: list[Delivery] = []
        self.events = 0
        self.size_bytes = 0
        self.held_bytes = 0

    def add(self, key: _SegmentKey, tails: list[bytes], tails_bytes: int, delivery: Delivery) -> int:
        """Returns what it costs to hold them."""
        held_bytes = tails_bytes + EVENT_OVERHEAD_BYTES * len(tails)
        present = self.segments.get(key)
        if present is None:
            self.segments[key] = tails
            self.size_bytes += len(key[3]) + 32
            held_bytes += len(key[3]) + SEGMENT_OVERHEAD_BYTES
        else:
            present.extend(tails)
        self.events += len(tails)
        self.size_bytes += tails_bytes
        self.held_bytes += held_bytes
        if not self.deliveries or self.deliveries[-1] is not delivery:
            self.deliveries.append(delivery)
            delivery.records_out += 1
        return held_bytes

    def fail(self, message: str) -> None:
        for delivery in self.deliveries:
            delivery.failed(message)


class Publisher:
    """Gathers, sends and settles. One for each process."""

    def __init__(self, settings: GatewaySettings, producing: Producing, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._producing = producing
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, _Record] = {}
        self._gather_end: asyncio.Handle | None = None
        self._sending: set[asyncio.Task[None]] = set()
        # Of the current producer: the last place in each partition that was acknowledged.
        self._reached: tuple[AIOKafkaProducer | None, dict[int, int]] = (None, {})
        self.held_bytes = 0
        metrics.queued_bytes.set_function(lambda: self.held_bytes)

    def check(self) -> None:
        """Refuse early what could not be published: Unavailable without a producer, Overloaded when full."""
        self._producing.current()
        if self.held_bytes >= self._settings.in_flight_bytes:
            raise _full()

    async def publish(self, admitted: Admitted) -> dict[int, int]:
        """Publish what was admitted; partition → offset of the last record that carries some of it.

        Raises Overloaded (nothing was published) or Unavailable (some or all of it may have been).
        """
        self._producing.current()
        if self.held_bytes + admitted.held_bytes + REQUEST_OVERHEAD_BYTES > self._settings.in_flight_bytes:
            raise _full()
        delivery = Delivery(self._loop.create_future())
        waiting_bytes = REQUEST_OVERHEAD_BYTES + admitted.answer_bytes
        self.held_bytes += waiting_bytes
        try:
            for part in admitted.parts:
                self._put(admitted.bucket, part, delivery)
            # The records hold them now, and let go of them before they are acknowledged.
            admitted.parts.clear()
            await delivery.done
            return delivery.last_offsets
        finally:
            self.held_bytes -= waiting_bytes
            # Its future holds the error, the error this frame and the request's: no cycle may keep them all.
            del delivery

    def _put(self, bucket: bytes, part: Part, delivery: Delivery) -> None:
        partition, kind, flags, labels, tails, tails_bytes = part
        key = (kind, flags, bucket, b"" if labels is None else _labels(labels))
        limit = self._settings.record_bytes
        portions = [(tails, tails_bytes)] if tails_bytes <= limit else _portions(tails, limit)
        for some, some_bytes in portions:
            record = self._open.get(partition)
            if record is not None and (
                record.size_bytes + some_bytes > limit or len(record.segments) >= _MAX_SEGMENTS
            ):
                self._close_record(record)
                record = None
            if record is None:
                record = self._open_record(partition)
            self.held_bytes += record.add(key, some, some_bytes, delivery)
            if record.size_bytes >= limit:
                self._close_record(record)

    def _open_record(self, partition: int) -> _Record:
        record = self._open[partition] = _Record(partition, self._loop.time())
        if self._gather_end is None:
            self._gather_end = self._loop.call_later(self._settings.gather_seconds, self._close_all)
        return record

    def _close_all(self) -> None:
        self._gather_end = None
        for record in list(self._open.values()):
            self._close_record(record)

    def _close_record(self, record: _Record) -> None:
        del self._open[record.partition]
        task = self._loop.create_task(self._send(record))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, record: _Record) -> None:
        closed_at = time.perf_counter()
        overdue: asyncio.TimerHandle | None = None
        producer: AIOKafkaProducer | None = None
        try:
            producer = self._producing.current()
            overdue = self._loop.call_at(
                record.opened_at + self._settings.publish_seconds, self._overdue, record, producer
            )
            topic = self._settings.kafka_events_topic
            reached = self._reached_by(producer)
            before = reached.get(record.partition, -1)
            acknowledgement = await producer.send(topic, _encoded(record), partition=record.partition)
            offset = _place((await acknowledgement).offset, before)
            reached[record.partition] = max(offset, reached.get(record.partition, -1))
        except Unavailable as error:
            record.fail(error.message)
        except Exception as error:  # noqa: BLE001 - aiokafka raises KafkaError, OSError and AssertionError here
            record.fail(f"Kafka: {error!r}")
            log.warning("record not acknowledged", partition=record.partition, error=repr(error))
            if producer is not None and isinstance(error, _NOT_ITS_OWN):
                self._producing.give_up(producer, f"another producer has its identity: {error!r}")
        else:
            for delivery in record.deliveries:
                delivery.acknowledged(record.partition, offset)
            self._metrics.produce_seconds.observe(time.perf_counter() - closed_at)
            self._metrics.record_events.observe(record.events)
        finally:
            if overdue is not None:
                overdue.cancel()
            self.held_bytes -= record.held_bytes

    def _reached_by(self, producer: AIOKafkaProducer) -> dict[int, int]:
        if self._reached[0] is not producer:
            self._reached = (producer, {})
        return self._reached[1]

    def _overdue(self, record: _Record, producer: AIOKafkaProducer) -> None:
        seconds = self._settings.publish_seconds
        record.fail(f"Kafka: no acknowledgement within {seconds:g} s")
        self._producing.give_up(producer, f"no acknowledgement within {seconds:g} s")

    async def close(self, grace_seconds: float) -> None:
        """Send what is gathered and wait for its acknowledgement, within ``grace_seconds``."""
        if self._gather_end is not None:
            self._gather_end.cancel()
        self._close_all()
        if self._sending:
            _, late = await asyncio.wait(self._sending, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                log.warning("records left unacknowledged", records=len(late))


def _place(offset: int, before: int) -> int:
    if offset <= before:
        # Taken for a repeat of an older record. Or the log is another one: a new producer has no past there.
        raise DuplicateSequenceNumber
    return offset


def _encoded(record: _Record) -> bytes:
    segments = [Segment(*key, tails) for key, tails in record.segments.items()]
    # The encoded record replaces them: both at once would double what is held.
    record.segments = {}
    return encode_record(uuid_utils.uuid7().bytes, segments)


def _portions(tails: list[bytes], limit_bytes: int) -> Iterator[tuple[list[bytes], int]]:
    """``tails`` in portions of at most ``limit_bytes`` (a larger one alone), each with its size."""
    portion: list[bytes] = []
    size = 0
    for tail in tails:
        if portion and size + len(tail) > limit_bytes:
            yield portion, size
            portion, size = [], 0
        portion.append(tail)
        size += len(tail)
    yield portion, size


def _labels(labels: tuple[str, str, str, str]) -> bytes:
    # Ten thousand of the longest would take tens of megabytes for nothing.
    return (
        _known_labels(labels) if sum(map(len, labels)) <= _REMEMBERED_CHARACTERS else encode_labels(*labels)
    )


@lru_cache(maxsize=10_000)
def _known_labels(labels: tuple[str, str, str, str]) -> bytes:
    return encode_labels(*labels)


def _full() -> Overloaded:
    return Overloaded("too much is waiting for Kafka's acknowledgement; try again")
