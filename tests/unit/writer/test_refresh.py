"""Which ranges a refresh covers: all that it must, nothing beyond what is surely complete."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.writer.refresh import HOUR, bound_seconds, coalesced
from schema.tables import DEVICE_COUNTS_DAY, EVENT_COUNTS_DAY, EVENT_COUNTS_HOUR, EVENT_COUNTS_MINUTE, Rung

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


@given(
    st.lists(st.integers(0, 100), max_size=30),
    st.integers(0, 110),
    st.sampled_from([EVENT_COUNTS_MINUTE, EVENT_COUNTS_HOUR, EVENT_COUNTS_DAY, DEVICE_COUNTS_DAY]),
)
def test_ranges_cover_each_late_hour_that_is_complete_and_nothing_else(
    numbers: list[int], end: int, rung: Rung
) -> None:
    hours = sorted({at(number) for number in numbers})
    width = max(HOUR, timedelta(seconds=rung.period_seconds))
    ranges = coalesced(hours, rung, at(end))
    for start, until in ranges:
        assert start < until <= at(end)
        assert (start - START) % width == timedelta(0)
        assert (until - START) % width == timedelta(0)
    for (_, left), (right, _) in pairwise(ranges):
        assert left < right
    wanted = {hour - (hour - START) % width for hour in hours}
    covered = {start + n * width for start, until in ranges for n in range(int((until - start) / width))}
    assert covered == {period for period in wanted if period + width <= at(end)}


def test_of_an_open_hour_the_complete_minutes_are_covered() -> None:
    end = at(10) + timedelta(minutes=42)
    late = [at(8), at(9), at(10), at(11)]
    assert coalesced(late, EVENT_COUNTS_MINUTE, end) == [(at(8), end)]
    assert coalesced(late[2:], EVENT_COUNTS_MINUTE, end) == [(at(10), end)]
    assert coalesced(late, EVENT_COUNTS_HOUR, end) == [(at(8), at(10))]


def test_neighbours_are_one_range() -> None:
    assert coalesced([at(1), at(2), at(5)], EVENT_COUNTS_HOUR, at(10)) == [(at(1), at(3)), (at(5), at(6))]
    assert coalesced([at(1), at(2), at(25)], EVENT_COUNTS_DAY, at(48)) == [(at(0), at(48))]
    assert coalesced([at(1), at(25)], EVENT_COUNTS_DAY, at(24)) == [(at(0), at(24))]


@pytest.mark.parametrize(
    ("covered", "seconds"),
    [(HOUR / 60, 600.0), (HOUR, 600.0), (3 * HOUR, 1800.0), (36 * HOUR, 21_600.0), (9000 * HOUR, 21_600.0)],
)
def test_a_backlog_has_time_by_the_hours_that_it_covers(covered: timedelta, seconds: float) -> None:
    """With one bound for all, what takes longer would be begun in vain, again and again."""
    assert bound_seconds(START, START + covered) == seconds
