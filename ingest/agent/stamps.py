"""An event gets its id and its moment here, once, before it touches the disk.

Above it are whoever observes events, below it the buffer. The guarantee: what comes out is complete and
valid by the contract's models, so every repeat of it carries the same identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError
from uuid_utils import uuid7

from schema.errors import Invalid
from schema.events import EventModel, NodeReportModel, first_problem, parse_moment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock = Callable[[], float]
"""Seconds since 1970, as ``time.time``."""


def new_event_id() -> str:
    """A UUIDv7."""
    return str(uuid7())


def moment_text(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    text = (_EPOCH + timedelta(microseconds=round(at * 1_000_000))).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def stamped_event(
    event: Mapping[str, Any], clock: Clock, new_id: Callable[[], str] = new_event_id
) -> tuple[str, bytes]:
    """An event's id, and the event as one line of JSON. Raises Invalid, naming the field."""
    complete = {
        **event,
        "id": event.get("id") or new_id(),
        "observed_at": _moment(event, clock),
    }
    return complete["id"], _line(EventModel, complete)


def stamped_report(report: Mapping[str, Any], clock: Clock) -> bytes:
    """A node report as one line of JSON; its identity is its node and its moment. Raises Invalid."""
    return _line(NodeReportModel, {**report, "observed_at": _moment(report, clock)})


def _moment(item: Mapping[str, Any], clock: Clock) -> str | int | float:
    given = item.get("observed_at")
    if given is None:
        return moment_text(clock())
    if not isinstance(given, str | int | float):
        raise Invalid("observed_at: not a moment; write ISO 8601, or Unix seconds or milliseconds")
    parse_moment(given)
    return given


def _line(model: type[EventModel | NodeReportModel], item: dict[str, Any]) -> bytes:
    try:
        model.model_validate(item)
        return orjson.dumps(item)
    except ValidationError as error:
        raise Invalid(first_problem(error)) from error
    except TypeError as error:
        raise Invalid(f"data: cannot be written as JSON ({error})") from error
