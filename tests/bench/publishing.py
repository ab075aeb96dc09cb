"""Records of a workload put into the topic, ahead of the clock."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer

from schema.connections import new_producer
from schema.settings import KafkaSettings
from tests.bench.workload import Workload

_AT_ONCE = 500


class Publishing:
    """A producer of the bench's own; ``records`` counts what it has published so far."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = settings.kafka_events_topic
        self._producer: AIOKafkaProducer = new_producer(settings)
        self.records = 0

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.wait_for(self._producer.stop(), 15)

    async def publish(self, workload: Workload, numbers: range) -> int:
        """Publish these requests' records and wait for their acknowledgement; how many records it were."""
        records = [record for number in numbers for record in workload.records(number)]
        for at in range(0, len(records), _AT_ONCE):
            async with asyncio.timeout(60):
                waiting = [
                    await self._producer.send(self._topic, value, partition=partition)
                    for partition, value in records[at : at + _AT_ONCE]
                ]
                await asyncio.gather(*waiting)
        self.records += len(records)
        return len(records)
