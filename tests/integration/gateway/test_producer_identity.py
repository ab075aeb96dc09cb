"""A producer whose identity somebody else has at the broker, too, is given up before a record is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from ingest.gateway.admission import Admitted
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import Publisher
from schema.errors import Unavailable
from schema.metrics import GatewayMetrics
from schema.records import EVENTS
from schema.settings import GatewaySettings
from schema.topics import ensure_topics
from tests.support.topics import TopicNames


async def published(publisher: Publisher) -> int:
    """An event of its own record in partition 0; its offset. Raises Unavailable."""
    admitted = Admitted(bytes(12), [])
    admitted.add(0, EVENTS, 0, ("a", "events", "", ""), [bytes(100)])
    return (await publisher.publish(admitted))[0]


async def until_published(publisher: Publisher) -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            return await published(publisher)
        except Unavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("moved", [3, -2])
async def test_a_producer_is_given_up_when_its_numbers_are_not_its_own(
    kafka_bootstrap: str, topics: TopicNames, moved: int
) -> None:
    """As when Kafka's folder was put back: two that have the same do not know of each other's records.

    Ahead, and behind: the broker refuses the one, and takes the other for a repeat.
    """
    known = topics.settings(kafka_bootstrap)
    await ensure_topics(known)
    settings = GatewaySettings(**known.model_dump())
    metrics = GatewayMetrics(CollectorRegistry())
    producing = Producing(settings, metrics)
    producing.start()
    publisher = Publisher(settings, producing, metrics)
    try:
        first = await until_published(publisher)
        last = [await published(publisher) for _ in range(9)][-1]
        assert last == first + 9
        before: Any = producing.current()
        before._txn_manager.increment_sequence_number(TopicPartition(settings.kafka_events_topic, 0), moved)
        with pytest.raises(Unavailable):
            await published(publisher)
        # Without a gap: nothing that was refused is in the log, and nothing that was not is missing.
        assert await until_published(publisher) == last + 1
        assert await published(publisher) == last + 2
        assert producing.current() is not before
    finally:
        await publisher.close(5)
        await producing.close(5)
