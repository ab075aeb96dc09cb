"""The grid of a histogram: what may be written, and where its borders lie."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.interval import DAY, SECOND, Interval, Unit, parse_interval
from query.request import END_OF_TIME
from schema.errors import Invalid

MOMENTS = st.integers(0, END_OF_TIME - 1)
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, 400))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("second", Interval(Unit.SECOND)),
        ("minute", Interval(Unit.MINUTE)),
        ("hours", Interval(Unit.HOUR)),
        ("DAY", Interval(Unit.DAY)),
        ("week", Interval(Unit.WEEK)),
        ("month", Interval(Unit.MONTH)),
        ("5m", Interval(Unit.MINUTE, 5)),
        ("2h", Interval(Unit.HOUR, 2)),
        ("90 seconds", Interval(Unit.SECOND, 90)),
        ("3mo", Interval(Unit.MONTH, 3)),
        (" 1 w ", Interval(Unit.WEEK)),
    ],
)
def test_an_interval_may_be_written_like_this(text: str, interval: Interval) -> None:
    assert parse_interval(text) == interval


@pytest.mark.parametrize(
    "text",
    ["", "0m", "-1m", "1.5h", "fortnight", "m5", "5", "1000000m", "5m5m", "x" * 5000, "minute; DROP", "٣m"],
)
def test_anything_else_is_refused_and_told_what_to_write(text: str) -> None:
    with pytest.raises(Invalid, match="second, minute, hour"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("interval", "moment", "start"),
    [
        (Interval(Unit.MINUTE, 5), "2026-03-04T10:07:59", "2026-03-04T10:05:00"),
        (Interval(Unit.HOUR, 5), "1970-01-01T11:00:00", "1970-01-01T10:00:00"),
        (Interval(Unit.WEEK), "2026-03-08T23:59:59", "2026-03-02T00:00:00"),
        (Interval(Unit.WEEK), "2026-03-09T00:00:00", "2026-03-09T00:00:00"),
        (Interval(Unit.MONTH), "2024-02-29T12:00:00", "2024-02-01T00:00:00"),
        (Interval(Unit.MONTH, 3), "2024-12-31T12:00:00", "2024-10-01T00:00:00"),
        (Interval(Unit.WEEK), "1970-01-01T00:00:00", "1969-12-29T00:00:00"),
    ],
)
def test_periods_begin_at_the_epoch_on_mondays_and_with_months(
    interval: Interval, moment: str, start: str
) -> None:
    assert interval.period(at(moment)) == at(start)


@given(INTERVALS, MOMENTS)
def test_a_moment_lies_in_its_period(interval: Interval, moment: int) -> None:
    period = interval.period(moment)
    assert period <= moment
    assert interval.period(period) == period
    following = interval.following(period)
    if following < END_OF_TIME:
        assert moment < following
        assert interval.period(following) == following


@given(INTERVALS, MOMENTS, st.integers(0, 500 * DAY))
def test_points_are_the_periods_that_a_range_touches(interval: Interval, start: int, length: int) -> None:
    end = min(start + length, END_OF_TIME)
    points = interval.points(start, end)
    if points > 3000:
        return
    touched = 0
    period = interval.period(start)
    while period < end and start < end and touched <= points:
        touched += 1
        period = interval.following(period)
    assert points == touched


@given(INTERVALS, st.sampled_from([60, 3600, 86_400]), MOMENTS)
def test_a_grid_is_made_of_a_rungs_periods_only_if_its_borders_are_theirs(
    interval: Interval, period_seconds: int, moment: int
) -> None:
    border = interval.period(moment)
    if interval.made_of(period_seconds):
        assert border % (period_seconds * SECOND) == 0
    else:
        borders = [border := interval.following(border) for _ in range(100)]
        assert any(b % (period_seconds * SECOND) for b in borders)
