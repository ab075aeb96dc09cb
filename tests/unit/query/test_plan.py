"""The planner, held against a store in memory that lies wherever a plan must not look."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.interval import DAY, SECOND, Interval, Unit
from query.plan import HOUR, MAX_SLICES, Knowledge, Plan, Slice, fitting_rungs, plan
from query.request import END_OF_TIME, Range
from schema.tables import (
    DEVICE_COUNTS_DAY,
    EVENT_COUNTS_DAY,
    EVENT_COUNTS_HOUR,
    EVENT_COUNTS_MINUTE,
    LADDER,
    Rung,
)

MINUTE = 60 * SECOND
SPAN = 6 * DAY
START = 20_000 * DAY
WRONG = 1_000_000
COMPLETE = {rung.table: END_OF_TIME for rung in LADDER}
FILTERS = st.sampled_from(
    [(), ("name",), ("name", "app"), ("server",), ("name", "device"), ("device", "app")]
)
# Moments that are borders more often than chance would have it.
MOMENTS = st.builds(
    lambda at, step: START + at // step * step,
    st.integers(0, SPAN),
    st.sampled_from([1, SECOND, MINUTE, HOUR, DAY]),
)
HOURS = st.builds(lambda at: at // HOUR * HOUR, MOMENTS)
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, 5))
RANGES = st.builds(lambda a, b: Range(min(a, b), max(a, b)), MOMENTS, MOMENTS)


def read(piece: Slice, events: list[int], known: Knowledge, interval: Interval) -> Counter[int]:
    """What a slice's source answers, right or wrong."""
    found: Counter[int] = Counter()
    for moment in events:
        at = moment if piece.rung is None else moment - moment % (piece.rung.period_seconds * SECOND)
        if piece.start <= at < piece.end:
            found[interval.period(at)] += 1
    if lies(piece, known):
        found[interval.period(piece.start)] += WRONG
    return found


def lies(piece: Slice, known: Knowledge) -> bool:
    if piece.rung is None:
        return piece.start < known.raw_floor
    step = piece.rung.period_seconds * SECOND
    stale = known.stale_hours.get(piece.rung.table, ())
    return (
        any(hour < piece.end and piece.start < hour + HOUR for hour in stale)
        or piece.end > known.complete_until.get(piece.rung.table, 0)
        or piece.start % step != 0
        or piece.end % step != 0
    )


@st.composite
def knowledges(draw: st.DrawFn) -> Knowledge:
    hours = draw(st.lists(HOURS, max_size=6))
    tables = draw(st.sampled_from([[rung.table for rung in LADDER], [DEVICE_COUNTS_DAY.table]]))
    complete = dict(COMPLETE)
    if draw(st.booleans()):
        complete[DEVICE_COUNTS_DAY.table] = draw(MOMENTS)
    floor = draw(st.one_of(st.just(0), MOMENTS.map(lambda at: at // DAY * DAY)))
    # The floor only rises over hours that have been refreshed.
    stale = [hour for hour in hours if hour >= floor]
    return Knowledge(dict.fromkeys(tables, stale), complete, floor)


@settings(max_examples=400)
@given(st.lists(MOMENTS, max_size=60), RANGES, INTERVALS, FILTERS, knowledges())
def test_a_plan_counts_every_event_once_and_never_looks_where_the_store_is_wrong(
    events: list[int],
    asked: Range,
    interval: Interval,
    dimensions: tuple[str, ...],
    known: Knowledge,
) -> None:
    found = plan(asked, interval, dimensions, known)
    counted: Counter[int] = Counter()
    for piece in found.slices:
        counted += read(piece, events, known, interval)
    expected = Counter(
        interval.period(moment)
        for moment in events
        if asked.start <= moment < asked.end
        and not any(gone.start <= moment < gone.end for gone in found.left_out)
    )
    assert counted == expected
    assert all(gone.end <= known.raw_floor for gone in found.left_out)
    assert length(found) == asked.end - asked.start


def length(found: Plan) -> int:
    slices = sum(piece.end - piece.start for piece in found.slices)
    return slices + sum(gone.end - gone.start for gone in found.left_out)


@pytest.mark.parametrize(
    ("interval", "dimensions", "rungs"),
    [
        (Interval(Unit.SECOND), {"name"}, []),
        (Interval(Unit.SECOND, 120), {"name"}, [EVENT_COUNTS_MINUTE]),
        (Interval(Unit.MINUTE), {"name"}, [EVENT_COUNTS_MINUTE]),
        (Interval(Unit.MINUTE), {"name", "app"}, []),
        (Interval(Unit.MINUTE, 90), {"name"}, [EVENT_COUNTS_MINUTE]),
        (Interval(Unit.HOUR), {"name", "server"}, [EVENT_COUNTS_HOUR]),
        (Interval(Unit.WEEK), {"name"}, [EVENT_COUNTS_DAY, EVENT_COUNTS_HOUR, EVENT_COUNTS_MINUTE]),
        (Interval(Unit.MONTH), {"app"}, [EVENT_COUNTS_DAY, EVENT_COUNTS_HOUR]),
        (Interval(Unit.DAY), {"name", "device"}, [DEVICE_COUNTS_DAY]),
        (Interval(Unit.DAY), {"no device", "device"}, []),
        (None, {"name", "app"}, [EVENT_COUNTS_DAY, EVENT_COUNTS_HOUR]),
    ],
)
def test_a_rung_fits_by_its_borders_and_its_dimensions(
    interval: Interval | None, dimensions: set[str], rungs: list[Rung]
) -> None:
    assert fitting_rungs(interval, frozenset(dimensions)) == rungs


def test_whole_periods_come_from_the_coarsest_rung_and_edges_from_finer_ones() -> None:
    asked = Range(START + 22 * HOUR + 59 * MINUTE + 1, START + 3 * DAY + HOUR + 1)
    found = plan(asked, Interval(Unit.DAY), {"name"}, Knowledge({}, COMPLETE))
    assert [piece.rung for piece in found.slices] == [
        None,
        EVENT_COUNTS_HOUR,
        EVENT_COUNTS_DAY,
        EVENT_COUNTS_HOUR,
        None,
    ]
    assert found.slices[2] == Slice(EVENT_COUNTS_DAY, START + DAY, START + 3 * DAY)


def test_a_stale_hour_is_read_raw_and_the_rest_of_its_day_from_the_hours() -> None:
    stale = {rung.table: [START + 30 * HOUR] for rung in LADDER}
    found = plan(Range(START, START + 4 * DAY), Interval(Unit.DAY), {"app"}, Knowledge(stale, COMPLETE))
    assert found.slices == (
        Slice(EVENT_COUNTS_DAY, START, START + DAY),
        Slice(EVENT_COUNTS_HOUR, START + DAY, START + 30 * HOUR),
        Slice(None, START + 30 * HOUR, START + 31 * HOUR),
        Slice(EVENT_COUNTS_HOUR, START + 31 * HOUR, START + 2 * DAY),
        Slice(EVENT_COUNTS_DAY, START + 2 * DAY, START + 4 * DAY),
    )


def test_all_of_time_is_one_slice_of_the_days() -> None:
    found = plan(Range(), None, {"app", "name"}, Knowledge({}, COMPLETE))
    assert found.slices == (Slice(EVENT_COUNTS_DAY, 0, END_OF_TIME),)


def test_below_the_raw_floor_a_part_of_a_period_is_left_out_and_named() -> None:
    known = Knowledge({}, COMPLETE, raw_floor=START + DAY)
    found = plan(Range(START + 30 * MINUTE, START + 2 * DAY), Interval(Unit.HOUR), {"app"}, known)
    assert found.left_out == (Range(START + 30 * MINUTE, START + HOUR),)
    assert found.slices == (Slice(EVENT_COUNTS_HOUR, START + HOUR, START + 2 * DAY),)


def test_below_the_raw_floor_a_grid_too_fine_for_any_rung_is_left_out() -> None:
    known = Knowledge({}, COMPLETE, raw_floor=START + DAY)
    found = plan(Range(START, START + 2 * DAY), Interval(Unit.SECOND), {"name"}, known)
    assert found == Plan((Slice(None, START + DAY, START + 2 * DAY),), (Range(START, START + DAY),))


def test_many_scattered_stale_hours_do_not_make_a_statement_without_end() -> None:
    stale = {rung.table: list(range(START, START + 700 * DAY, 5 * HOUR)) for rung in LADDER}
    asked = Range(START, START + 800 * DAY)
    found = plan(asked, Interval(Unit.DAY), {"name"}, Knowledge(stale, COMPLETE))
    assert len(found.slices) <= MAX_SLICES
    assert length(found) == asked.end - asked.start
    assert not any(lies(piece, Knowledge(stale, COMPLETE)) for piece in found.slices)
    assert found.slices[-1].rung is EVENT_COUNTS_DAY
