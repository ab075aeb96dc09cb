"""The calls of the gateway, described for /openapi.json. A route without a description fails a test.

What events are is said by the models of ``schema``, which have the last word on every event that comes in.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.openapi import fittings
from api.http.openapi.document import About
from api.http.openapi.operations import (
    JSON,
    KEY_ONLY,
    NAMED_BUCKET_SCHEMA,
    Answer,
    Content,
    Operation,
    Parameter,
    Place,
    Scheme,
    json_of,
)
from api.http.openapi.refusals import BODY, IN_BUCKET, PROBLEM, RESPONSE_STATUS, Form, Problem
from ingest.gateway.dialects.cloud_events import CLOUD_EVENT, CLOUD_EVENTS
from ingest.gateway.dialects.reading import NDJSON
from ingest.gateway.idempotency import HEADER, MAX_KEY
from ingest.gateway.intake import RECEIPT_HEADER
from ingest.gateway.paths import DEVICE_PREFIXES, EVENT_CREATE_PATH, EVENTS_PATH, NODES_PATH
from ingest.gateway.pm2.handshake import LINK_PATH, VERIFY_PATH, VerifyModel
from schema.cloud_events import CloudEventModel
from schema.events import MAX_LABEL, EventCreateModel, EventModel, NodeReportModel

EVENTS, SIBLINGS, NODES, AGENT = "events", "sibling dialects", "nodes", "PM2 agent"

_EVENT = {"name": "hello", "app": "shell", "device": "d1", "data": {"greeting": "good morning"}}
_REPORT = {"host": "node-1", "ip": "192.0.2.1", "status": "ONLINE", "latency_ms": 12.5}
_WRITING = (*IN_BUCKET, *BODY, 429)
_TEXT = {"type": "string"}


class _Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventsEnvelope(_Forbidding):
    """Events under one name."""

    events: list[EventModel]


class ReportsEnvelope(_Forbidding):
    """Node reports under one name."""

    reports: list[NodeReportModel]


class RejectedEntry(_Forbidding):
    """An entry that was not taken."""

    index: int = Field(ge=0, description="Its place in the request.")
    error: str = Field(description="Why, and what helps.")


class BatchAnswer(_Forbidding):
    """What became of a request's entries."""

    accepted: int = Field(ge=0)
    rejected: list[RejectedEntry]
    receipt: str = Field(description="Names what was accepted; a read that carries it waits for it.")


class BatchProblem(Problem):
    """A problem; where the body could be taken apart and no entry be taken, each with its reason."""

    accepted: Literal[0] | None = None
    rejected: list[RejectedEntry] | None = None


class Stored(_Forbidding):
    """It is accepted."""

    response_status: Literal[200] = Field(alias="responseStatus")
    message: Literal["OK"]


class AgentEndpoints(_Forbidding):
    """Where an agent connects."""

    ws: str
    web: str


class AgentVerified(_Forbidding):
    """The agent may connect."""

    endpoints: AgentEndpoints
    error: Literal[False]
    active: Literal[True]
    disabled: Literal[False]
    pending: Literal[False]
    new: Literal[False]


class AgentRefusal(_Forbidding):
    """The agent may not, or not now."""

    error: Literal[True]
    msg: str
    active: Literal[False] | None = Field(None, description="There where asking again is of no use.")


_AGENT_FORM = Form(AgentRefusal)
_PUBLIC_ID = Scheme(
    "publicId",
    {"type": "apiKey", "in": "header", "name": "X-KM-PUBLIC", "description": "A bucket's public id."},
)
_SECRET_ID = Scheme(
    "secretId",
    {"type": "apiKey", "in": "header", "name": "X-KM-SECRET", "description": "The same bucket's secret id."},
)
_BUCKET = Parameter(
    "X-Weir-Bucket",
    Place.HEADER,
    NAMED_BUCKET_SCHEMA,
    "The bucket to write to, with a user's key; a bucket's key needs none.",
)
_IDEMPOTENCY = Parameter(
    HEADER,
    Place.HEADER,
    {"type": "string", "pattern": rf"^[\x21-\x7e]([\x20-\x7e]{{0,{MAX_KEY - 2}}}[\x21-\x7e])?$"},
    "Makes the request repeatable for 24 hours, whatever ids its events leave out.",
)
_ATTRIBUTES = tuple(
    Parameter(f"ce-{name}", Place.HEADER, schema, f"CloudEvents in headers: {what}")
    for name, schema, what in (
        (
            "specversion",
            {"const": "1.0", "type": "string"},
            "says that the event is one; its payload is the body.",
        ),
        ("type", _TEXT, "the event's name."),
        ("source", _TEXT, "the event's app."),
        ("id", _TEXT, "with the source, what identifies the event."),
        ("subject", _TEXT, "the event's device."),
        ("time", _TEXT, "when it happened: RFC 3339."),
    )
)


def _batch(
    path: str, tag: str, summary: str, *, bodies: tuple[Content, ...], more: tuple[Parameter, ...], what: str
) -> Operation:
    problem = (Content(BatchProblem, PROBLEM.media_type),)
    return Operation(
        "POST",
        path,
        tag,
        summary,
        {
            202: json_of("Kafka has acknowledged every accepted entry.", BatchAnswer),
            **PROBLEM.refusals(*_WRITING),
            400: Answer("Nothing was accepted; the body, or each of its entries, says why.", problem),
            413: Answer("The body, or every entry, is larger than it may be.", problem),
        },
        description=what,
        parameters=(_BUCKET, _IDEMPOTENCY, *more),
        bodies=bodies,
        body_required=True,
        security=KEY_ONLY,
    )


def _device_event(prefix: str) -> Operation:
    label = {**_TEXT, "minLength": 1, "maxLength": MAX_LABEL}
    return Operation(
        "POST",
        f"{prefix}/{{uuid}}/events/{{name}}",
        SIBLINGS,
        "Send an event of a device",
        {200: json_of("It is accepted.", Stored, [RECEIPT_HEADER]), **RESPONSE_STATUS.refusals(*_WRITING)},
        description="The body is the payload: JSON, or a text.",
        parameters=(
            Parameter("uuid", Place.PATH, label, "The device.", required=True),
            Parameter("name", Place.PATH, label, "The event's name.", required=True),
            _BUCKET,
            _IDEMPOTENCY,
        ),
        bodies=(Content(Any, JSON, {"a payload": {"angle": 90}}), Content(_TEXT, "text/plain")),
        security=KEY_ONLY,
    )


_OPERATIONS = (
    _batch(
        EVENTS_PATH,
        EVENTS,
        "Send events",
        bodies=(
            Content(
                EventModel | list[EventModel] | EventsEnvelope,
                examples={"one event": _EVENT, "several": [_EVENT, {"name": "goodbye"}]},
            ),
            Content(_TEXT, NDJSON, {"one a line": '{"name": "hello"}\n{"name": "goodbye"}\n'}),
            Content(CloudEventModel, CLOUD_EVENT),
            Content(list[CloudEventModel], CLOUD_EVENTS),
        ),
        more=_ATTRIBUTES,
        what="One event, an array of them, an envelope, one a line, or CloudEvents in their three forms. "
        "The good ones of a mixed batch are kept. A 503 may have landed all the same: repeat it.",
    ),
    _batch(
        NODES_PATH,
        NODES,
        "Send node reports",
        bodies=(
            Content(
                NodeReportModel | list[NodeReportModel] | ReportsEnvelope, examples={"one report": _REPORT}
            ),
            Content(_TEXT, NDJSON, {"one a line": '{"host": "node-1"}\n{"host": "node-2"}\n'}),
        ),
        more=(),
        what="One report, an array of them, an envelope, or one a line.",
    ),
    *map(_device_event, DEVICE_PREFIXES),
    Operation(
        "POST",
        EVENT_CREATE_PATH,
        SIBLINGS,
        "Send an event of a stream",
        {
            200: json_of(
                "The event's id.", Annotated[list[str], Field(min_length=1, max_length=1)], [RECEIPT_HEADER]
            ),
            **PROBLEM.refusals(*_WRITING),
        },
        description="The event's name is its stream's.",
        parameters=(_BUCKET, _IDEMPOTENCY),
        bodies=(
            Content(
                EventCreateModel,
                examples={
                    "an event": {"device_id": "d1", "stream": "readings", "event_data": {"amount": 100}}
                },
            ),
        ),
        body_required=True,
        security=KEY_ONLY,
    ),
    Operation(
        "POST",
        VERIFY_PATH,
        AGENT,
        "Where does an agent connect?",
        {200: json_of("Here.", AgentVerified), **_AGENT_FORM.refusals(401, *BODY)},
        bodies=(Content(VerifyModel),),
        body_required=True,
    ),
    Operation(
        "GET",
        LINK_PATH,
        AGENT,
        "An agent's WebSocket",
        {
            101: Answer("It is open; the agent sends packets `{channel, payload}`."),
            **_AGENT_FORM.refusals(401, 426),
        },
        parameters=(Parameter("X-KM-SERVER", Place.HEADER, _TEXT, "The machine's name."),),
        security=((_PUBLIC_ID, _SECRET_ID),),
    ),
)

ABOUT = About(
    "Weir: the gateway",
    version("weir"),
    """Events come in here; they are asked for at the query API, a door with a description of its own.

**Who is calling**: send `X-Api-Key` and a key with the scope `ingest` or `admin`; with a user's key,
`X-Weir-Bucket` names the bucket.

**Accepted means stored, once**: an answer of success comes after Kafka's acknowledgement. An event that
is sent again with its id and time is stored once.

**Every answer** has an `X-Request-Id`. What is no call of this door is a 404, the wrong method a 405. A
body may come with `Content-Encoding: gzip`, `deflate` or `zstd`. Web pages of allowed origins may call
(`WEIR_GATEWAY_ORIGINS`).""",
    {
        EVENTS: "The way in. Refusals are RFC 9457.",
        SIBLINGS: "Other ways in, for those who read by the same. Refusals are those of the reading side.",
        NODES: "What monitoring agents report. Refusals are RFC 9457.",
        AGENT: "What an unchanged PM2 agent calls.",
        **fittings.TAGS,
    },
)
OPERATIONS = (*_OPERATIONS, *fittings.OPERATIONS)
