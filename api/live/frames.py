"""An event as a frame of the live feed. Pure.

``{"data": [bucket id, {"server_name": …, "human:event": {…}}]}``. The event is told twice over: in the words
of ``POST /api/bucket/:id/data/events``, and in those of PM2's agents (``name``, ``process``).
"""

from __future__ import annotations

import orjson

from schema.errors import Invalid
from schema.records import EventFields, Segment, decode_labels

# The key that an event goes by.
EVENT_KEY = "human:event"


class Labels:
    """What the events of one segment share, decoded once. Raises Invalid."""

    def __init__(self, segment: Segment) -> None:
        self.bucket_id = segment.bucket_id.hex()
        self.name, self.stream, self.app, self.server = decode_labels(segment.labels)


def frame_of(labels: Labels, event: EventFields) -> bytes:
    """The frame's text. Raises Invalid when the event's data is no JSON in UTF-8."""
    try:
        # A frame with broken text would end the connection: anybody may have written to the topic.
        orjson.loads(event.data)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"event: data: {error}") from error
    told = {
        "_id": event.event_id,
        "at": event.observed_at // 1000,
        "event_name": labels.name,
        "app_name": labels.app,
        "server_name": labels.server,
        "device_name": event.device,
        "stream": labels.stream,
        "data": orjson.Fragment(event.data),
        "name": labels.name,
        "process": {"name": labels.app, "server": labels.server},
    }
    return orjson.dumps({"data": [labels.bucket_id, {"server_name": labels.server, EVENT_KEY: told}]})
