"""Kafka takes a record of the largest size, and none that is a byte larger."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from schema.connections import new_producer
from schema.topics import MAX_RECORD_BYTES
from tests.support.bounds import AT_AND_ABOVE
from tests.support.records import Topic

# What Kafka's format has around one large value without key and headers.
_AROUND_BYTES = 74


@AT_AND_ABOVE
async def test_kafka_refuses_a_record_beyond_its_bytes(topic: Topic, beyond: int) -> None:
    settings = topic.settings.model_copy(update={"kafka_compression": "none"})
    # The client has a bound of its own, beyond the one that is tried.
    producer = new_producer(settings, MAX_RECORD_BYTES + 4096)
    value = bytes(MAX_RECORD_BYTES - _AROUND_BYTES + beyond)
    await producer.start()
    try:
        with pytest.raises(MessageSizeTooLargeError) if beyond else nullcontext():
            await producer.send_and_wait(settings.kafka_events_topic, value, partition=0)
    finally:
        await producer.stop()
