"""``POST /event_create``: one event of a device and a stream, which names it too."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError

from ingest.gateway.dialects.events import EMPTY_DATA, Event
from ingest.gateway.dialects.reading import JSON, NOT_TAKEN, Batch, check_utf8, fields_of, too_large, words
from ingest.gateway.dialects.splitting import strange_field
from ingest.gateway.json_text import may_hold_faults
from schema.errors import Invalid, UnsupportedEncoding
from schema.events import EventCreateModel, first_problem
from schema.settings import EventLimits


def read_event_create(body: bytes, media_type: str, limits: EventLimits) -> Batch[Event]:
    """The one event of a request. Raises Invalid with the field that is wrong, UnsupportedEncoding."""
    if media_type != JSON:
        raise UnsupportedEncoding(f"Content-Type: {media_type[:60]!r} is not read here; send {JSON}")
    if len(body) > limits.max_event_bytes:
        return Batch([], [], [too_large(0, limits)])
    check_utf8(body)
    try:
        fields = fields_of(body)
        data = fields.pop("event_data", EMPTY_DATA)
        values: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in fields.items()}
    except NOT_TAKEN as error:
        told = strange_field(body) or f"body: not a JSON object that can be read ({words(error)})"
        raise Invalid(told) from None
    try:
        taken = EventCreateModel.model_validate(values)
    except ValidationError as error:
        raise Invalid(first_problem(error)) from None
    event = Event(
        name=taken.stream,
        stream=taken.stream,
        device=taken.device_id,
        observed_at=taken.observed_at,
        data=data,
    )
    return Batch([event], doubtful=may_hold_faults(body))
