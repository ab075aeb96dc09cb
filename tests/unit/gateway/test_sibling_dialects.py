"""One event in a path and a body, or in the words of streams; and what an Idempotency-Key does to any."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.gateway.admission import Admitted, Terms, admit_events, admit_node_reports
from ingest.gateway.dialects.devices import read_device_event
from ingest.gateway.dialects.event_create import read_event_create
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.dialects.reading import JSON, NDJSON
from ingest.gateway.idempotency import MAX_KEY, checked_key
from schema.errors import Invalid, UnsupportedEncoding
from schema.records import STAMPED, event_id
from schema.settings import EventLimits
from schema.topics import route

LIMITS = EventLimits()
NOW = 1_800_000_000_000_000
BUCKET = bytes(range(12))
TEXT = "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("content_type", "body", "stored"),
    [
        (JSON, b' {"x": 1}\n', b'{"x": 1}'),
        ("application/vnd.x+json", b"5", b"5"),
        (JSON, b"", b"{}"),
        (TEXT, b'{"x": 1}', b'"{\\"x\\": 1}"'),
        (TEXT, "grün".encode(), '"grün"'.encode()),
        ("", b"on", b'"on"'),
        ("", b'{"x": 1}', b'{"x": 1}'),
        (FORM, b"5", b"5"),
        (FORM, b"a=5", b'"a=5"'),
        ("application/octet-stream", b"{", b'"{"'),
    ],
)
def test_the_body_of_a_device_is_its_data(content_type: str, body: bytes, stored: bytes) -> None:
    [event] = read_device_event("d-1", "door opened", body, content_type, LIMITS).entries
    assert (event.device, event.name, event.id, event.observed_at) == ("d-1", "door opened", None, None)
    assert bytes(event.data) == stored


@pytest.mark.parametrize(
    ("device", "name", "content_type", "body"),
    [
        ("d", "n", JSON, b"{"),
        ("d", "n", JSON, b"NaN"),
        ("d", "n", TEXT, b"\xff"),
        ("d" * 201, "n", TEXT, b""),
        ("d", "n" * 201, TEXT, b""),
        ("d", "n\0", TEXT, b""),
    ],
)
def test_what_is_no_event_of_a_device(device: str, name: str, content_type: str, body: bytes) -> None:
    with pytest.raises(Invalid):
        read_device_event(device, name, body, content_type, LIMITS)


def test_single_events_are_bounded() -> None:
    limits = EventLimits(max_event_bytes=1024)
    assert read_device_event("d", "n", b"x" * 1024, TEXT, limits).rejections == []
    assert read_device_event("d", "n", b"x" * 1025, TEXT, limits).rejections[0].too_large
    body = orjson.dumps({"device_id": "d", "stream": "s", "event_data": "x" * 1024})
    assert read_event_create(body, JSON, limits).rejections[0].too_large


def test_an_event_of_a_stream_is_named_after_it() -> None:
    body = b'{"device_id":"d","stream":"s","event_data":{"x":1.10},"observed_at":"2026-01-31T12:00:00Z"}'
    [event] = read_event_create(body, JSON, LIMITS).entries
    assert (event.device, event.stream, event.name) == ("d", "s", "s")
    assert (event.observed_at, bytes(event.data)) == ("2026-01-31T12:00:00Z", b'{"x":1.10}')
    [event] = read_event_create(b'{"device_id":"d","stream":"s"}', JSON, LIMITS).entries
    assert (event.observed_at, bytes(event.data)) == (None, b"{}")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"device_id": None}, "device_id"),
        ({"device_id": ""}, "device_id"),
        ({"stream": "s" * 101}, "stream"),
        ({"stream": 5}, "stream"),
        ({"name": "n"}, "name"),
        ({"observed_at": []}, "observed_at"),
    ],
)
def test_what_is_no_event_of_a_stream(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_event_create(orjson.dumps({"device_id": "d", "stream": "s", **fields}), JSON, LIMITS)
    assert refused.value.message.split(":")[0] == named
    with pytest.raises(UnsupportedEncoding):
        read_event_create(b"{}", NDJSON, LIMITS)
    for body in (b"", b"[]", b"\xff", b"{"):
        with pytest.raises(Invalid):
            read_event_create(body, JSON, LIMITS)


@pytest.mark.parametrize("key", ["a", "x" * MAX_KEY, "a b", '"8e03978e-40d5"', "~"])
def test_keys_that_are_taken(key: str) -> None:
    assert checked_key(key) == key
    assert len(f"{key}:{100_000 - 1}") <= 128


@pytest.mark.parametrize("key", ["", " ", " a", "a ", "x" * (MAX_KEY + 1), "ä", "a\tb", "a\0b"])
def test_keys_that_are_refused(key: str) -> None:
    with pytest.raises(Invalid, match="Idempotency-Key"):
        checked_key(key)
    assert checked_key(None) is None


def admit(body: bytes, kind: str, key: str | None) -> Admitted:
    terms = Terms(NOW, NOW, 0, 0, 8, key)
    return admit_events(EVENTS.read(body, kind, LIMITS), terms, BUCKET, 8)


def test_a_key_names_the_events_that_have_no_id_by_their_places() -> None:
    lines = b'{"name":"a"}\n{"name":"b","device":"d"}\nnonsense\n\n{"name":"c","observed_at":5}\n'
    admitted = admit(lines, NDJSON, "k")
    named = {event_id(tail): (part.flags, part.partition) for part in admitted.parts for tail in part.tails}
    at = route(BUCKET, b"k", 8)
    assert named == {b"k:0": (STAMPED, at), b"k:1": (STAMPED, at), b"k:3": (STAMPED, at)}
    assert [rejection.index for rejection in admitted.rejections] == [2]


def test_a_key_changes_nothing_of_an_event_with_an_id() -> None:
    def placed(key: str | None) -> dict[bytes, tuple[int, int]]:
        body = b'[{"name":"a","id":"x"},{"name":"a","id":"y","observed_at":5,"device":"d"}]'
        parts = admit(body, JSON, key).parts
        return {event_id(tail): (part.flags, part.partition) for part in parts for tail in part.tails}

    # Known by its id alone, it has to meet its repeats wherever they come from; the other only its request.
    assert placed("k")[b"x"] == placed(None)[b"x"] == (STAMPED, route(BUCKET, b"x", 8))
    assert placed(None)[b"y"] == (0, route(BUCKET, b"d", 8))
    assert placed("k")[b"y"] == (0, route(BUCKET, b"k", 8))


def test_a_node_report_under_a_key_needs_its_moment() -> None:
    batch = NODE_REPORTS.read(b'[{"host":"h"},{"host":"h","observed_at":5}]', JSON, LIMITS)
    admitted = admit_node_reports(batch, Terms(NOW, NOW, 0, 0, 8, "k"), BUCKET, 8)
    assert admitted.count == 1
    assert [(one.index, one.error.split(":")[0]) for one in admitted.rejections] == [(0, "observed_at")]
