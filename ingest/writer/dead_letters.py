"""What cannot be stored: to a topic and a table of its own, with the reason, before its offset moves on.

The topic gets the payload as it was (a record of the events topic's layout, so that it can be sent again)
with headers that say where it came from and why; the table gets the same in the transaction that moves
the offset. A flood of dead letters is a fault of ours, not of the events: the writer then stops loudly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer

from ingest.writer.batch import DeadLetter
from schema.connections import kafka_errors, new_producer, stop_within
from schema.errors import WeirError
from schema.settings import WriterSettings
from schema.topics import MAX_DEAD_LETTER_BYTES


class DeadLetterFlood(WeirError):
    """More dead letters than a fault of single events explains; the writer must stop."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"{count} dead letters within a minute, over WEIR_DEAD_LETTERS_PER_MINUTE ({most}): see what "
            "they have in common in their table and topic, then raise the limit or mend the sender"
        )


class DeadLetterTopic:
    """Publishes dead letters; makes its producer when the first one comes, and anew after a failure."""

    def __init__(self, settings: WriterSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._recent: dict[tuple[int, int, int, int], float] = {}

    async def publish(self, letters: Sequence[DeadLetter], epochs: dict[int, int]) -> None:
        """Return once Kafka has them all. Raises Unavailable; DeadLetterFlood beyond the limit.

        A batch that is tried again publishes again: the topic holds at least one copy of each.
        """
        self._check_flood(letters, epochs)
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
            producer = new_producer(self._settings, MAX_DEAD_LETTER_BYTES)
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

    def _check_flood(self, letters: Sequence[DeadLetter], epochs: dict[int, int]) -> None:
        """Counts each letter once, however often its batch is tried."""
        now = self._clock()
        while self._recent and self._recent[oldest := next(iter(self._recent))] < now - 60:
            del self._recent[oldest]
        for letter in letters:
            place = (letter.partition, epochs[letter.partition], letter.offset, letter.position)
            self._recent.setdefault(place, now)
        if len(self._recent) > self._settings.dead_letters_per_minute:
            raise DeadLetterFlood(len(self._recent), self._settings.dead_letters_per_minute)

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_within(producer.stop(), 1.0, "dead-letter producer")

    async def close(self) -> None:
        """Stop the producer, within a bound."""
        async with self._lock:
            await self._discard()
