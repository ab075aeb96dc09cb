"""What is in hand while a partition begins anew is not taken for what follows there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from ingest.writer import continuity
from ingest.writer.assignment import Assignment
from ingest.writer.batch import DeadLetter, Standing
from ingest.writer.consumer import EventConsumer
from ingest.writer.lane import Lane
from schema.connections import Duty, Pool, close_pool, open_pool
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings
from tests.support.records import Topic, event, events, record

_WAIT_SECONDS = 30


class SlowLog(Assignment):
    """Finds the record that was read last, as soon as it is let; ``asked`` when somebody waits for that."""

    def __init__(self, settings: WriterSettings, pool: Pool, metrics: WriterMetrics) -> None:
        super().__init__(settings, pool, metrics)
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def holds(self, partition: int, offset: int, record_id: bytes) -> bool:
        self.asked.set()
        await self.let.wait()
        return await super().holds(partition, offset, record_id)


async def no_letters(_letters: list[DeadLetter], _epochs: dict[int, int]) -> None:
    raise AssertionError("nothing is stored here")


@asynccontextmanager
async def reading(settings: WriterSettings) -> AsyncIterator[tuple[EventConsumer, Lane, SlowLog]]:
    """A consumer at work, with a lane that stores nothing of what it is offered."""
    metrics = WriterMetrics(CollectorRegistry())
    pool = await open_pool(settings, Duty.WRITER)
    log = SlowLog(settings, pool, metrics)
    lanes: list[Lane] = []
    consumer = EventConsumer(settings, metrics, log, lanes)
    lanes.append(Lane(settings, metrics, no_letters, consumer.lost))
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    try:
        yield consumer, lanes[0], log
    finally:
        log.let.set()
        stop.set()
        await asyncio.wait_for(running, _WAIT_SECONDS)
        await asyncio.gather(log.close(), close_pool(pool, 1.0))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_SECONDS):
        while not true():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def test_records_in_hand_while_a_partition_is_prepared_anew_do_not_hide_those_before(
    topic: Topic, database_dsn: str, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane loses it while the consumer, records in hand, looks into the log after a silence."""
    settings = WriterSettings(database_dsn=database_dsn, **topic.settings.model_dump())
    for number in range(5):
        await topic.send(record(events(bucket_id, event(str(number)))))

    async with reading(settings) as (consumer, lane, log):

        def queued() -> list[int]:
            return [one.offset for one in lane._pending]

        await until(lambda: len(queued()) == 5)
        # From now on every answer comes after a silence.
        monkeypatch.setattr(continuity, "SILENCE_MS", 0)
        await topic.send(record(events(bucket_id, event("5"))))
        async with asyncio.timeout(_WAIT_SECONDS):
            await log.asked.wait()
        # What a lane does that finds its offsets moved; it stands where it stood, since it stored nothing.
        await lane.release({0}, 0)
        consumer.lost({0})
        await until(lambda: lane.standing(0) == Standing(1, 0))
        log.let.set()
        await until(lambda: 5 in queued())
        assert queued() == [0, 1, 2, 3, 4, 5]
