"""What an event and a node report are: the contract, as pydantic models.

The models check one JSON object each, strictly (a number is no string), and name the field that is
wrong. ``parse_moment`` reads every form of a moment that we accept. The gateway's hot path decodes
with msgspec; a property test holds it to these models.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from schema.errors import Invalid

MAX_ID = 128
MAX_LABEL = 200
MAX_STREAM = 100
MAX_HOST = 200
MAX_VERSION = 100
DEFAULT_STREAM = "events"
DEFAULT_INTERVAL_SECONDS = 60
MAX_INTERVAL_SECONDS = 3600

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_parsed = datetime.fromisoformat
_MICROSECOND = timedelta(microseconds=1)
# A number is seconds below this, milliseconds from there.
_MILLISECONDS_FROM = 10**11
# The last moment that we can show again: year 9999.
_LAST_MICROSECOND = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def storable(text: str) -> str:
    """The text itself. Raises ValueError if PostgreSQL could not store it."""
    if "\x00" in text:
        raise ValueError("holds the character U+0000, which cannot be stored; remove it")
    return text


Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(storable)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_LABEL), AfterValidator(storable)]
Label = Annotated[str, Field(max_length=MAX_LABEL), AfterValidator(storable)]
Stream = Annotated[str, Field(min_length=1, max_length=MAX_STREAM), AfterValidator(storable)]
Moment = str | int | float
Status = Literal["ONLINE", "OFFLINE", "DISCONNECTED"]


class EventModel(BaseModel):
    """One event as it is sent to ``POST /v1/events``."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Event")

    name: Name = Field(description="What happened.")
    id: Identifier | None = Field(
        None, description="The sender's identifier; absent: the gateway makes a UUIDv7."
    )
    observed_at: Moment | None = Field(
        None,
        description="When it happened: ISO 8601 with offset, Unix seconds below 10^11, milliseconds from "
        "there. Absent: the moment of receipt.",
    )
    stream: Stream = Field(DEFAULT_STREAM, description="The stream that it belongs to.")
    device: Label = Field("", description="The device that it came from.")
    app: Label = Field("", description="The application that it came from.")
    server: Label = Field("", description="The server that it came from.")
    data: Any = Field(
        default_factory=dict, description='The payload; whatever is not an object becomes {"value": …}.'
    )


class EventCreateModel(BaseModel):
    """One event as it is sent to ``POST /event_create``; its name is its stream's."""

    model_config = ConfigDict(extra="forbid", strict=True, title="EventCreate")

    device_id: Name = Field(description="The device that it came from.")
    stream: Stream = Field(description="The stream that it belongs to, and the event's name.")
    observed_at: Moment | None = Field(
        None, description="When it happened, as for POST /v1/events. Absent: the moment of receipt."
    )
    event_data: Any = Field(
        default_factory=dict, description='The payload; whatever is not an object becomes {"value": …}.'
    )


class NodeReportModel(BaseModel):
    """One node report as it is sent to ``POST /v1/nodes``."""

    model_config = ConfigDict(extra="forbid", strict=True, title="NodeReport")

    host: Annotated[str, Field(min_length=1, max_length=MAX_HOST), AfterValidator(storable)] = Field(
        description="Name of the node."
    )
    ip: Annotated[str, Field(max_length=MAX_HOST), AfterValidator(storable)] = Field(
        "", description="Address of the node."
    )
    version: Annotated[str, Field(max_length=MAX_VERSION), AfterValidator(storable)] = Field(
        "", description="Version of the software that the node runs."
    )
    status: Status = Field("ONLINE", description="State of the node from this moment on.")
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="Round trip to the node, in milliseconds."
    )
    observed_at: Moment | None = Field(
        None, description="Moment of the report; absent: the moment of receipt."
    )
    interval_seconds: Annotated[int, Field(ge=1, le=MAX_INTERVAL_SECONDS)] = Field(
        DEFAULT_INTERVAL_SECONDS, description="Seconds until the node's next report."
    )


def parse_moment(value: str | float, field: str = "observed_at") -> int:
    """Microseconds since 1970 of an ISO 8601 text with offset, or of Unix seconds or milliseconds.

    Raises Invalid, naming ``field``.
    """
    if isinstance(value, str):
        try:
            since = _parsed(value) - _EPOCH
            # A third cheaper than dividing by a microsecond, and this runs for every event.
            microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        except ValueError:
            raise Invalid(
                f"{field}: {value[:64]!r} is no ISO 8601 moment; write it like 2026-01-31T12:00:00Z"
            ) from None
        except TypeError:
            # A moment without offset does not subtract from one that has it.
            raise Invalid(f"{field}: {value[:64]!r} has no offset; end it with Z or +hh:mm") from None
    elif isinstance(value, bool) or value != value or value in (float("inf"), float("-inf")):
        raise Invalid(f"{field}: not a moment; write ISO 8601, or Unix seconds or milliseconds")
    else:
        scale = 1_000_000 if abs(value) < _MILLISECONDS_FROM else 1_000
        exact = isinstance(value, int) or abs(value) > _LAST_MICROSECOND
        microseconds = int(value) * scale if exact else round(value * scale)
    if not 0 <= microseconds <= _LAST_MICROSECOND:
        raise Invalid(f"{field}: must lie between 1970 and 9999")
    return microseconds


# What pydantic says in Python's words.
_WRONG = {
    "string_type": "be a string",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "dict_type": "be a JSON object",
    "model_type": "be a JSON object",
    "list_type": "be a JSON array",
    "string_too_short": "have {min_length} or more characters",
    "string_too_long": "have {max_length} characters at most",
    "too_long": "have {max_length} entries at most",
    "greater_than_equal": "be {ge} or more",
    "less_than_equal": "be {le} or less",
    "literal_error": "be {expected}",
    "enum": "be {expected}",
}


def first_problem(error: ValidationError, whole: str = "event") -> str:
    """One sentence of a pydantic error: the field, what is wrong with it, and the fix where we know one.

    ``whole``: what is at fault where no field is.
    """
    problems = error.errors(include_url=False)
    problem = problems[0]
    field = ".".join(str(part) for part in problem["loc"] if not _kind(part)) or whole
    if problem["loc"] and _kind(problem["loc"][-1]) and problem["type"].endswith("_type"):
        # It could have been one of several: each has a problem of its own.
        kinds = [_kind(one["loc"][-1]) for one in problems if one["loc"][:-1] == problem["loc"][:-1]]
        return f"{field}: must be {' or '.join(dict.fromkeys(filter(None, kinds)))}"
    match problem["type"]:
        case "extra_forbidden":
            return f"{field}: unknown field; leave it out" + (
                ", or put it into data" if whole == "event" else ""
            )
        case "missing":
            return f"{field}: required"
        case kind if kind in _WRONG:
            return f"{field}: must {_WRONG[kind].format(**problem.get('ctx', {}))}"
        case _:
            return f"{field}: {problem['msg'].removeprefix('Value error, ')}"


def _kind(part: int | str) -> str:
    """What a part of a place means that pydantic names after a member of a union; empty: it is a field."""
    match part:
        case "int" | "float":
            return "a number"
        case str() if part == "str" or part.endswith(", str]"):
            return "a string"
        case str() if part.startswith("dict["):
            return "a JSON object"
        case str() if part.startswith("list["):
            return "a list"
        case _:
            return ""
