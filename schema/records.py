"""The layout of a record on the events topic, version 1. docs/record-layout.md has it as a table.

A record carries many events, gathered from concurrent requests of one partition. Its body is made of
segments: events that share a bucket and their labels (name, stream, app, server). Each event is kept
as the tail of a PostgreSQL binary COPY tuple, from ``observed_at`` on; the segment keeps the head's
label fields once. The writer thereby stores an event without taking it apart: head + tail is the row.
What it looks at (moment, id) stands at fixed places in the tail.

Everything is big-endian. Nothing here does I/O; ``decode_record`` trusts no byte, since anybody with
access to the topic can write to it: whatever does not add up raises ``Invalid``. What only PostgreSQL
can judge (UTF-8, JSON) is judged by COPY.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, pairwise
from struct import Struct

from schema.errors import Invalid
from schema.tables import EVENT_COLUMNS, NODE_REPORT_COLUMNS

MAGIC = b"WEIR"
VERSION = 1
RECORD_ID_BYTES = 16
BUCKET_ID_BYTES = 12

EVENTS = 1
NODE_REPORTS = 2
# Flag of a segment: the id alone is the identity, for 24 hours. The gateway stamped the moment, or made the
# id from the request's key.
STAMPED = 1

# PostgreSQL counts microseconds from 2000-01-01 UTC.
POSTGRES_EPOCH_MICROSECONDS = 946_684_800_000_000

_HEADER = Struct(">4sBxH16s")  # magic, version, segments, record id
_SEGMENT = Struct(">BB12sIII")  # kind, flags, bucket id, bytes of labels, events, bytes of tails
_MOMENT_LENGTH = Struct(">iqi")  # length 8, microseconds since 2000, length of the next field
_LENGTH = Struct(">i")
_LENGTH_JSONB = Struct(">iB")
_DOUBLE = Struct(">id")
_INTEGER = Struct(">ii")
_BUCKET_KEY_HEAD = Struct(">hii")  # fields of the tuple, length 4, bucket key
_BUCKET_ID_HEAD = Struct(">hi24s")  # fields of the tuple, length 24, bucket id in hex

_EVENT_FIELDS = len(EVENT_COLUMNS)
_NODE_FIELDS = len(NODE_REPORT_COLUMNS)
_LABELS = 4
_unpack_moment = _MOMENT_LENGTH.unpack_from
_unpack_jsonb = _LENGTH_JSONB.unpack_from


@dataclass(frozen=True, slots=True)
class Segment:
    """Events (or node reports) of one bucket with the same labels.

    ``labels``: the COPY fields name, stream, app, server (empty for node reports).
    ``tails``: for each event the COPY fields from ``observed_at`` on.
    """

    kind: int
    flags: int
    bucket_id: bytes
    labels: bytes
    tails: list[bytes]

    def head(self, bucket_key: int) -> bytes:
        """What stands before every tail of this segment in a binary COPY stream.

        Events are stored under the bucket's present key, node reports under its id.
        """
        if self.kind == EVENTS:
            return _BUCKET_KEY_HEAD.pack(_EVENT_FIELDS, 4, bucket_key) + self.labels
        return _BUCKET_ID_HEAD.pack(_NODE_FIELDS, 2 * BUCKET_ID_BYTES, self.bucket_id.hex().encode())


@dataclass(frozen=True, slots=True)
class Record:
    """A record taken apart: its id (16 random bytes) and its segments."""

    record_id: bytes
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class EventFields:
    """What an event's tail holds. Moments in microseconds since 1970; ``data``: JSON text, as it was sent."""

    observed_at: int
    event_id: str
    received_at: int
    device: str
    data: bytes


def postgres_moment(unix_microseconds: int) -> int:
    """Microseconds since 1970 to microseconds since 2000, PostgreSQL's epoch."""
    return unix_microseconds - POSTGRES_EPOCH_MICROSECONDS


def encode_labels(name: str, stream: str, app: str, server: str) -> bytes:
    """The four label fields in COPY's form."""
    return b"".join(
        [
            _LENGTH.pack(len(text)) + text
            for text in (name.encode(), stream.encode(), app.encode(), server.encode())
        ]
    )


def decode_labels(labels: bytes) -> tuple[str, str, str, str]:
    """name, stream, app, server. Raises Invalid."""
    texts = []
    position = 0
    try:
        for _ in range(_LABELS):
            (length,) = _LENGTH.unpack_from(labels, position)
            end = position + 4 + length
            if length < 0 or end > len(labels):
                raise Invalid("labels: a field is longer than the labels")
            texts.append(labels[position + 4 : end].decode())
            position = end
    except (struct.error, UnicodeDecodeError) as error:
        raise Invalid(f"labels: {error}") from error
    if position != len(labels):
        raise Invalid("labels: bytes after the last field")
    return texts[0], texts[1], texts[2], texts[3]


def encode_event(observed_at: int, event_id: str, received_at: int, device: str, data: bytes) -> bytes:
    """One event's tail. Moments in microseconds since 1970; ``data`` is a JSON object's text in UTF-8."""
    identifier = event_id.encode()
    device_text = device.encode()
    return b"".join((
        _MOMENT_LENGTH.pack(8, postgres_moment(observed_at), len(identifier)),
        identifier,
        _MOMENT_LENGTH.pack(8, postgres_moment(received_at), len(device_text)),
        device_text,
        _LENGTH_JSONB.pack(len(data) + 1, 1),
        data,
    ))  # fmt: skip


class EventEncoder:
    """``encode_event`` for the events of one request, which share ``received_at`` and often their devices."""

    def __init__(self, received_at: int) -> None:
        self._received_at = postgres_moment(received_at)
        self._middles: dict[str, bytes] = {}

    def tail(self, observed_at: int, identifier: bytes, device: str, data: bytes) -> bytes:
        """One event's tail; ``identifier`` is the id in UTF-8."""
        middle = self._middles.get(device)
        if middle is None:
            device_text = device.encode()
            middle = _MOMENT_LENGTH.pack(8, self._received_at, len(device_text)) + device_text
            self._middles[device] = middle
        return b"".join((
            _MOMENT_LENGTH.pack(8, observed_at - POSTGRES_EPOCH_MICROSECONDS, len(identifier)),
            identifier,
            middle,
            _LENGTH_JSONB.pack(len(data) + 1, 1),
            data,
        ))  # fmt: skip


def encode_node_report(
    observed_at: int,
    host: str,
    ip: str,
    received_at: int,
    version: str,
    status: str,
    latency_ms: float | None,
    interval_seconds: int,
) -> bytes:
    """One node report's tail. ``host`` and ``ip`` stand where an event has its id."""
    parts = [
        _MOMENT_LENGTH.pack(8, postgres_moment(observed_at), len(host.encode())),
        host.encode(),
    ]
    parts += [_LENGTH.pack(len(ip.encode())), ip.encode()]
    parts += [_MOMENT_LENGTH.pack(8, postgres_moment(received_at), len(version.encode()))]
    parts += [version.encode(), _LENGTH.pack(len(status.encode())), status.encode()]
    parts += [_LENGTH.pack(-1) if latency_ms is None else _DOUBLE.pack(8, latency_ms)]
    parts += [_INTEGER.pack(4, interval_seconds)]
    return b"".join(parts)


def encode_record(record_id: bytes, segments: list[Segment]) -> bytes:
    """A record's value."""
    parts = [_HEADER.pack(MAGIC, VERSION, len(segments), record_id)]
    for segment in segments:
        lengths = [len(tail) for tail in segment.tails]
        parts.append(
            _SEGMENT.pack(
                segment.kind,
                segment.flags,
                segment.bucket_id,
                len(segment.labels),
                len(lengths),
                sum(lengths),
            )
        )
        parts.append(segment.labels)
        parts.append(Struct(f">{len(lengths)}I").pack(*lengths))
        parts.extend(segment.tails)
    return b"".join(parts)


def record_identity(value: bytes) -> bytes:
    """What tells a record from all others: its id, or of bytes that are no record of ours, their digest."""
    if value.startswith(MAGIC) and len(value) >= _HEADER.size:
        return value[_HEADER.size - RECORD_ID_BYTES : _HEADER.size]
    return blake2b(value, digest_size=RECORD_ID_BYTES).digest()


def decode_record(value: bytes) -> Record:
    """Take a record apart down to labels and tails, which are not looked into: one bad event spoils no other.

    Raises Invalid, with the place of the fault.
    """
    try:
        magic, version, count, record_id = _HEADER.unpack_from(value, 0)
    except struct.error as error:
        raise Invalid("record: shorter than its header") from error
    if magic != MAGIC:
        raise Invalid("record: not one of ours (it does not begin with WEIR)")
    if version != VERSION:
        raise Invalid(f"record: layout version {version}, this writer knows {VERSION}")
    position = _HEADER.size
    segments = []
    for index in range(count):
        try:
            segment, position = _decode_segment(value, position)
        except struct.error as error:
            raise Invalid(f"record: segment {index} is cut off") from error
        segments.append(segment)
    if position != len(value):
        raise Invalid("record: bytes after the last segment")
    return Record(record_id, segments)


def _decode_segment(value: bytes, position: int) -> tuple[Segment, int]:
    kind, flags, bucket_id, labels_bytes, count, tails_bytes = _SEGMENT.unpack_from(value, position)
    if kind not in (EVENTS, NODE_REPORTS):
        raise Invalid(f"record: unknown kind of segment: {kind}")
    start = position + _SEGMENT.size
    table = start + labels_bytes
    tails = table + 4 * count
    end = tails + tails_bytes
    if end > len(value):
        raise Invalid("record: a segment is longer than the record")
    labels = value[start:table]
    if kind == NODE_REPORTS and labels:
        raise Invalid("record: node reports carry no labels")
    lengths = Struct(f">{count}I").unpack_from(value, table)
    if sum(lengths) != tails_bytes:
        raise Invalid("record: the events' lengths do not add up to the segment's")
    bounds = list(accumulate(lengths, initial=tails))
    pieces = [value[a:b] for a, b in pairwise(bounds)]
    return Segment(kind, flags, bucket_id, labels, pieces), end


def event_identity(tail: bytes) -> tuple[int, bytes]:
    """(moment in microseconds since 2000, the bytes that identify the event) of an event's tail.

    The bytes hold the moment, the id's length and the id. Raises Invalid unless the tail is made of exactly
    the fields that an event has: one that ended early or late would take its neighbours' bytes into COPY.
    """
    try:
        first, moment, id_bytes = _unpack_moment(tail, 0)
        # A length below zero would let a field begin before the one that it follows.
        second, _, device_bytes = _unpack_moment(tail, 16 + id_bytes if id_bytes >= 0 else len(tail))
        device_end = 32 + id_bytes + (device_bytes if device_bytes >= 0 else len(tail))
        data_bytes, version = _unpack_jsonb(tail, device_end)
    except struct.error as error:
        raise Invalid("event: its fields are longer than the event") from error
    if first != 8 or second != 8 or version != 1 or device_end + 4 + data_bytes != len(tail):
        raise Invalid("event: its fields do not add up to the event")
    return moment, tail[: 16 + id_bytes]


@lru_cache(maxsize=10_000)
def _read_fields(id_bytes: int, device_bytes: int) -> Callable[[bytes], tuple[int, ...]]:
    """Reads the fixed fields of a tail whose id and device have these lengths."""
    return Struct(f">iqi{id_bytes}xi8xi{device_bytes}xiB").unpack_from


def event_identities(tails: list[bytes]) -> tuple[list[int], list[bytes]]:
    """``event_identity`` of each tail: all moments, and all identities. Raises Invalid as it does.

    Neighbours mostly have ids and devices of the same lengths: then one look at a tail's fields is enough.
    """
    moments: list[int] = []
    identities: list[bytes] = []
    least = id_bytes = device_bytes = 0
    read = None
    for tail in tails:
        if read is not None and len(tail) >= least:
            first, moment, found_id, second, found_device, data_bytes, version = read(tail)
            if (
                found_id == id_bytes
                and found_device == device_bytes
                and first == second == 8
                and version == 1
                and data_bytes == len(tail) - least + 1
            ):
                moments.append(moment)
                identities.append(tail[: 16 + id_bytes])
                continue
        moment, identity = event_identity(tail)
        moments.append(moment)
        identities.append(identity)
        id_bytes = len(identity) - 16
        (device_bytes,) = _LENGTH.unpack_from(tail, 28 + id_bytes)
        least = 37 + id_bytes + device_bytes
        read = _read_fields(id_bytes, device_bytes)
    return moments, identities


def event_id(tail: bytes) -> bytes:
    """The id of an event's tail, in UTF-8."""
    return event_identity(tail)[1][16:]


def decode_event(tail: bytes) -> EventFields:
    """An event's tail, taken apart. Raises Invalid."""
    moment, identity = event_identity(tail)
    start = len(identity)
    _, received, device_bytes = _unpack_moment(tail, start)
    device_end = start + _MOMENT_LENGTH.size + device_bytes
    data_start = device_end + _LENGTH_JSONB.size
    try:
        event_id = identity[_MOMENT_LENGTH.size :].decode()
        device = tail[start + _MOMENT_LENGTH.size : device_end].decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"event: {error}") from error
    return EventFields(
        moment + POSTGRES_EPOCH_MICROSECONDS,
        event_id,
        received + POSTGRES_EPOCH_MICROSECONDS,
        device,
        tail[data_start:],
    )


def well_formed(kind: int, tail: bytes) -> bool:
    """Whether a tail's fields fill it exactly, and its JSONB has the version that PostgreSQL knows."""
    fields = _EVENT_FIELDS - 1 - _LABELS if kind == EVENTS else _NODE_FIELDS - 1
    position = 0
    for field in range(fields):
        if position + 4 > len(tail):
            return False
        (length,) = _LENGTH.unpack_from(tail, position)
        position += 4
        if kind == EVENTS and field == fields - 1 and tail[position : position + 1] != b"\x01":
            return False
        position += max(length, 0)
    return position == len(tail)
