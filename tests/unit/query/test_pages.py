"""A place holds its page, and nothing beyond the periods that the page needs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from query.interval import DAY, Interval, Unit
from query.pages import Place, joined, place_of
from query.request import Range

DAYS = Interval(Unit.DAY)
# Moments within twenty days, as a list of events.
EVENTS = st.lists(st.integers(0, 20 * DAY - 1), max_size=60)


@given(
    EVENTS,
    st.integers(0, 10 * DAY),
    st.integers(0, 20 * DAY),
    st.integers(0, 70),
    st.integers(1, 30),
    st.booleans(),
)
def test_the_page_within_its_place_is_the_page_of_the_whole_list(
    events: list[int], start: int, length: int, offset: int, limit: int, descending: bool
) -> None:
    asked = Range(start, start + length)
    listed = sorted((at for at in events if asked.start <= at < asked.end), reverse=descending)
    periods = sorted({DAYS.period(at) for at in listed}, reverse=descending)
    counts = [(period, sum(DAYS.period(at) == period for at in listed)) for period in periods]
    place = place_of(counts, DAYS, asked, offset, limit)
    page = listed[offset : offset + limit]
    if not page:
        assert place is None
        return
    assert place is not None
    held = [at for piece in place.ranges for at in listed if piece.start <= at < piece.end]
    assert held[place.offset : place.offset + limit] == page
    # The first and the last period are needed, and no range begins or ends outside of what was asked.
    assert DAYS.period(page[0]) == DAYS.period(held[0])
    assert DAYS.period(page[-1]) == DAYS.period(held[-1])
    assert asked.start <= place.hull.start < place.hull.end <= asked.end


def test_neighbouring_periods_are_one_range_in_either_direction() -> None:
    asked = Range(DAY // 2, 9 * DAY)
    rising = [(0, 1), (DAY, 1), (4 * DAY, 1)]
    ranges = (Range(DAY // 2, 2 * DAY), Range(4 * DAY, 5 * DAY))
    assert place_of(rising, DAYS, asked, 0, 9) == Place(ranges, 0)
    assert place_of(rising[::-1], DAYS, asked, 0, 9) == Place(ranges[::-1], 0)


def test_a_page_beyond_the_end_has_no_place() -> None:
    assert place_of([(0, 5)], DAYS, Range(0, DAY), 5, 1) is None
    assert place_of([], DAYS, Range(0, DAY), 0, 1) is None


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5)), max_size=40),
    st.integers(0, 20),
    st.integers(1, 10),
)
def test_joined_ranges_hold_all_of_them_and_are_few(
    pieces: list[tuple[int, int]], gap: int, most: int
) -> None:
    ranges = [Range(start * DAY, (start + length) * DAY) for start, length in pieces]
    found = joined(ranges, gap * DAY, most)
    assert len(found) <= most
    for piece in ranges:
        assert any(one.start <= piece.start and piece.end <= one.end for one in found)
    assert all(right.start - left.end > gap * DAY for left, right in pairwise(found))
    edges = {piece.start for piece in ranges}, {piece.end for piece in ranges}
    assert {one.start for one in found} <= edges[0]
    assert {one.end for one in found} <= edges[1]


def test_only_near_ranges_are_joined() -> None:
    days = [Range(start * DAY, (start + 1) * DAY) for start in (30, 0, 2, 9)]
    joined_by = {
        gap: [(one.start // DAY, one.end // DAY) for one in joined(days, gap * DAY, 9)] for gap in (0, 1, 6)
    }
    assert joined_by == {
        0: [(0, 1), (2, 3), (9, 10), (30, 31)],
        1: [(0, 3), (9, 10), (30, 31)],
        6: [(0, 10), (30, 31)],
    }
