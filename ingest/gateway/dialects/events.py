"""``POST /v1/events``: an event, an array of them, ``{"events": […]}``, or one a line (NDJSON)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from ingest.gateway.dialects.reading import Reader
from schema.events import DEFAULT_STREAM, MAX_ID, MAX_LABEL, MAX_STREAM, EventModel

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL)]
_Label = Annotated[str, Meta(max_length=MAX_LABEL)]

EMPTY_DATA = Raw(b"{}")


class Event(Struct, forbid_unknown_fields=True, gc=False):
    """An event as it was sent; ``data`` is the text of its JSON. The contract is ``EventModel``."""

    name: _Name
    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID)] | None = None
    observed_at: str | int | float | None = None
    stream: Annotated[str, Meta(min_length=1, max_length=MAX_STREAM)] = DEFAULT_STREAM
    device: _Label = ""
    app: _Label = ""
    server: _Label = ""
    data: Raw = EMPTY_DATA


EVENTS = Reader(Event, EventModel, envelope="events", raw_field="data")
