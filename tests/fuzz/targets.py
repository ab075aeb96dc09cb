"""What is fuzzed, and what must hold: each target takes bytes and returns, or a property is broken.

Only the errors of `schema.errors` may come out of a reader, and those are caught here; whatever else escapes
is a finding. What admission lets through is judged by a second, slower reading of the contract: no text and
no number that PostgreSQL refuses, moments in range, lengths within the columns' limits, and a record that the
writer takes apart into exactly what went in.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
from multidict import CIMultiDict, CIMultiDictProxy

from api.http.bodies import nested_deeper, parse_json
from api.http.encodings import decompressor_of
from ingest.gateway.admission import Admitted, Terms, admit_events, admit_node_reports
from ingest.gateway.dialects.cloud_events import CLOUD_EVENT, CLOUD_EVENTS, CloudEvents, read_binary
from ingest.gateway.dialects.devices import read_device_event
from ingest.gateway.dialects.event_create import read_event_create
from ingest.gateway.dialects.events import EVENTS, Event
from ingest.gateway.dialects.nodes import NODE_REPORTS, NodeReport
from ingest.gateway.dialects.reading import JSON, NDJSON, Batch
from ingest.gateway.idempotency import checked_key
from ingest.gateway.pm2.packets import Packets
from ingest.writer.batch import FetchedRecord, decode
from query.filters.compile import predicate, sort_keys
from query.filters.conditions import MAX_DEPTH, MAX_LEAVES, Condition, depth, leaves
from query.filters.rules import parse_rules
from query.filters.tags import parse_tag
from query.filters.trees import parse_filters
from query.interval import parse_interval
from query.sql import Arguments
from schema.errors import WeirError
from schema.events import MAX_HOST, MAX_ID, MAX_LABEL, MAX_STREAM, parse_moment
from schema.receipts import decode_receipt, encode_receipt
from schema.records import (
    EVENTS as EVENT_SEGMENT,
)
from schema.records import (
    POSTGRES_EPOCH_MICROSECONDS,
    RECORD_ID_BYTES,
    Segment,
    decode_labels,
    decode_record,
    encode_labels,
    encode_record,
    event_identity,
    record_identity,
    well_formed,
)
from schema.settings import EventLimits

# Small, so that short inputs reach them too.
LIMITS = EventLimits(max_events=20, max_event_bytes=2048, max_nesting=8)
BUCKET = bytes.fromhex("ab" * 12)
PARTITIONS = 4
RECEIVED_AT = 1_790_000_000_000_000
TERMS = Terms(RECEIVED_AT, RECEIVED_AT + 86_400_000_000, 0, 0, LIMITS.max_nesting)
# Reading bytes never gives out more than so many times of them, and never less than this at most.
_ROOM_BYTES = 64 * 1024

_CLOUD_EVENTS = CloudEvents()
_CONTENT_TYPES = (
    "",
    "application/json",
    "text/plain",
    "application/octet-stream",
    "a/b+json;x=1",
    "text/xml",
)
_ENCODINGS = ("gzip", "deflate", "zstd")


def bodies(data: bytes) -> None:
    """The dialects of the gateway, up to the record and back. The first byte picks one."""
    if not data:
        return
    kind, body = data[0] % 8, data[1:]
    with suppress(WeirError):
        if kind == 7:
            _check_reports(admit_node_reports(_node_batch(body), TERMS, BUCKET, PARTITIONS))
        else:
            terms = TERMS if data[0] < 128 else TERMS._replace(request_key="key")
            _check_events(admit_events(_event_batch(kind, body), terms, BUCKET, PARTITIONS))


def _node_batch(body: bytes) -> Batch[NodeReport]:
    return NODE_REPORTS.read(body, JSON, LIMITS)


def _event_batch(kind: int, body: bytes) -> Batch[Event]:
    match kind:
        case 0:
            return EVENTS.read(body, JSON, LIMITS)
        case 1:
            return EVENTS.read(body, NDJSON, LIMITS)
        case 2:
            return _CLOUD_EVENTS.read(body, CLOUD_EVENT, LIMITS)
        case 3:
            return _CLOUD_EVENTS.read(body, CLOUD_EVENTS, LIMITS)
        case 4:
            return read_binary(*_in_headers(body), LIMITS)
        case 5:
            first, name, rest = (*body.split(b"\n", 2), b"", b"")[:3]
            content_type = _CONTENT_TYPES[len(first) % len(_CONTENT_TYPES)]
            device = first.decode("utf-8", "surrogateescape")
            return read_device_event(
                device, name.decode("utf-8", "surrogateescape"), rest, content_type, LIMITS
            )
        case _:
            return read_event_create(body, JSON, LIMITS)


def _in_headers(body: bytes) -> tuple[CIMultiDictProxy[str], bytes]:
    """Lines up to an empty one as headers, as aiohttp hands them over; the rest is the body."""
    head, _, rest = body.partition(b"\n\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and name:
            headers.add(name.decode("latin-1"), value.strip().decode("utf-8", "surrogateescape"))
    return CIMultiDictProxy(headers), rest


def _check_events(admitted: Admitted) -> None:
    segments = []
    for part in admitted.parts:
        assert part.labels is not None
        assert 0 <= part.partition < PARTITIONS
        for label, most in zip(part.labels, (MAX_LABEL, MAX_STREAM, MAX_LABEL, MAX_LABEL), strict=True):
            _check_text(label, most)
        assert part.labels[0]
        for tail in part.tails:
            _check_event(tail)
        segments.append(
            Segment(EVENT_SEGMENT, part.flags, BUCKET, encode_labels(*part.labels), list(part.tails))
        )
    assert admitted.count == sum(len(part.tails) for part in admitted.parts)
    _check_travel(segments)
    _check_rejections(admitted)


def _check_event(tail: bytes) -> None:
    moment, identity = event_identity(tail)
    assert well_formed(EVENT_SEGMENT, tail)
    assert 0 <= moment + POSTGRES_EPOCH_MICROSECONDS <= TERMS.latest_at
    _check_text(identity[16:].decode(), MAX_ID)
    device_start = len(identity) + 16
    length = int.from_bytes(tail[device_start - 4 : device_start], "big")
    _check_text(tail[device_start : device_start + length].decode(), MAX_LABEL)
    data = tail[device_start + length + 5 :]
    value = stored_value(data)
    assert isinstance(value, dict), value


def stored_value(data: bytes) -> Any:
    """What PostgreSQL stores of a JSON text; fails where it would refuse it. Slow, and not by our code."""

    def refused(word: str) -> Any:
        raise AssertionError(f"jsonb refuses {word[:40]}")

    def number(digits: str) -> str:
        assert abs(float(digits)) != float("inf"), digits[:40]
        mantissa, _, exponent = digits.lower().partition("e")
        assert len(mantissa.partition(".")[2]) - int(exponent or 0) <= 1_000, digits[:40]
        return digits

    value = json.loads(data.decode(), parse_constant=refused, parse_int=number, parse_float=number)
    assert not nested_deeper(value, LIMITS.max_nesting + 1)
    for text in _texts(value):
        assert "\x00" not in text
        text.encode()
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _check_reports(admitted: Admitted) -> None:
    segments = [Segment(part.kind, part.flags, BUCKET, b"", list(part.tails)) for part in admitted.parts]
    for segment in segments:
        for tail in segment.tails:
            assert well_formed(segment.kind, tail)
            host = tail[16 : 16 + int.from_bytes(tail[12:16], "big")].decode()
            assert host
            _check_text(host, MAX_HOST)
    _check_travel(segments)
    _check_rejections(admitted)


def _check_text(text: str, most: int) -> None:
    assert "\x00" not in text
    assert len(text) <= most
    text.encode()


def _check_travel(segments: list[Segment]) -> None:
    """The writer reads what was published, and finds nothing to bury."""
    value = encode_record(bytes(RECORD_ID_BYTES), segments)
    assert decode_record(value).segments == segments
    runs, letters = decode(FetchedRecord(0, 0, 0, value))
    assert letters == []
    assert sum(map(len, runs)) == sum(len(segment.tails) for segment in segments)


def _check_rejections(admitted: Admitted) -> None:
    for rejection in admitted.rejections:
        assert len(rejection.error) < 2_000
    # It goes out as JSON.
    orjson.dumps([rejection.error for rejection in admitted.rejections])


def encodings(data: bytes) -> None:
    """Content encodings: bounded, the same in whatever pieces they arrive, never half."""
    if len(data) < 2:
        return
    name, step, packed = _ENCODINGS[data[0] % 3], data[1] + 1, data[2:]
    whole = _unpacked(name, [packed])
    pieces = _unpacked(name, [packed[start : start + step] for start in range(0, len(packed), step)])
    assert whole == pieces
    if whole is not None and name == "gzip":
        # Another reader of the same format agrees.
        assert whole == _gunzipped(packed)


def _unpacked(name: str, chunks: list[bytes]) -> bytes | None:
    """All of it, or None where it is refused, or larger than there is room for."""
    decompressor = decompressor_of(name)
    assert decompressor is not None
    found = b""
    try:
        for chunk in chunks:
            room = _ROOM_BYTES - len(found)
            piece = decompressor.feed(chunk, room)
            assert len(piece) <= room + 8 * 1024 * 1024
            if len(piece) > room:
                return None
            found += piece
        decompressor.finish()
    except WeirError:
        return None
    return found


def _gunzipped(packed: bytes) -> bytes:
    found = b""
    while packed:
        member = zlib.decompressobj(31)
        found += member.decompress(packed)
        packed = member.unused_data
    return found


def records(data: bytes) -> None:
    """The record codec, and what the writer makes of foreign bytes."""
    value = data if data[:1] == b"W" else b"WEIR\x01" + data
    assert len(record_identity(value)) == RECORD_ID_BYTES
    with suppress(WeirError):
        record = decode_record(value)
        again = encode_record(record.record_id, record.segments)
        assert decode_record(again) == record
        # One byte of the header is not read.
        assert value[:5] + b"\x00" + value[6:] == again
        for segment in record.segments:
            with suppress(WeirError):
                assert encode_labels(*decode_labels(segment.labels)) == segment.labels
    with suppress(WeirError):
        runs, letters = decode(FetchedRecord(0, 0, 0, value))
        rows = sum(map(len, runs))
        buried = sum(len(decode_record(letter.payload).segments[0].tails) for letter in letters)
        assert rows + buried == sum(len(segment.tails) for segment in decode_record(value).segments)


def filters(data: bytes) -> None:
    """Rules, filters and tags: from text to SQL, in which nothing of the text stands."""
    text = data[1:].decode("utf-8", "ignore")
    which = data[0] % 3 if data else 0
    with suppress(WeirError):
        if which == 0:
            for condition in parse_rules([text], "rule"):
                _check_condition(condition)
        elif which == 1:
            _check_condition(parse_filters(text, "filters"))
        else:
            arguments = Arguments()
            for key in sort_keys(parse_tag(text, "sort_by"), arguments):
                _check_sql(key)


def _check_condition(condition: Condition) -> None:
    assert depth(condition) <= MAX_DEPTH
    assert leaves(condition) <= MAX_LEAVES
    arguments = Arguments()
    _check_sql(predicate(condition, arguments))
    # What goes to the database as text can go there.
    for value in arguments.values:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                one.encode()
                assert "\x00" not in one


# Whatever else stands in a condition would come from the caller.
_SQL_WORDS = frozenset(
    re.findall(
        r"\w+",
        "and or not true false coalesce data text jsonb integer any case when then else end is null in from"
        " as jsonb_typeof strpos starts_with right lower collate c pg_c_utf8 exists select"
        " jsonb_array_elements element where number string array boolean numeric",
    )
)


def _check_sql(text: str) -> None:
    found = set(re.findall(r"[^\W\d]\w*", text.lower()))
    assert found <= _SQL_WORDS, found - _SQL_WORDS


def packets(data: bytes) -> None:
    """What an agent sends over its link, one packet a line, up to admission."""
    link = Packets("server")
    for number, line in enumerate(data.split(b"\n")[:16]):
        with suppress(WeirError):
            found = link.read(line, RECEIVED_AT / 1e6, 20.0 * number)
            if isinstance(found, Event):
                _check_events(admit_events(Batch([found], doubtful=True), TERMS, BUCKET, PARTITIONS))
            elif found is not None:
                _check_reports(admit_node_reports(Batch([found]), TERMS, BUCKET, PARTITIONS))


def texts(data: bytes) -> None:
    """Small texts of requests: moments, intervals, receipts, keys, JSON of the query API."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(WeirError):
        assert 0 <= parse_moment(text) < 2**58
    with suppress(WeirError, ValueError):
        assert 0 <= parse_moment(float(text)) < 2**58
    with suppress(WeirError):
        assert parse_interval(text).count >= 1
    with suppress(WeirError):
        positions = decode_receipt(text)
        assert decode_receipt(encode_receipt(positions)) == positions
    with suppress(WeirError):
        assert len(checked_key(text) or "") <= MAX_ID
    with suppress(WeirError):
        value = parse_json(data, max_nesting=8)
        assert not nested_deeper(value, 8)
        orjson.dumps(value)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (bodies, encodings, records, filters, packets, texts)
}
