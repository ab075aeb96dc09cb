"""Where the events topic ends right now, asked of Kafka: what a deletion fences.

One client lives as long as the process and is given up after any failure, so that the next question
begins with a fresh one. Every step has a bound: a frozen broker costs the caller seconds, not the door.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from schema.connections import kafka_errors, new_reader, stop_consumer
from schema.errors import Unavailable
from schema.settings import KafkaSettings

_STOP_SECONDS = 2.0


class LogEnds:
    """Asks for the end offsets of the events topic, one question at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.kafka_events_topic
        self._client: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()

    async def end_offsets(self) -> dict[int, int]:
        """Each partition's next offset. Raises Unavailable within twice the request deadline."""
        with kafka_errors():
            async with asyncio.timeout(self._settings.kafka_request_seconds * 2), self._asking:
                return await self._asked()

    async def _asked(self) -> dict[int, int]:
        try:
            client = await self._connected()
            # The client learns of a topic's partitions by being asked about one of them.
            await client.end_offsets([TopicPartition(self._topic, 0)])
            places = [TopicPartition(self._topic, number) for number in self._partitions(client)]
            ends = await client.end_offsets(places)
        except BaseException:
            await self._give_up()
            raise
        return {place.partition: offset for place, offset in ends.items()}

    def _partitions(self, client: AIOKafkaConsumer) -> set[int]:
        partitions: set[int] | None = client.partitions_for_topic(self._topic)
        if not partitions:
            raise Unavailable(f"Kafka: has no topic {self._topic}")
        return partitions

    async def _connected(self) -> AIOKafkaConsumer:
        if self._client is None:
            self._client = new_reader(self._settings)
            await self._client.start()
        return self._client

    async def _give_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await stop_consumer(client, _STOP_SECONDS, "log ends")

    async def close(self) -> None:
        """Let go of the client, within a bound."""
        await self._give_up()
