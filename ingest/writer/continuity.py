"""Whether what a partition brings next follows on what was read of it last.

A fetch asks for an offset and takes whatever record the log has there. A log that lost its tail, or was made
anew, while nobody looked may have grown past that offset by the time of the next answer: what lies before
would be skipped, and nothing would tell. So after a silence, which every such loss takes, the record that was
read last is looked up in the log again, and nothing is taken from it before it has been found there.

Neighbours: ``consumer`` asks after every fetch, ``assignment`` looks into the log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ingest.writer.assignment import Assignment
from schema.errors import Unavailable
from schema.records import record_identity

# A healthy broker answers twenty times as often; a leader needs longer to come back, or to be replaced.
SILENCE_MS = 1_000


class Continuity:
    """What is known of each partition that is being read. Moments: milliseconds since 1970."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._answered_ms: dict[int, int] = {}
        self._last: dict[int, tuple[int, bytes]] = {}

    def begin(self, partition: int) -> None:
        """The log of the partition has just been checked; reading goes on behind what was found there."""
        self._answered_ms[partition] = int(time.time() * 1000)
        if (last := self._assignment.last_found(partition)) is not None:
            self._last[partition] = last
        else:
            self._last.pop(partition, None)

    def forget(self, partition: int) -> None:
        """Nobody reads it here any more."""
        self._answered_ms.pop(partition, None)
        self._last.pop(partition, None)

    def read(self, partition: int, offset: int, value: bytes) -> None:
        """The last record that was taken of the partition."""
        if partition in self._answered_ms:
            self._last[partition] = (offset, record_identity(value))

    async def broken(self, answered_ms: Mapping[int, int]) -> set[int]:
        """Partitions whose log is not known to be the one that was read. ``answered_ms``: last answers."""
        return {
            partition
            for partition, moment in answered_ms.items()
            if self._was_silent(partition, moment) and not await self._holds(partition)
        }

    def _was_silent(self, partition: int, answered_ms: int) -> bool:
        before = self._answered_ms.get(partition)
        if before is None or answered_ms <= before:
            return False
        self._answered_ms[partition] = answered_ms
        return answered_ms - before > SILENCE_MS and partition in self._last

    async def _holds(self, partition: int) -> bool:
        offset, record_id = self._last[partition]
        try:
            return await self._assignment.holds(partition, offset, record_id)
        except Unavailable:
            return False
