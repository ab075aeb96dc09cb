"""What cannot be stored: to a topic and a table of its own, with the reason, before its offset moves on.

The topic gets the payload as it was (a record of the events topic's layout, so that it can be sent again)
with headers that say where it came from and why; the table gets the same in the transaction that moves
the offset. A flood of dead letters is a fault of ours, not of the events: the writer then stops loudly.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer

from ingest.writer.batch import DeadLetter
from schema.connections import kafka_errors, new_producer, stop_within
from schema.errors import WeirError
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings


class DeadLetterFlood(WeirError):
    """More dead letters than a fault of single events explains; the writer must stop."""


class DeadLetterTopic:
    """Publishes dead letters; makes its producer when the first one comes, and anew after a failure."""

    def __init__(
        self, settings: WriterSettings, metrics: WriterMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._recent: deque[tuple[float, int]] = deque()

    async def publish(self, letters: Sequence[DeadLetter], epochs: dict[int, int]) -> None:
        """Return once Kafka has them all. Raises Unavailable; DeadLetterFlood beyond the limit.

        A batch that is tried again publishes again: the topic holds at least one copy of each.
        """
        self._check_flood(len(letters))
        for letter in letters:
            self._metrics.dead_letters.labels(letter.kind).inc()
        async with self._lock:
            try:
                with kafka_errors():
                    async with asyncio.timeout(self._settings.kafka_request_seconds * 2):
                        await self._send(letters, epochs)
            except BaseException:
                await self._discard()
                raise

    async def _send(self, letters: Sequence[DeadLetter], epochs: dict[int, int]) -> None:
        if self._producer is None:
            producer = new_producer(self._settings)
            self._producer = producer
            await producer.start()
        acknowledgements = []
        for letter in letters:
            headers = [
                ("topic", self._settings.kafka_events_topic.encode()),
                ("partition", str(letter.partition).encode()),
                ("epoch", str(epochs[letter.partition]).encode()),
                ("offset", str(letter.offset).encode()),
                ("position", str(letter.position).encode()),
                ("bucket_id", (letter.bucket_id or "").encode()),
                ("reason", letter.reason.encode()),
            ]
            acknowledgements.append(
                await self._producer.send(
                    self._settings.kafka_dead_letters_topic, letter.payload, headers=headers
                )
            )
        for acknowledgement in acknowledgements:
            await acknowledgement

    def _check_flood(self, count: int) -> None:
        now = self._clock()
        while self._recent and self._recent[0][0] < now - 60:
            self._recent.popleft()
        self._recent.append((now, count))
        total = sum(entry[1] for entry in self._recent)
        if total > self._settings.dead_letters_per_minute:
            raise DeadLetterFlood(
                f"{total} dead letters within a minute, over WEIR_DEAD_LETTERS_PER_MINUTE "
                f"({self._settings.dead_letters_per_minute}): see what they have in common in the table "
                "dead_letters and the log, then raise the limit or mend the sender"
            )

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_within(producer.stop(), 1.0, "dead-letter producer")

    async def close(self) -> None:
        """Stop the producer, within a bound."""
        async with self._lock:
            await self._discard()
