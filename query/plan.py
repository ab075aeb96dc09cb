"""Which part of a range is read from where: the coarsest rung that fits, raw rows at the edges. Pure.

A rung fits a question when its dimensions cover the filters (and what is grouped by) and every border
of the question's grid is a border of its periods. Of such a rung a plan reads whole periods only, none
of them with a stale hour in it, none beyond the rung's coverage; what is left over goes to the next
finer rung, and at last to raw rows. Where raw rows are gone (before the raw floor), what is left over
is left out, and the plan says so. Slices never overlap, so their counts add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from query.interval import SECOND, Interval
from query.request import Range
from schema.tables import HOUR_SECONDS, LADDER, Rung

HOUR = HOUR_SECONDS * SECOND
# Each slice is a part of the statement: beyond this many, stale hours near each other are read as one.
MAX_SLICES = 60


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the store said of itself in the snapshot that is counted in. Moments: microseconds since 1970.

    ``stale_hours``: rung's table → starts of hours that it must not be asked for.
    ``complete_until``: rung's table → end of what it holds; a rung that is missing holds nothing.
    ``raw_floor``: no raw rows before it.
    """

    stale_hours: Mapping[str, Sequence[int]] = field(default_factory=dict)
    complete_until: Mapping[str, int] = field(default_factory=dict)
    raw_floor: int = 0

    def within(self, hours: Range) -> Knowledge:
        """The same, with only the stale hours of a range."""
        kept = {
            rollup: [hour for hour in stale if hours.start <= hour < hours.end]
            for rollup, stale in self.stale_hours.items()
        }
        return replace(self, stale_hours={rollup: stale for rollup, stale in kept.items() if stale})


@dataclass(frozen=True, slots=True)
class Slice:
    """[start, end) of one source; ``rung`` None: raw rows."""

    rung: Rung | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices in order of time, and the ranges that nothing can answer any more."""

    slices: tuple[Slice, ...]
    left_out: tuple[Range, ...] = ()


def plan(asked: Range, interval: Interval | None, dimensions: Iterable[str], known: Knowledge) -> Plan:
    """The cheapest exact way through ``asked``.

    ``interval`` None: one count over the range, so every width fits. ``dimensions``: columns that are
    filtered or grouped by.
    """
    rungs = fitting_rungs(interval, frozenset(dimensions))
    joined_within = 0
    while True:
        found = _plan(asked, rungs, known, joined_within)
        if len(found.slices) <= MAX_SLICES or joined_within > asked.end - asked.start:
            return found
        joined_within = max(HOUR, joined_within * 2)


def fitting_rungs(interval: Interval | None, dimensions: frozenset[str]) -> list[Rung]:
    """Rungs that can answer, coarsest first."""
    fitting = [
        rung
        for rung in LADDER
        if dimensions <= set(rung.dimensions)
        # The device rung leaves out events without a device.
        and ("device" in rung.dimensions) <= ("device" in dimensions)
        and (interval is None or interval.made_of(rung.period_seconds))
    ]
    return sorted(fitting, key=lambda rung: -rung.period_seconds)


def _plan(asked: Range, rungs: list[Rung], known: Knowledge, joined_within: int) -> Plan:
    ladder = [(rung, _stale_ranges(rung, known, joined_within)) for rung in rungs]
    slices: list[Slice] = []
    left_out: list[Range] = []
    for piece in _carve(asked.start, asked.end, ladder, known):
        if piece.rung is None and piece.start < known.raw_floor:
            gone_until = min(piece.end, known.raw_floor)
            _leave_out(left_out, piece.start, gone_until)
            _add(slices, None, gone_until, piece.end)
        else:
            _add(slices, piece.rung, piece.start, piece.end)
    return Plan(tuple(slices), tuple(left_out))


def _add(slices: list[Slice], rung: Rung | None, start: int, end: int) -> None:
    if start >= end:
        return
    if slices and slices[-1].rung is rung and slices[-1].end == start:
        start = slices.pop().start
    slices.append(Slice(rung, start, end))


def _leave_out(left_out: list[Range], start: int, end: int) -> None:
    if left_out and left_out[-1].end == start:
        start = left_out.pop().start
    left_out.append(Range(start, end))


def _carve(
    start: int, end: int, ladder: Sequence[tuple[Rung, Sequence[Range]]], known: Knowledge
) -> Iterator[Slice]:
    """Slices of [start, end) in order, raw ones not yet cut at the floor."""
    if start >= end:
        return
    if not ladder:
        yield Slice(None, start, end)
        return
    (rung, stale), finer = ladder[0], ladder[1:]
    step = rung.period_seconds * SECOND
    first = -(-start // step) * step
    last = min(end, known.complete_until.get(rung.table, 0)) // step * step
    if first >= last:
        yield from _carve(start, end, finer, known)
        return
    yield from _carve(start, first, finer, known)
    reached = first
    for blocked in stale:
        if blocked.end <= reached or blocked.start >= last:
            continue
        clean_until, resume = max(blocked.start, reached), min(blocked.end, last)
        if reached < clean_until:
            yield Slice(rung, reached, clean_until)
        yield from _carve(clean_until, resume, finer, known)
        reached = resume
    if reached < last:
        yield Slice(rung, reached, last)
    yield from _carve(last, end, finer, known)


def _stale_ranges(rung: Rung, known: Knowledge, joined_within: int) -> list[Range]:
    """What a rung must not be asked for, widened to whole periods, in order, without overlap."""
    step = max(rung.period_seconds * SECOND, HOUR)
    ranges: list[Range] = []
    for hour in sorted(known.stale_hours.get(rung.table, ())):
        if hour + HOUR <= known.raw_floor:
            # The floor only rises over hours that were refreshed, and nothing is stored below it.
            continue
        start, end = hour // step * step, (hour // step + 1) * step
        if ranges and start - ranges[-1].end <= joined_within:
            ranges[-1] = Range(ranges[-1].start, max(ranges[-1].end, end))
        else:
            ranges.append(Range(start, end))
    return ranges
