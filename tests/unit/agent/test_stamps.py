"""Stamping: an id and a moment once, and nothing invalid on disk."""

from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.stamps import moment_text, new_event_id, stamped_event, stamped_report
from schema.errors import Invalid
from schema.events import parse_moment


@given(st.integers(0, 4 * 10**15))
def test_a_moment_keeps_its_microseconds(microseconds: int) -> None:
    # A double holds microseconds of this century exactly enough to be rounded back.
    assert parse_moment(moment_text(microseconds / 1_000_000)) == microseconds


def test_an_event_gets_an_id_and_a_moment() -> None:
    event_id, line = stamped_event({"name": "x"}, lambda: 1_800_000_000.5)
    assert orjson.loads(line) == {"name": "x", "id": event_id, "observed_at": "2027-01-15T08:00:00.500000Z"}
    assert UUID(event_id).version == 7


def test_an_event_keeps_the_identity_that_it_has() -> None:
    event_id, line = stamped_event({"name": "x", "id": "mine", "observed_at": 17}, lambda: 5.0)
    assert event_id == "mine"
    assert orjson.loads(line)["observed_at"] == 17


def test_ids_are_ascending_and_different() -> None:
    ids = [new_event_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "nmae": 1}, "nmae"),
        ({"name": "x", "device": 3}, "device"),
        ({"name": "x", "observed_at": "yesterday"}, "observed_at"),
        ({"name": "x", "observed_at": "2026-01-01T00:00:00"}, "observed_at"),
        ({"name": "x", "observed_at": [1]}, "observed_at"),
        ({"name": "x", "data": {"oops": object()}}, "data"),
    ],
)
def test_what_the_gateway_would_refuse_is_refused_here_by_name(event: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid, match=field):
        stamped_event(event, lambda: 1.0)


def test_a_report_outside_its_bounds_is_refused() -> None:
    with pytest.raises(Invalid, match="interval_seconds"):
        stamped_report({"host": "a", "interval_seconds": 4000}, lambda: 1.0)
