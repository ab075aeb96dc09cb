"""Moments in every form that is accepted, and what the models refuse."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schema.errors import Invalid
from schema.events import EventModel, NodeReportModel, first_problem, parse_moment

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
aware = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 - the strategy adds the zone
    datetime(9999, 12, 29),  # noqa: DTZ001 - as above
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)


@given(aware)
def test_iso_texts_with_any_offset_are_exact(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1)


@given(st.integers(0, 10**11 - 1))
def test_numbers_below_ten_to_the_eleventh_are_seconds(seconds: int) -> None:
    assert parse_moment(seconds) == seconds * 1_000_000


@given(st.integers(10**11, 253_370_764_800_000))
def test_numbers_from_there_are_milliseconds(milliseconds: int) -> None:
    assert parse_moment(milliseconds) == milliseconds * 1_000


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000),
        ("2026-01-31T13:30:00+01:30", 1_769_860_800_000_000),
        ("2026-01-31T12:00:00.123456Z", 1_769_860_800_123_456),
        (1_769_860_800, 1_769_860_800_000_000),
        (1_769_860_800.5, 1_769_860_800_500_000),
        (1_769_860_800_500, 1_769_860_800_500_000),
        (0, 0),
        (-0.0, 0),
    ],
)
def test_moments(value: str | float, microseconds: int) -> None:
    assert parse_moment(value) == microseconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2026-01-31T12:00:00",
        "2026-13-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        -1,
        float("nan"),
        float("inf"),
        float("-inf"),
        True,
        10**30,
        1e300,
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_moment_is_invalid_and_names_the_field(value: str | float) -> None:
    with pytest.raises(Invalid, match=r"^when: "):
        parse_moment(value, "when")


@given(st.text(max_size=30) | st.integers() | st.floats())
def test_nothing_else_ever_comes_out(value: str | float) -> None:
    with suppress(Invalid):
        assert 0 <= parse_moment(value) < 253_402_300_800_000_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name: required"),
        ({"name": ""}, "name: must have 1 or more characters"),
        ({"name": 1}, "name: must be a string"),
        ({"name": "n", "observed_at": True}, "observed_at: must be a string or a number"),
        ({"name": "n\x00"}, "name: holds the character U+0000"),
        ({"name": "n", "id": ""}, "id: "),
        ({"name": "n" * 201}, "name: must have 200 characters at most"),
        ({"name": "n", "colour": "red"}, "colour: unknown field"),
    ],
)
def test_a_bad_event_is_told_its_field(body: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EventModel.model_validate(body)
    assert first_problem(caught.value).startswith(field)


@pytest.mark.parametrize(
    "change", [{"latency_ms": float("nan")}, {"latency_ms": -1.0}, {"status": "UP"}, {"interval_seconds": 0}]
)
def test_a_bad_node_report_is_refused(change: dict[str, object]) -> None:
    assert NodeReportModel.model_validate({"host": "a"}).status == "ONLINE"
    with pytest.raises(ValidationError):
        NodeReportModel.model_validate({"host": "a", **change})
