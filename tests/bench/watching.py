"""What a query sees of the writer's progress, sampled all the time, so that no moment has to be guessed
later."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from aiokafka import TopicPartition

from schema.connections import new_reader, stop_within
from schema.settings import KafkaSettings
from tests.bench import ground
from tests.bench.ground import Plot
from tests.bench.recount import Void

SAMPLE_SECONDS = 0.004
_STORED = "SELECT partition, next_offset FROM partition_offsets WHERE topic = $1"


@dataclass(slots=True)
class Watch:
    """For each partition, when (monotonic) a query first saw which next offset. Only changes are kept."""

    moments: dict[int, list[float]] = field(default_factory=dict)
    offsets: dict[int, list[int]] = field(default_factory=dict)

    def add(self, at: float, stored: Mapping[int, int]) -> None:
        """One sample; ``at``: when its answer was there."""
        for partition, offset in stored.items():
            known = self.offsets.setdefault(partition, [])
            if not known or offset > known[-1]:
                known.append(offset)
                self.moments.setdefault(partition, []).append(at)

    def visible_at(self, partition: int, offset: int) -> float | None:
        """When the record at ``offset`` was first seen as stored; None: not yet."""
        place = bisect_right(self.offsets.get(partition, []), offset)
        moments = self.moments.get(partition, [])
        return moments[place] if place < len(moments) else None

    def all_visible_at(self, ends: Mapping[int, int]) -> float | None:
        """When everything before ``ends`` (partition → end offset) was visible; None: not yet."""
        latest = 0.0
        for partition, end in ends.items():
            if end == 0:
                continue
            at = self.visible_at(partition, end - 1)
            if at is None:
                return None
            latest = max(latest, at)
        return latest

    async def wait(self, ends: Mapping[int, int], timeout_seconds: float) -> float:
        """When everything before ``ends`` became visible. Raises Void when the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while (at := self.all_visible_at(ends)) is None:
            if time.monotonic() > deadline:
                raise Void(f"not stored after {timeout_seconds:g} s: wanted {ends}, found {self.offsets}")
            await asyncio.sleep(SAMPLE_SECONDS)
        return at


@asynccontextmanager
async def watching(plot: Plot) -> AsyncIterator[Watch]:
    """Samples until the block ends. A database that does not answer is asked again."""
    watch = Watch()
    task = asyncio.create_task(_sample(plot, watch))
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def _sample(plot: Plot, watch: Watch) -> None:
    while True:
        try:
            connection = await ground.connected(plot.dsn)
            try:
                while True:
                    rows = await connection.fetch(_STORED, plot.events_topic, timeout=120)
                    watch.add(time.monotonic(), {row["partition"]: row["next_offset"] for row in rows})
                    await asyncio.sleep(SAMPLE_SECONDS)
            finally:
                connection.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.5)


async def topic_ends(settings: KafkaSettings) -> dict[int, int]:
    """partition → end offset of the events topic."""
    reader = new_reader(settings)
    await reader.start()
    try:
        places = [TopicPartition(settings.kafka_events_topic, n) for n in range(settings.kafka_partitions)]
        ends = await asyncio.wait_for(reader.end_offsets(places), 15)
        return {place.partition: end for place, end in ends.items()}
    finally:
        await stop_within(reader.stop(), 5.0, "bench reader")
