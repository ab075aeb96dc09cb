"""CloudEvents 1.0 on ``POST /v1/events``: one in its JSON form, a batch of them, or one in ``ce-*`` headers.

type → name, source → app, subject → device, time → observed_at, source and id together → id (see
``schema.cloud_events``). The payload is the event's data. Extensions, ``dataschema``, and a
``datacontenttype`` that is not JSON are kept in data under ``cloudevents``; a binary payload is kept there
under ``data_base64``. Nothing is dropped silently.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import orjson
from multidict import CIMultiDictProxy
from pydantic import ValidationError

from ingest.gateway.dialects.events import EMPTY_DATA, Event
from ingest.gateway.dialects.reading import (
    NOT_TAKEN,
    Batch,
    check_utf8,
    fields_of,
    read_each,
    too_large,
    words,
)
from ingest.gateway.dialects.splitting import check_elements, has_few, leniently_split, strange_field
from ingest.gateway.json_text import may_hold_faults
from schema.cloud_events import KEPT, CloudEventModel, event_identifier
from schema.errors import Invalid
from schema.events import first_problem, parse_moment
from schema.settings import EventLimits

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
# The header that tells an event in headers from any other body.
BINARY_MARK = "ce-specversion"
_PREFIX = "ce-"
_TEXTS = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON_TYPE = re.compile(r"[^/;]+/([^;]+\+)?json\s*(;.*)?", re.IGNORECASE)
_TEXT_TYPE = re.compile(r"(text/[^;]+|[^/;]+/([^;]+\+)?xml)\s*(;.*)?", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
# Which attributes of the specification are kept beside the extensions.
_KEPT_ATTRIBUTES = ("dataschema", "datacontenttype")


class CloudEvents:
    """Reads bodies of the two JSON forms."""

    def read(self, body: bytes, media_type: str, limits: EventLimits) -> Batch[Event]:
        """The events of a body. Raises Invalid when it cannot be taken apart."""
        texts = _batch_texts(body, limits) if media_type == CLOUD_EVENTS else [body]
        batch = read_each(texts, _read_text, limits)
        batch.doubtful = may_hold_faults(body)
        return batch


def read_binary(headers: CIMultiDictProxy[str], body: bytes, limits: EventLimits) -> Batch[Event]:
    """The event whose attributes are ``ce-*`` headers, and whose body is its payload.

    Raises Invalid with the attribute that is wrong.
    """
    # The text of its data is no shorter than the body.
    if len(body) > limits.max_event_bytes:
        return Batch([], [], [too_large(0, limits)])
    attributes: dict[str, Any] = {}
    for name, value in headers.items():
        attribute = name.lower()
        if attribute.startswith(_PREFIX):
            attribute = attribute.removeprefix(_PREFIX)
            if attribute in attributes or attribute in ("data", "data_base64", "datacontenttype"):
                raise Invalid(f"{name}: an attribute is sent once; the payload and its type are the body's")
            attributes[attribute] = _decoded(name, value)
    content_type = headers.get("Content-Type")
    data: bytes | None = None
    if content_type is None or _JSON_TYPE.fullmatch(content_type):
        data = _json_payload(body)
    else:
        attributes["datacontenttype"] = content_type
        if _TEXT_TYPE.fullmatch(content_type):
            data = _text_payload(body)
        elif body:
            attributes["data_base64"] = base64.b64encode(body).decode()
    event = _event_of(attributes, data)
    if len(bytes(event.data)) > limits.max_event_bytes:
        return Batch([], [], [too_large(0, limits)])
    return Batch([event], doubtful=may_hold_faults(bytes(event.data)))


def _batch_texts(body: bytes, limits: EventLimits) -> list[bytes]:
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        raise Invalid("body: a batch is an array of CloudEvents")
    check_utf8(body)
    try:
        if not has_few(body):
            check_elements(body, limits.max_events)
        return [bytes(text) for text in _TEXTS.decode(body)]
    except NOT_TAKEN as error:
        texts = leniently_split(body, "", limits.max_events, limits.max_event_bytes)
        if texts is None:
            raise Invalid(f"body: a batch is an array of CloudEvents ({words(error)})") from None
        return texts


def _read_text(text: bytes) -> Event:
    check_utf8(text)
    try:
        fields = fields_of(text)
        data = fields.pop("data", None)
        attributes = {name: msgspec.json.decode(value) for name, value in fields.items()}
    except NOT_TAKEN as error:
        raise Invalid(strange_field(text) or f"not a CloudEvent in JSON ({words(error)})") from None
    return _event_of(attributes, None if data is None else bytes(data))


def _event_of(attributes: Mapping[str, Any], data: bytes | None) -> Event:
    """``data``: the payload's JSON text. Raises Invalid with the attribute that is wrong."""
    # An attribute that is null is one that is not there.
    present = {name: value for name, value in attributes.items() if value is not None}
    try:
        taken = CloudEventModel.model_validate(present)
    except ValidationError as error:
        raise Invalid(first_problem(error)) from None
    if taken.time is not None:
        parse_moment(taken.time, "time")
    return Event(
        name=taken.type,
        id=event_identifier(taken.source, taken.id),
        observed_at=taken.time,
        device=taken.subject or "",
        app=taken.source,
        data=_data_of(taken, data),
    )


def _data_of(taken: CloudEventModel, data: bytes | None) -> msgspec.Raw:
    kept: dict[str, Any] = taken.extensions
    for name in _KEPT_ATTRIBUTES:
        value = getattr(taken, name)
        if value is not None and not (name == "datacontenttype" and _JSON_TYPE.fullmatch(value)):
            kept[name] = value
    if taken.data_base64 is not None:
        if data is not None:
            raise Invalid("data_base64: beside data; send one of them")
        _check_base64(taken.data_base64)
        data = orjson.dumps({"data_base64": taken.data_base64})
    if not kept:
        return EMPTY_DATA if data is None else msgspec.Raw(data)
    return msgspec.Raw(_with_member(data or b"{}", orjson.dumps(kept)))


def _with_member(data: bytes, kept: bytes) -> bytes:
    """A JSON text as an object that has what is kept as one more member. Raises Invalid if it has one."""
    data = data.strip()
    if not data.startswith(b"{"):
        return b'{"value":%b,"%b":%b}' % (data, KEPT.encode(), kept)
    try:
        members = _FIELDS.decode(data)
    except NOT_TAKEN as error:
        raise Invalid(f"data: {words(error)}") from None
    if KEPT in members:
        raise Invalid(f"data: its member {KEPT!r} is where extensions are kept; rename it")
    return b'%b%b"%b":%b}' % (data[:-1], b"," if members else b"", KEPT.encode(), kept)


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("data_base64: not base64; encode it") from None


def _json_payload(body: bytes) -> bytes | None:
    if not body.strip():
        return None
    try:
        check_utf8(body)
        msgspec.json.decode(body)
    except NOT_TAKEN as error:
        raise Invalid(f"data: no JSON, as its Content-Type says ({words(error)})") from None
    return body


def _text_payload(body: bytes) -> bytes:
    try:
        return orjson.dumps(body.decode())
    except UnicodeDecodeError:
        raise Invalid("data: not UTF-8; convert it") from None


def _decoded(name: str, value: str) -> str:
    """The value of a header, without quotes, its percent-encoded bytes read as UTF-8."""
    if _QUOTED.fullmatch(value):
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict").encode().decode()
    except UnicodeError:
        raise Invalid(f"{name}: not UTF-8; percent-encode it") from None
