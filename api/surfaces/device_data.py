"""Events of a stream by device: ``GET`` and ``POST /device_data``. docs/streams.md has the whole language.

Neighbours: ``api.http.readable`` says what the caller may see, ``query.filters`` reads rules and filters,
``query.streams`` answers. Each device asked for has its entry in the answer; that of one which is not there,
or whose buckets the caller may not read, is empty, and nobody can tell these apart. Refusals are RFC 9457;
one of a rule or a filter has the members ``parameter``, ``character`` and ``expected`` as well.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from api.http.pieces import send_pieces
from api.http.readable import readable_buckets
from api.surfaces import fields
from api.surfaces.answers import await_receipt
from api.surfaces.parameters import MOMENT_SCHEMA, named, whole, whole_schema
from api.surfaces.requests import Inbox
from query.execute import Reader
from query.filters.conditions import MAX_LEAVES, Condition, Not, Some, all_of, leaves, of_stream
from query.filters.rules import parse_rules
from query.filters.tags import parse_tag
from query.filters.trees import parse_filters
from query.journal import scopes_of
from query.request import END_OF_TIME, MAX_ROWS, Range, checked_label
from query.streams import MAX_DEVICES, NEWEST_FIRST, Moment, Sorting, Streams, stream_batches
from schema.connections import Pool
from schema.errors import Invalid
from schema.events import MAX_LABEL, MAX_STREAM, first_problem
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings

PATH = "/device_data"
DEFAULT_ROWS = 1000
_MANY = ("device_id", "rule", "xrule")
_STRINGS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
_LABEL = {"type": "string", "minLength": 1, "maxLength": MAX_LABEL}
_DEVICES = {
    "anyOf": [_LABEL, {"type": "array", "items": _LABEL, "minItems": 1, "maxItems": MAX_DEVICES}],
    "examples": ["d1"],
}


def _texts(given: fields.Parameters, name: str) -> tuple[str, ...]:
    value = given[name]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise Invalid(f"{name}: must be a string or a list of strings")
    return tuple(texts)


def _devices(given: fields.Parameters, name: str) -> tuple[str, ...]:
    devices = _texts(given, name)
    if not devices or not all(devices):
        raise Invalid(f"{name}: is required; a string that is not empty, or a list of such")
    if len(devices) > MAX_DEVICES:
        raise Invalid(f"{name}: {len(devices)} devices, at most {MAX_DEVICES}; ask in several calls")
    return tuple(checked_label(device, name) for device in devices)


def _stream(given: fields.Parameters, name: str) -> str:
    stream = fields.required_label(given, name)
    if len(stream) > MAX_STREAM:
        raise Invalid(f"{name}: longer than {MAX_STREAM} characters, which no event's is")
    return stream


def _moment(given: fields.Parameters, name: str) -> int | None:
    try:
        return fields.moment(given, name)
    except Invalid:
        # In a query string that was not encoded, the + of an offset arrives as a space.
        repaired = "+".join(str(given[name]).strip().rsplit(" ", 1))
        if repaired == str(given[name]).strip():
            raise
        return fields.moment({name: repaired}, name)


def _direction(given: fields.Parameters, name: str) -> str:
    direction = fields.text(given, name, "").lower()
    if direction not in ("asc", "desc"):
        raise Invalid(f"{name}: must be asc or desc")
    return direction


class DeviceDataQuestion(BaseModel):
    """The parameters of ``/device_data``, of the query string and of the body alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="DeviceDataQuestion")

    device_id: Annotated[tuple[str, ...], named(_devices), WithJsonSchema(_DEVICES)] = Field(
        description=f"A device, or a list of them, {MAX_DEVICES} at most. In a query string: repeat it."
    )
    stream: Annotated[str, named(_stream)] = Field(
        description="The stream that the events belong to.", min_length=1, max_length=MAX_STREAM
    )
    limit: Annotated[int, whole(DEFAULT_ROWS, 1, MAX_ROWS), whole_schema(1, MAX_ROWS)] = Field(
        DEFAULT_ROWS, description="Events of each device at most."
    )
    since: Annotated[int | None, named(_moment), WithJsonSchema(MOMENT_SCHEMA)] = Field(
        None,
        description="Events from this moment on: ISO 8601 (without an offset: UTC) or epoch milliseconds.",
    )
    until: Annotated[int | None, named(_moment), WithJsonSchema(MOMENT_SCHEMA)] = Field(
        None, description="Events up to and including this moment; default: now."
    )
    sort_by: Annotated[str | None, named(lambda given, name: fields.text(given, name, ""))] = Field(
        None, description="observed_at, received_at or a tag; needs sort_direction."
    )
    sort_direction: Annotated[Literal["asc", "desc"] | None, named(_direction)] = Field(
        None, description="Needs sort_by."
    )
    rule: Annotated[tuple[str, ...], named(_texts), WithJsonSchema(_STRINGS)] = Field(
        (), description="Keep events that match all of these: a tag that is there, or tag = value."
    )
    xrule: Annotated[tuple[str, ...], named(_texts), WithJsonSchema(_STRINGS)] = Field(
        (), description="Drop events that match any of these."
    )
    filters: Annotated[Any, WithJsonSchema({"type": ["string", "object", "array", "null"]})] = Field(
        None, description="A JSON filter (AND, OR, NOT; leaves [tag, operator, value]), as such or as a text."
    )

    @model_validator(mode="after")
    def _sorted_both_ways_or_not_at_all(self) -> DeviceDataQuestion:
        if (self.sort_by is None) != (self.sort_direction is None):
            missing, given = ("sort_direction", "sort_by")
            if self.sort_by is None:
                missing, given = given, missing
            raise Invalid(f"{missing}: is required together with {given}")
        return self

    @property
    def sorting(self) -> Sorting:
        """By what to sort. Raises Invalid, pointing into sort_by."""
        if self.sort_by is None:
            return NEWEST_FIRST
        descending = self.sort_direction == "desc"
        if self.sort_by in tuple(Moment):
            return Sorting(Moment(self.sort_by), descending)
        return Sorting(parse_tag(self.sort_by, "sort_by").within(self.stream), descending)

    @property
    def condition(self) -> Condition:
        """What an event's data must be like. Raises Invalid, pointing at the character."""
        parts: list[Condition] = list(parse_rules(self.rule, "rule"))
        if excluded := parse_rules(self.xrule, "xrule"):
            parts.append(Not(Some(tuple(excluded))))
        if self.filters is not None:
            parts.append(parse_filters(self.filters, "filters"))
        condition = all_of(parts)
        if leaves(condition) > MAX_LEAVES:
            raise Invalid(f"rule, xrule, filters: more than {MAX_LEAVES} tests together")
        return of_stream(condition, self.stream)

    def range(self, now: int) -> Range:
        """Both ends are included. Raises Invalid."""
        start = 0 if self.since is None else self.since
        # Who begins ahead of our clock and names no end gets nothing, not a complaint.
        last = max(now, start) if self.until is None else self.until
        if start > last:
            raise Invalid("since: lies after until")
        return Range(start, min(last + 1, END_OF_TIME))


class StreamEvent(BaseModel):
    """One event. ``observed_at`` with six digits and ``+00:00``."""

    event_id: str
    observed_at: str
    event_data: dict[str, Any]


class DeviceEntry(BaseModel):
    """One device's events."""

    tag: Literal["_full_event_"]
    device_id: str
    data: list[StreamEvent]


class DeviceDataAnswer(BaseModel):
    """One entry for each device asked for, in that order."""

    data: list[DeviceEntry]


@dataclass(frozen=True, slots=True)
class DeviceData:
    """What the call is made of. ``now``: microseconds since 1970."""

    settings: ApiSettings
    primary: Pool
    reader: Reader
    inbox: Inbox
    metrics: ApiMetrics
    now: Callable[[], int] = lambda: time.time_ns() // 1000

    def add_routes(self, app: web.Application) -> None:
        """Serve the call by both methods."""
        app.router.add_get(PATH, self.answer, allow_head=False)
        app.router.add_post(PATH, self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Who calls, what they ask, what they wait for; then the events."""
        buckets = await readable_buckets(
            self.primary, request.headers, acquire_seconds=self.settings.database_connect_seconds
        )
        question = checked_question(await self._parameters(request))
        asked = Streams(
            scopes_of((bucket.bucket_key, bucket.visible_from) for bucket in buckets),
            question.device_id,
            question.stream,
            question.range(self.now()),
            question.limit,
            question.condition,
            question.sorting,
        )
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        # What was waited for happened before now, but perhaps not before the call.
        asked = replace(asked, range=question.range(self.now()))
        with self.metrics.query_seconds.labels("streams").time():
            async with aclosing(_pieces(self.reader, asked)) as pieces:
                return await send_pieces(
                    request,
                    pieces,
                    content_type="application/json",
                    deadline_seconds=self.settings.request_seconds,
                )

    async def _parameters(self, request: web.Request) -> dict[str, Any]:
        """Query string and JSON body together, the body before it. Raises Invalid."""
        given = await self.inbox.object_in(request)
        return {**_of_query_string(request), **given}


def checked_question(given: Mapping[str, Any]) -> DeviceDataQuestion:
    """The parameters, checked; null means that one was not given. Raises Invalid, naming the parameter."""
    known = DeviceDataQuestion.model_fields
    for name in given:
        if name not in known:
            # Passed over in silence, a misspelt filter would let everything through.
            raise Invalid(f"{name[:40]}: there is no such parameter; there are {', '.join(known)}")
    try:
        return DeviceDataQuestion.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise Invalid(first_problem(error)) from None


def _of_query_string(request: web.Request) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if name in _MANY:
            given[name] = values
        elif len(values) == 1:
            given[name] = values[0]
        else:
            raise Invalid(f"{name[:40]}: is given {len(values)} times")
    return given


async def _pieces(reader: Reader, asked: Streams) -> AsyncGenerator[bytes, None]:
    entries = _Entries(asked.devices)
    async with aclosing(stream_batches(reader, asked)) as found:
        async for rows in found:
            yield b"".join([entries.event(row) for row in rows])
    yield entries.end()


class _Entries:
    """The answer's text, made from rows in the order of devices; devices without a row have empty entries."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = devices
        self._open = 0

    def event(self, row: Any) -> bytes:
        """A row's text, with what has to stand before it. ``row["place"]``: of the device, from 1."""
        begun = row["place"] == self._open
        separator = b"," if begun else self._up_to(row["place"])
        return separator + orjson.dumps(
            {
                "event_id": row["id"],
                "observed_at": row["observed_at"].isoformat(timespec="microseconds"),
                # The database's own JSON text, as it is.
                "event_data": orjson.Fragment(row["data"]),
            }
        )

    def end(self) -> bytes:
        """What stands after the last row."""
        return self._up_to(len(self._devices)) + b"]}]}"

    def _up_to(self, place: int) -> bytes:
        """Close the entry that is open, and open those up to ``place``."""
        text = b""
        while self._open < place:
            text += b"]}," if self._open else b'{"data":['
            device = orjson.dumps(self._devices[self._open])
            text += b'{"tag":"_full_event_","device_id":' + device + b',"data":['
            self._open += 1
        return text
