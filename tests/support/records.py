"""Records of the events topic, good and bad, and the way to put them there past the gateway."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from schema.connections import new_producer, new_reader
from schema.records import (
    EVENTS,
    NODE_REPORTS,
    RECORD_ID_BYTES,
    STAMPED,
    Segment,
    encode_event,
    encode_labels,
    encode_node_report,
    encode_record,
)
from schema.settings import KafkaSettings

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
LABELS = encode_labels("boot", "events", "app", "s1")


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def event(
    identifier: str,
    at: int | None = None,
    *,
    device: str = "",
    data: bytes = b"{}",
    received_at: int | None = None,
) -> bytes:
    """One event's tail; ``at``: microseconds since 1970."""
    moment = now() if at is None else at
    return encode_event(moment, identifier, moment if received_at is None else received_at, device, data)


def report(
    host: str = "host",
    at: int | None = None,
    *,
    status: str = "ONLINE",
    latency_ms: float | None = 1.5,
    interval_seconds: int = 60,
) -> bytes:
    """One node report's tail."""
    moment = now() if at is None else at
    return encode_node_report(moment, host, "10.0.0.1", moment, "1.0", status, latency_ms, interval_seconds)


def events(bucket_id: str, *tails: bytes, labels: bytes = LABELS, stamped: bool = False) -> Segment:
    """A segment of events with the same labels."""
    return Segment(EVENTS, STAMPED if stamped else 0, bytes.fromhex(bucket_id), labels, list(tails))


def reports(bucket_id: str, *tails: bytes) -> Segment:
    """A segment of node reports."""
    return Segment(NODE_REPORTS, 0, bytes.fromhex(bucket_id), b"", list(tails))


def record(*segments: Segment) -> bytes:
    """A record's value, with an identity of its own."""
    return encode_record(secrets.token_bytes(RECORD_ID_BYTES), list(segments))


@dataclass(slots=True)
class Topic:
    """The events topic of a test. ``ends``: partition → offset behind the last record sent."""

    settings: KafkaSettings
    producer: AIOKafkaProducer
    ends: dict[int, int] = field(default_factory=dict)

    async def send(self, value: bytes, partition: int = 0, timestamp_ms: int | None = None) -> int:
        """Send one record's value; its offset."""
        sent = await self.producer.send_and_wait(
            self.settings.kafka_events_topic, value, partition=partition, timestamp_ms=timestamp_ms
        )
        self.ends[partition] = sent.offset + 1
        return int(sent.offset)

    async def send_all(self, values: Iterable[tuple[int, bytes]]) -> None:
        """Send (partition, value) pairs, many at a time."""
        topic = self.settings.kafka_events_topic
        waiting = [await self.producer.send(topic, value, partition=place) for place, value in values]
        for future in waiting:
            sent = await future
            self.ends[sent.partition] = max(self.ends.get(sent.partition, 0), sent.offset + 1)


@asynccontextmanager
async def topic_of(settings: KafkaSettings) -> AsyncIterator[Topic]:
    """A producer for the (existing) topic."""
    producer = new_producer(settings)
    await producer.start()
    try:
        yield Topic(settings, producer)
    finally:
        await producer.stop()


async def dead_letters_in(settings: KafkaSettings) -> list[ConsumerRecord]:
    """All that is in the topic of dead letters now."""
    reader: AIOKafkaConsumer = new_reader(settings)
    await reader.start()
    try:
        place = TopicPartition(settings.kafka_dead_letters_topic, 0)
        reader.assign([place])
        end = (await reader.end_offsets([place]))[place]
        await reader.seek_to_beginning(place)
        found: list[ConsumerRecord] = []
        while len(found) < end:
            found += [one for some in (await reader.getmany(timeout_ms=500)).values() for one in some]
        return found
    finally:
        await reader.stop()
