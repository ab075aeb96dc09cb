"""Whatever a parameter or a member of a body holds: it is taken or refused, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from api.surfaces.bucket_events import EventsQuestion, HistogramQuestion, NamesQuestion
from api.surfaces.buckets import bodies
from api.surfaces.device_data import DeviceDataQuestion, checked_question
from api.surfaces.devices import JournalQuestion
from api.surfaces.keys import KeysQuestion, NewKey
from api.surfaces.node_stats import NodeStatsQuestion
from api.surfaces.oauth import CredentialsGrant, PasswordGrant, RefreshGrant, Registration
from api.surfaces.parameters import Question, asked
from api.surfaces.registrations import DeviceBody, DevicesQuestion
from api.surfaces.requests import checked
from query.interval import parse_interval
from query.request import check_points, checked_range, last_days
from schema.errors import Invalid

NOW = 1_790_000_000_000_000
# What a JSON body may hold: whole numbers of 64 bits, any double, any text.
EDGES: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, 1e300, 1.7e308, -1.7e308, 5e-324, 2**63, 2**64 - 1, -(2**63)),
    *(1e16, 253_402_214_399, 253_402_214_399_999.9, "1e308", "9" * 18, "9" * 400, "0x10", "٣", "1_0", " 7 "),
    *("NaN", "-0", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59", "0001-01-01"),
    *("0001-01-01T00:00:00+23:59", "2026-W05-1", "24:00", "2026-02-30", "999999mo", "999999w", "1 second"),
    *("", " ", "\x00", "\u2028", "x" * 300, "a = 1", "((", "a@b", "true", "none", "asc"),
]
# Each of them by itself, and where nobody expects one.
VALUES = [
    value for edge in EDGES for value in (edge, [edge], [edge, "d1"], {"AND": [edge]}, {"x": {"y": edge}})
]
# What is asked soundly, so that a refusal of one member does not hide what becomes of another.
SOUND = {
    "event_name": "boot",
    "device_id": "d1",
    "stream": "raw",
    "day": "2026-01-31",
    "name": "first",
    "scope": "read",
    "email": "ada@example.com",
    "username": "ada",
    "password": "correct horse",
    "plan": "pro",
    "role": "admin",
    "options": {},
}


def oddly_asked(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """A sound question, each time with one of its members replaced."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    sound = {name: value for name, value in SOUND.items() if name in names}
    for name in names:
        for value in VALUES:
            yield {**sound, name: value}


def histogram(given: dict[str, Any]) -> None:
    question = asked(HistogramQuestion, given)
    until = NOW if question.end is None else question.end
    within = (
        last_days(question.days, until) if question.start is None else checked_range(question.start, until)
    )
    check_points(parse_interval(question.interval), within, 200_000)


def page(given: dict[str, Any]) -> None:
    question = asked(EventsQuestion, given)
    checked_range(question.start, question.end)


def streams(given: dict[str, Any]) -> None:
    question = checked_question(given)
    assert question.range(NOW).start >= 0
    assert question.condition is not None
    assert question.sorting is not None


def journal(given: dict[str, Any]) -> None:
    assert asked(JournalQuestion, given).range(NOW).start >= 0


def question_of(model: type[Question]) -> Callable[[dict[str, Any]], object]:
    return lambda given: asked(model, given)


def body_of(model: type[BaseModel]) -> Callable[[dict[str, Any]], object]:
    return lambda given: checked(model, given)


READERS: list[tuple[type[BaseModel], Callable[[dict[str, Any]], object]]] = [
    (EventsQuestion, page),
    (HistogramQuestion, histogram),
    (DeviceDataQuestion, streams),
    (JournalQuestion, journal),
    *(
        (model, question_of(model))
        for model in (NamesQuestion, NodeStatsQuestion, DevicesQuestion, KeysQuestion)
    ),
    *((model, body_of(model)) for model in (RefreshGrant, PasswordGrant, CredentialsGrant, Registration)),
    *((model, body_of(model)) for model in (NewKey, DeviceBody, bodies.NewBucket, bodies.ChangedBucket)),
    *(
        (model, body_of(model))
        for model in (bodies.Address, bodies.Promotion, bodies.Options, bodies.Upgrade)
    ),
]


@pytest.mark.parametrize(("model", "read"), READERS, ids=[model.__name__ for model, _ in READERS])
def test_every_value_is_taken_or_refused(
    model: type[BaseModel], read: Callable[[dict[str, Any]], object]
) -> None:
    for given in oddly_asked(model):
        with suppress(Invalid):
            read(given)
