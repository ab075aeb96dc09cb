"""``POST /devices/{uuid}/events/{name}``: an event of a device, its payload being the body as it is.

With a JSON media type the body has to be JSON. Where the sender does not say what it is (no media type, or
the one that command-line clients add by themselves) it is JSON if it can be read as such; anything else is a
text in UTF-8. No body: no data.
"""

from __future__ import annotations

import re

import msgspec
import orjson
from pydantic import ValidationError

from ingest.gateway.dialects.events import EMPTY_DATA, Event
from ingest.gateway.dialects.reading import NOT_TAKEN, Batch, check_utf8, too_large, words
from ingest.gateway.json_text import may_hold_faults
from schema.errors import Invalid
from schema.events import EventModel, first_problem
from schema.settings import EventLimits

_JSON_TYPE = re.compile(r"[^/;]+/([^;]+\+)?json\s*(;.*)?", re.IGNORECASE)
_UNSAID = ("", "application/x-www-form-urlencoded", "application/octet-stream")


def read_device_event(
    device: str, name: str, body: bytes, content_type: str, limits: EventLimits
) -> Batch[Event]:
    """The one event of a request. ``device`` and ``name``: of its path. Raises Invalid."""
    if len(body) > limits.max_event_bytes:
        return Batch([], [], [too_large(0, limits)])
    try:
        taken = EventModel.model_validate({"name": name, "device": device})
    except ValidationError as error:
        raise Invalid(first_problem(error)) from None
    data = _payload(body, content_type.strip().lower())
    return Batch(
        [Event(name=taken.name, device=taken.device, data=data)], doubtful=may_hold_faults(bytes(data))
    )


def _payload(body: bytes, content_type: str) -> msgspec.Raw:
    if not body.strip():
        return EMPTY_DATA
    check_utf8(body)
    if _JSON_TYPE.fullmatch(content_type):
        try:
            msgspec.json.decode(body)
        except NOT_TAKEN as error:
            raise Invalid(f"body: no JSON, as its Content-Type says ({words(error)})") from None
        return msgspec.Raw(body.strip())
    if content_type in _UNSAID:
        try:
            msgspec.json.decode(body)
            return msgspec.Raw(body.strip())
        except NOT_TAKEN:
            pass
    return msgspec.Raw(orjson.dumps(body.decode()))
