"""When dead letters are a flood: counted once each, over one minute."""

from __future__ import annotations

import pytest

from ingest.writer.batch import DeadLetter
from ingest.writer.dead_letters import DeadLetterFlood, DeadLetterTopic
from schema.settings import WriterSettings


def letters(first: int, count: int, partition: int = 0) -> list[DeadLetter]:
    return [DeadLetter(partition, first + n, -1, None, "record", "no record", b"") for n in range(count)]


class Minutes:
    def __init__(self, limit: int) -> None:
        self.now = 1000.0
        self.topic = DeadLetterTopic(WriterSettings(dead_letters_per_minute=limit), lambda: self.now)

    def count(self, some: list[DeadLetter], epoch: int = 1) -> None:
        self.topic._check_flood(some, {0: epoch, 1: epoch})


def test_more_than_the_limit_within_a_minute_is_a_flood() -> None:
    minutes = Minutes(10)
    minutes.count(letters(0, 10))
    with pytest.raises(DeadLetterFlood, match=r"11 dead letters .* WEIR_DEAD_LETTERS_PER_MINUTE"):
        minutes.count(letters(10, 1))


def test_a_batch_that_is_tried_again_counts_once() -> None:
    minutes = Minutes(10)
    for _ in range(5):
        minutes.count(letters(0, 8))
    with pytest.raises(DeadLetterFlood):
        minutes.count(letters(0, 8), epoch=2)


def test_what_is_older_than_a_minute_does_not_count() -> None:
    minutes = Minutes(10)
    minutes.count(letters(0, 8))
    minutes.now += 59
    with pytest.raises(DeadLetterFlood):
        minutes.count(letters(0, 8, partition=1))
    minutes.now += 2
    minutes.count(letters(100, 2))
    minutes.now += 61
    minutes.count(letters(200, 10))
