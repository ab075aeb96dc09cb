"""Whether the topic may take more, and what the database knows of its partitions.

The topic forgets records after its retention. Once a record that no writer has stored is over half of
that old, the gateway refuses (503) rather than acknowledge what may expire. What the writers have
stored is read from the database, and the last known state holds while it does not answer; where the
topic was half a retention ago is asked of Kafka. From the same reading come the epochs that receipts
carry and the raw floor below which nothing can be stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from schema.connections import Pool, acquired, kafka_errors, new_reader, stop_consumer
from schema.errors import Overloaded
from schema.settings import KafkaSettings

log = structlog.get_logger(__name__)

FIRST_EPOCH = 1
_PROGRESS = files(__package__).joinpath("progress.sql").read_text()
_RAW_FLOOR = "SELECT (extract(epoch FROM raw_floor) * 1000000)::bigint FROM store_state"
_RETRY_AFTER_SECONDS = 60.0
_STOP_SECONDS = 2.0


@dataclass(slots=True)
class Progress:
    """What the database knows. ``next_offsets``: first offset not stored, by partition; None: never read."""

    next_offsets: dict[int, int] | None = None
    epochs: dict[int, int] = field(default_factory=dict)
    raw_floor_at: int = 0

    def epoch(self, partition: int) -> int:
        """The epoch that a receipt names for this partition."""
        return self.epochs.get(partition, FIRST_EPOCH)


def overdue_partitions(
    next_offsets: dict[int, int], middle_offsets: dict[int, int], end_offsets: dict[int, int]
) -> list[int]:
    """Partitions with a record that is not stored and older than the middle of the retention.

    ``middle_offsets``: the first offset that is younger than that, where there is one; a partition
    without is all older, up to its end. A partition that no writer has begun with stands at 0.
    """
    return [
        partition
        for partition, end in end_offsets.items()
        if next_offsets.get(partition, 0) < middle_offsets.get(partition, end)
    ]


class Backlog:
    """The writers' progress and the verdict on the backlog. ``wall_clock``: seconds since 1970."""

    def __init__(self, settings: KafkaSettings, wall_clock: Callable[[], float]) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._reader: AIOKafkaConsumer | None = None
        self.progress = Progress()
        self.overdue: list[int] = []

    def check(self) -> None:
        """Raises Overloaded when the topic holds what may expire before it is stored."""
        if self.overdue:
            raise Overloaded(
                "events that were accepted long ago are not stored yet; none are taken until they are",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )

    @property
    def overdue_seconds(self) -> float:
        """The age that some record has reached without being stored; 0: none has."""
        return self._settings.kafka_retention_seconds / 2 if self.overdue else 0.0

    async def read_progress(self, pool: Pool, timeout_seconds: float) -> None:
        """Read the database. Raises Unavailable, and keeps what was known."""
        async with acquired(pool, timeout_seconds) as connection, asyncio.timeout(timeout_seconds):
            rows = await connection.fetch(_PROGRESS, self._settings.kafka_events_topic)
            raw_floor_at = await connection.fetchval(_RAW_FLOOR)
        self.progress = Progress(
            {row["partition"]: row["next_offset"] for row in rows},
            {row["partition"]: row["epoch"] for row in rows},
            raw_floor_at or 0,
        )

    async def judge(self) -> None:
        """Compare the progress with the topic. Raises Unavailable, and keeps the last verdict.

        While the progress was never read there is nothing to judge: nothing is overdue.
        """
        if self.progress.next_offsets is None:
            return
        middle_ms = int((self._wall_clock() - self._settings.kafka_retention_seconds / 2) * 1000)
        with kafka_errors():
            async with asyncio.timeout(self._settings.kafka_request_seconds):
                middle_offsets, end_offsets = await self._read_topic(middle_ms)
        overdue = overdue_partitions(self.progress.next_offsets, middle_offsets, end_offsets)
        if bool(overdue) != bool(self.overdue):
            log.warning(
                "backlog over half of the retention" if overdue else "backlog is back", partitions=overdue
            )
        self.overdue = overdue

    async def _read_topic(self, middle_ms: int) -> tuple[dict[int, int], dict[int, int]]:
        topic = self._settings.kafka_events_topic
        try:
            reader = await self._started_reader()
            partitions = [
                TopicPartition(topic, number) for number in reader.partitions_for_topic(topic) or ()
            ]
            # In this order: a record that arrives in between must not look like an old one.
            ends: dict[Any, int] = await reader.end_offsets(partitions)
            middles: dict[Any, Any] = await reader.offsets_for_times(dict.fromkeys(partitions, middle_ms))
        except BaseException:
            # It may be stuck; the next judgement gets a new one.
            await self.close()
            raise
        middle_offsets = {at.partition: found.offset for at, found in middles.items() if found is not None}
        return middle_offsets, {at.partition: offset for at, offset in ends.items()}

    async def _started_reader(self) -> AIOKafkaConsumer:
        if self._reader is None:
            self._reader = new_reader(self._settings)
            await self._reader.start()
        # Makes it fetch the topic's partitions, which a reader without subscription does not know by itself.
        await self._reader._client._wait_on_metadata(self._settings.kafka_events_topic)  # noqa: SLF001
        return self._reader

    async def close(self) -> None:
        """Let go of the reader, within a bound."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await stop_consumer(reader, _STOP_SECONDS, "backlog reader")
