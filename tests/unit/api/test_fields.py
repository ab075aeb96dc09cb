"""Parameters as clients send them."""

from typing import Any

import pytest

from api.surfaces import fields
from query.interval import DAY, Interval, Unit
from query.request import BEGINNING, END_OF_TIME, Range, check_points, checked_range, last_days
from schema.errors import Invalid


@pytest.mark.parametrize("value", [10, "10", 10.0, " 10 "])
def test_whole_numbers_come_as_numbers_and_as_texts(value: Any) -> None:
    assert fields.whole_number({"limit": value}, "limit", 100, 1, 10_000) == 10


@pytest.mark.parametrize("value", [0, 10_001, "0", "ten", "", True, 1.5, [], {}, "1e3", "9" * 30, 1e400])
def test_whole_numbers_have_bounds_and_a_form(value: Any) -> None:
    with pytest.raises(Invalid, match="limit: must be a whole number from 1 to 10000"):
        fields.whole_number({"limit": value}, "limit", 100, 1, 10_000)


def test_null_and_absent_are_the_default() -> None:
    assert fields.whole_number({"limit": None}, "limit", 100, 1, 10) == 100
    assert fields.whole_number({}, "limit", 100, 1, 10) == 100
    assert fields.label({"app_name": None}, "app_name") is None
    assert fields.moment({}, "start") is None


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (1_700_000_000_000, 1_700_000_000_000_000),
        ("1700000000000", 1_700_000_000_000_000),
        (1_700_000_000_000.5, 1_700_000_000_000_500),
        (5, 5_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
        ("2023-11-14T23:13:20.000001+01:00", 1_700_000_000_000_001),
        ("2023-11-14T22:13:20", 1_700_000_000_000_000),
        ("2023-11-14", 1_699_920_000_000_000),
    ],
)
def test_moments_are_iso_8601_or_epoch_milliseconds(value: Any, microseconds: int) -> None:
    assert fields.moment({"start": value}, "start") == microseconds


@pytest.mark.parametrize(
    "value", ["yesterday", "", -1, "-1", 1e300, 1e308, True, [], {}, "2023-02-30", 10**30]
)
def test_other_moments_are_refused_by_name(value: Any) -> None:
    with pytest.raises(Invalid, match=r"^start: "):
        fields.moment({"start": value}, "start")


@pytest.mark.parametrize("value", [5, True, [], {}, "a\x00b", "x" * 201])
def test_labels_are_texts_that_an_event_can_have(value: Any) -> None:
    with pytest.raises(Invalid, match=r"^app_name: "):
        fields.label({"app_name": value}, "app_name")


@pytest.mark.parametrize("given", [{}, {"event_name": None}, {"event_name": ""}])
def test_a_name_that_is_required_must_not_be_empty(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="event_name: is required"):
        fields.required_label(given, "event_name")


@pytest.mark.parametrize("value", [True, "two", [], "", "nan", "inf"])
def test_numbers_are_numbers(value: Any) -> None:
    with pytest.raises(Invalid, match="days: must be a number"):
        fields.number({"days": value}, "days", 2)


@pytest.mark.parametrize("days", [0, 0.5, -1, float("nan")])
def test_days_are_one_or_more(days: float) -> None:
    with pytest.raises(Invalid, match="1 or more"):
        last_days(days, 100 * DAY)


def test_days_reach_back_from_the_end_and_not_before_time_began() -> None:
    assert last_days(1.5, 100 * DAY) == Range(98 * DAY + DAY // 2, 100 * DAY)
    assert last_days(1e300, 100 * DAY) == Range(0, 100 * DAY)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    assert checked_range(None, None) == Range(BEGINNING, END_OF_TIME)
    assert checked_range(5, 5).empty
    with pytest.raises(Invalid, match="start: lies after end"):
        checked_range(6, 5)


def test_too_many_points_are_refused_with_their_number() -> None:
    second = Interval(Unit.SECOND)
    check_points(second, Range(0, 200_000_000_000), 200_000)
    with pytest.raises(Invalid, match="200001 points"):
        check_points(second, Range(0, 200_000_000_001), 200_000)
