"""Where a page lies: the periods that hold it, by counts that are exact. Pure.

A page of single events may be far down its list, or its events few among many others: walked from the
first on, everything before and between them would be read and thrown away. Counts by day, and by hour, say
where they are; so only that is read, and only those chunks are planned for. Counts and rows must come from
one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from query.interval import DAY, Interval
from query.request import Range


@dataclass(frozen=True, slots=True)
class Place:
    """``ranges``: those that hold the page, in its order; ``offset``: how many of their rows precede it."""

    ranges: tuple[Range, ...]
    offset: int

    @property
    def hull(self) -> Range:
        """From the first moment to the last."""
        return Range(min(piece.start for piece in self.ranges), max(piece.end for piece in self.ranges))


def place_of(
    counts: Iterable[tuple[int, int]], interval: Interval, asked: Range, offset: int, limit: int
) -> Place | None:
    """The place of a page within ``asked``; None: the list ends before it.

    ``counts``: (start of a period of ``interval``, rows of ``asked`` in it), in the order of the page,
    all of them that are not 0.
    """
    ranges: list[Range] = []
    passed = found = 0
    for start, count in counts:
        if not ranges and passed + count <= offset:
            passed += count
            continue
        piece = Range(max(start, asked.start), min(interval.following(start), asked.end))
        if ranges and ranges[-1].start == piece.end:
            ranges[-1] = Range(piece.start, ranges[-1].end)
        elif ranges and ranges[-1].end == piece.start:
            ranges[-1] = Range(ranges[-1].start, piece.end)
        else:
            ranges.append(piece)
        found += count
        if passed + found >= offset + limit:
            break
    return Place(tuple(ranges), offset - passed) if ranges else None


def joined(ranges: Iterable[Range], gap: int, most: int) -> list[Range]:
    """The ranges in order of time, those not further apart than ``gap`` as one.

    At most ``most`` of them, which is above 0: where they are more, further ones are joined, too.
    """
    ordered = sorted(ranges, key=lambda piece: piece.start)
    while True:
        found: list[Range] = []
        for piece in ordered:
            if found and piece.start - found[-1].end <= gap:
                found[-1] = Range(found[-1].start, max(found[-1].end, piece.end))
            else:
                found.append(piece)
        if len(found) <= most:
            return found
        gap = max(2 * gap, DAY)
