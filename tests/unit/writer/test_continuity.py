"""After a silence of Kafka nothing is taken before the record that was read last has been found again."""

from __future__ import annotations

import time
from typing import cast

import pytest

from ingest.writer.assignment import Assignment
from ingest.writer.continuity import SILENCE_MS, Continuity
from schema.errors import Unavailable
from schema.records import record_identity


class Log:
    """What the log holds at which offset; it counts how often it is asked."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.asked = 0
        self.away = False

    def last_found(self, _partition: int) -> tuple[int, bytes] | None:
        return max(self.records.items(), default=None)

    async def holds(self, _partition: int, offset: int, record_id: bytes) -> bool:
        self.asked += 1
        if self.away:
            raise Unavailable("Kafka is away")
        return self.records.get(offset) == record_id


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def continuity(log: Log) -> Continuity:
    watched = Continuity(cast("Assignment", log))
    watched.begin(0)
    return watched


def in_ms(milliseconds: float) -> int:
    return int(time.time() * 1000 + milliseconds)


async def test_answers_without_a_silence_ask_nothing(log: Log, continuity: Continuity) -> None:
    continuity.read(0, 4, b"four")
    assert not await continuity.broken({0: in_ms(100)})
    assert not await continuity.broken({0: in_ms(100 + SILENCE_MS)})
    assert log.asked == 0


@pytest.mark.parametrize(
    ("held", "broken"),
    [({4: record_identity(b"four")}, set()), ({4: record_identity(b"other")}, {0}), ({}, {0})],
)
async def test_after_a_silence_the_last_record_is_looked_up_once(
    log: Log, continuity: Continuity, held: dict[int, bytes], broken: set[int]
) -> None:
    continuity.read(0, 4, b"four")
    log.records = held
    assert await continuity.broken({0: in_ms(2 * SILENCE_MS)}) == broken
    assert not await continuity.broken({0: in_ms(2 * SILENCE_MS + 50)})
    assert log.asked == 1


async def test_a_log_that_cannot_be_asked_is_not_trusted(log: Log, continuity: Continuity) -> None:
    continuity.read(0, 4, b"four")
    log.away = True
    assert await continuity.broken({0: in_ms(2 * SILENCE_MS)}) == {0}


async def test_what_was_found_when_reading_began_counts_as_read(log: Log) -> None:
    log.records = {9: b"identity"}
    watched = Continuity(cast("Assignment", log))
    watched.begin(3)
    log.records = {9: b"another"}
    assert await watched.broken({3: in_ms(2 * SILENCE_MS)}) == {3}


async def test_a_partition_of_which_nothing_was_read_has_nothing_to_lose(
    log: Log, continuity: Continuity
) -> None:
    assert not await continuity.broken({0: in_ms(2 * SILENCE_MS)})
    assert log.asked == 0


async def test_a_partition_that_was_given_away_is_nobodys_business(log: Log, continuity: Continuity) -> None:
    continuity.forget(0)
    continuity.read(0, 4, b"four")
    assert not await continuity.broken({0: in_ms(2 * SILENCE_MS)})
    assert log.asked == 0
