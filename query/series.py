"""From counts to points: ascending, zero-filled from the first period with events to the last. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from query.interval import Interval

Point = tuple[int, int]


def filled(counts: Iterable[Point], interval: Interval) -> list[Point]:
    """Points (start of the period in epoch ms, count) from ``counts`` (epoch ms in it, count above 0).

    ``counts`` may come in any order, each moment once.
    """
    width = interval.width
    if width is None:
        return _filled_months(counts, interval)
    found = dict(counts)
    if not found:
        return []
    first, last, step = min(found), max(found), width // 1000
    return [(x, found.get(x, 0)) for x in range(first, last + 1, step)]


def _filled_months(counts: Iterable[Point], interval: Interval) -> list[Point]:
    found: Counter[int] = Counter()
    for x, y in counts:
        found[interval.period(x * 1000)] += y
    points = []
    if found:
        period, last = min(found), max(found)
        while period <= last:
            points.append((period // 1000, found[period]))
            period = interval.following(period)
    return points
