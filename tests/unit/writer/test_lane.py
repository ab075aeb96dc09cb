"""What a lane takes of what it is offered: every record once, in order, holes looked at twice."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry

from ingest.writer.batch import FetchedRecord, Standing
from ingest.writer.lane import Lane
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings


class Offers:
    """A lane that stores nothing, and what it said of lost partitions."""

    def __init__(self) -> None:
        self.lost: list[int] = []
        self.lane = Lane(WriterSettings(), WriterMetrics(CollectorRegistry()), self._publish, self._lose)

    async def _publish(self, *_arguments: object) -> None:
        raise AssertionError("nothing is stored here")

    def _lose(self, partitions: Iterable[int]) -> None:
        self.lost += partitions

    def offer(self, *offsets: int, partition: int = 0) -> None:
        self.lane.offer(FetchedRecord(partition, offset, 0, b"12345") for offset in offsets)

    @property
    def queued(self) -> list[tuple[int, int]]:
        return [(record.partition, record.offset) for record in self.lane._pending]


@pytest.fixture
def offers() -> Offers:
    made = Offers()
    made.lane.take_over(0, Standing(1, 5))
    return made


def test_records_of_other_partitions_and_earlier_offsets_are_left_out(offers: Offers) -> None:
    offers.offer(3, 4, 5, 6)
    offers.offer(5, 6, 7)
    offers.offer(0, 1, partition=1)
    assert offers.queued == [(0, 5), (0, 6), (0, 7)]
    assert offers.lane.queued_bytes == 15
    assert offers.lost == []


def test_a_hole_right_behind_the_standing_is_the_logs_own(offers: Offers) -> None:
    offers.offer(9, 10)
    assert offers.queued == [(0, 9), (0, 10)]
    assert offers.lost == []


def test_a_hole_elsewhere_is_looked_at_again_and_then_believed(offers: Offers) -> None:
    offers.lane.take_over(1, Standing(1, 0))
    offers.offer(0, partition=1)
    offers.offer(5, 6, 8, 9)
    assert offers.lost == [0]
    assert offers.queued == [(1, 0)]
    offers.offer(10)
    assert offers.queued == [(1, 0)]
    # The same is there when the partition is read again: a marker of somebody's transaction.
    offers.lane.take_over(0, Standing(1, 5))
    offers.offer(5, 6, 8, 9)
    assert offers.queued == [(1, 0), (0, 5), (0, 6), (0, 8), (0, 9)]
    # Another hole is looked at again too.
    offers.offer(12)
    assert offers.lost == [0, 0]


async def test_what_is_released_is_forgotten_and_the_others_stay(offers: Offers) -> None:
    offers.lane.take_over(1, Standing(1, 0))
    offers.offer(5, 6)
    offers.offer(0, partition=1)
    await offers.lane.release({0}, 1.0)
    assert offers.queued == [(1, 0)]
    assert offers.lane.queued_bytes == 5
    assert offers.lane.standing(0) is None
    offers.offer(7)
    assert offers.queued == [(1, 0)]
