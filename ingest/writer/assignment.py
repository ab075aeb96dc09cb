"""Where a partition goes on, and whether its log is still the one that we read.

Offsets live in PostgreSQL beside the identity of the last record stored. When a partition is assigned,
that identity is looked up in the log: a topic that was made anew, or lost its tail, holds another record
there, or none. Then the loss is said loudly and a new epoch begins at the log's earliest record; what
is read again is recognised by the events' identities, so nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from ingest.writer.batch import Standing
from schema.connections import Pool, acquired, kafka_errors, new_reader, stop_consumer
from schema.errors import Unavailable
from schema.metrics import WriterMetrics
from schema.records import record_identity
from schema.settings import WriterSettings

log = structlog.get_logger(__name__)

T = TypeVar("T")

_SQL_STANDING = """
WITH made AS (
    INSERT INTO partition_offsets (topic, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING
    RETURNING epoch, next_offset, record_id
)
SELECT epoch, next_offset, record_id FROM made
UNION ALL
SELECT epoch, next_offset, record_id FROM partition_offsets WHERE topic = $1 AND partition = $2
"""
_SQL_NEW_EPOCH = """
UPDATE partition_offsets SET epoch = epoch + 1, next_offset = $5, record_id = NULL, stored_at = now()
WHERE topic = $1 AND partition = $2 AND epoch = $3 AND next_offset = $4
"""
_SQL_SKIP = """
UPDATE partition_offsets SET next_offset = $5, record_id = NULL, stored_at = now()
WHERE topic = $1 AND partition = $2 AND epoch = $3 AND next_offset = $4
"""


class Assignment:
    """Answers, for one process, where partitions go on."""

    def __init__(self, settings: WriterSettings, pool: Pool, metrics: WriterMetrics) -> None:
        self._settings = settings
        self._pool = pool
        self._metrics = metrics
        self._reader: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()
        self._found: dict[int, tuple[int, bytes]] = {}

    def last_found(self, partition: int) -> tuple[int, bytes] | None:
        """(offset, identity) of the record before the last ``standing``, if the log has one there."""
        return self._found.get(partition)

    async def standing(self, partition: int) -> Standing:
        """Where to go on, once the log has been checked. Raises Unavailable."""
        return await self._answered(self._standing(self._place(partition)))

    async def holds(self, partition: int, offset: int, record_id: bytes) -> bool:
        """Whether the log has this record there. Raises Unavailable."""
        _begin, _end, found = await self._answered(self._look(self._place(partition), offset + 1))
        return found == record_id

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._settings.kafka_events_topic, partition)

    async def _answered(self, question: Coroutine[Any, Any, T]) -> T:
        """One question at a time, within a bound; after a failure with a fresh reader."""
        with contextlib.closing(question):
            async with self._lock:
                try:
                    async with asyncio.timeout(self._settings.kafka_request_seconds * 3):
                        return await question
                except TimeoutError as error:
                    await self._discard_reader()
                    raise Unavailable("Kafka: no answer about the log") from error
                except Unavailable:
                    await self._discard_reader()
                    raise

    async def _standing(self, place: TopicPartition) -> Standing:
        topic, partition = place.topic, place.partition
        timeout = self._settings.database_connect_seconds
        async with acquired(self._pool, timeout) as connection:
            row = await connection.fetchrow(_SQL_STANDING, topic, partition)
        if row is None:
            # Made by another writer since our statement began: the next look finds it.
            raise Unavailable(f"partition {partition} was assigned to another writer too; asking again")
        standing = Standing(row["epoch"], row["next_offset"])
        begin, end, found = await self._look(place, standing.next_offset)
        self._found.pop(partition, None)
        if standing.next_offset > end or (row["record_id"] and found and row["record_id"] != found):
            what = "is shorter than what was stored" if standing.next_offset > end else "holds other records"
            log.error(
                "the log is not the one that was read; a new epoch begins at its earliest record",
                topic=topic,
                partition=partition,
                fault=f"the log {what}",
                epoch=standing.epoch + 1,
                offset_before=standing.next_offset,
                offset=begin,
            )
            self._metrics.new_epochs.inc()
            return await self._moved(_SQL_NEW_EPOCH, place, standing, Standing(standing.epoch + 1, begin))
        if begin > standing.next_offset:
            log.error(
                "records expired before they were stored",
                topic=topic,
                partition=partition,
                records_lost=begin - standing.next_offset,
                offset=begin,
            )
            self._metrics.new_epochs.inc()
            return await self._moved(_SQL_SKIP, place, standing, Standing(standing.epoch, begin))
        if found is not None:
            self._found[partition] = (standing.next_offset - 1, found)
        return standing

    async def _moved(self, sql: str, place: TopicPartition, old: Standing, new: Standing) -> Standing:
        async with acquired(self._pool, self._settings.database_connect_seconds) as connection:
            status = await connection.execute(
                sql, place.topic, place.partition, old.epoch, old.next_offset, new.next_offset
            )
        if status != "UPDATE 1":
            raise Unavailable(f"partition {place.partition} moved while its log was checked; asking again")
        return new

    async def _look(self, place: TopicPartition, next_offset: int) -> tuple[int, int, bytes | None]:
        """(earliest offset, end offset, id of the record before ``next_offset`` where it can be read)."""
        with kafka_errors():
            reader = await self._ready_reader()
            begin = (await reader.beginning_offsets([place]))[place]
            end = (await reader.end_offsets([place]))[place]
            if not begin <= next_offset - 1 < end:
                return begin, end, None
            reader.assign([place])
            reader.seek(place, next_offset - 1)
            record = await asyncio.wait_for(reader.getone(place), self._settings.kafka_request_seconds)
            reader.assign([])
        if record.offset != next_offset - 1:
            return begin, end, b"none"
        return begin, end, record_identity(record.value or b"")

    async def _ready_reader(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = new_reader(self._settings)
            self._reader = reader
            await reader.start()
        return self._reader

    async def _discard_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_consumer(reader, 2.0, "log reader")

    async def close(self) -> None:
        """Stop the reader of the log, within a bound."""
        async with self._lock:
            await self._discard_reader()
