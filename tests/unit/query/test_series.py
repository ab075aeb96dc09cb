"""Zero-filling: every period from the first to the last that has events, and no other."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from query.interval import DAY, Interval, Unit
from query.series import filled

INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, 40))


@given(INTERVALS, st.lists(st.integers(0, 3 * DAY // 1000), max_size=20), st.integers(0, 20_000))
def test_points_are_even_complete_and_lose_no_count(interval: Interval, offsets: list[int], day: int) -> None:
    start = day * DAY // 1000
    counts = Counter(interval.period((start + at) * 1000) // 1000 for at in offsets)
    points = filled(sorted(counts.items()), interval)
    assert {x: y for x, y in points if y} == counts
    assert [x * 1000 for x, _ in points[1:]] == [interval.following(x * 1000) for x, _ in points[:-1]]
    if points:
        assert points[0][1] > 0
        assert points[-1][1] > 0


def test_months_are_put_together_when_a_period_is_several() -> None:
    quarter = Interval(Unit.MONTH, 3)
    months = [(0, 1), (31 * DAY // 1000, 2), (3000 * DAY // 1000, 4)]
    points = filled(months, quarter)
    assert points[0] == (0, 3)
    assert sum(y for _, y in points) == 7
    assert len(points) == 33


def test_nothing_found_is_no_points() -> None:
    assert filled([], Interval(Unit.MINUTE)) == []
    assert filled([], Interval(Unit.MONTH)) == []
