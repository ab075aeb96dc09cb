"""Models of parameters read what clients send, name what they refuse, and describe themselves."""

from __future__ import annotations

from typing import Any

import pytest

from api.http.openapi.schemas import Schemas
from api.surfaces.bucket_events import EventsQuestion, HistogramQuestion
from api.surfaces.devices import JournalQuestion
from api.surfaces.node_stats import NodeStatsQuestion
from api.surfaces.parameters import Question, asked
from schema.errors import Invalid


def test_null_and_nothing_are_the_default() -> None:
    given = {"event_name": "boot", "limit": None, "start": None, "unknown": 1}
    question = asked(EventsQuestion, given)
    assert (question.limit, question.offset, question.start, question.app_name) == (100, 0, None, None)


def test_texts_are_numbers_and_moments() -> None:
    question = asked(EventsQuestion, {"event_name": "boot", "limit": " 7 ", "start": "1000", "end": 2.5})
    assert (question.limit, question.start, question.end) == (7, 1_000_000, 2_500)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (EventsQuestion, {}, "event_name: is required"),
        (EventsQuestion, {"event_name": "a", "limit": 0}, "limit: must be a whole number from 1 to 10000"),
        # What would not be looked at is refused too: the caller meant something by it.
        (HistogramQuestion, {"event_name": "a", "days": 0.5, "start": 0}, "days: must be 1 or more"),
        (HistogramQuestion, {"event_name": "a", "interval": "fortnight"}, "interval: 'fortnight' is none"),
        (JournalQuestion, {"human_readable": "true", "humanReadable": "maybe"}, "humanReadable: must be"),
        (JournalQuestion, {"mode": "monthly"}, "mode: must be one of journal"),
        (NodeStatsQuestion, {}, "day: is required"),
    ],
)
def test_a_refusal_names_the_parameter(model: type[Question], given: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=f"^{said}"):
        asked(model, given)


def test_of_two_spellings_the_first_counts() -> None:
    both = {"human_readable": "false", "humanReadable": "true", "olderFirst": "false"}
    question = asked(JournalQuestion, both)
    assert (question.readable, question.ascending) == (False, False)


def test_a_model_says_what_it_requires_and_what_it_takes_for_granted() -> None:
    described = {name: (schema, required) for name, schema, required in Schemas().fields(EventsQuestion)}
    assert [name for name, (_, required) in described.items() if required] == ["event_name"]
    limit = described["limit"][0]
    assert limit["default"] == 100
    assert {"type": "integer", "minimum": 1, "maximum": 10_000} in limit["anyOf"]
