"""One set of events in the three forms that are compared: JSON bodies, records of the topic, COPY rows.

Events are made once, as templates: a few requests whose ids begin with a placeholder. A request of a
measurement is a template with the placeholder filled in, in every form the same, so that millions of
events cost the generator almost nothing and no two of them are alike. Ids have the form and the order
of UUIDv7s; the microseconds of the moments are a request's own too, else an index would hold the same
few keys again and again, and fold them together. A request's events go where the gateway routes them, one
record for each partition.

A share of the events may be repeats of the same template's events one turn earlier: a second
placeholder takes that earlier request's number.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any

import orjson

from schema.events import DEFAULT_STREAM
from schema.records import EVENTS, Segment, encode_event, encode_labels, encode_record
from schema.topics import route

# Segments of a request: partition → labels → segment.
_Segments = dict[int, dict[bytes, Segment]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As long as the number that replaces them; no data holds such texts.
_THIS = b"0thisrequest"
_EARLIER = b"0earlierrequ"
# The same for the microseconds of moments.
_THIS_MICROSECONDS = b"@this@"
_EARLIER_MICROSECONDS = b"@earl@"
# Without a common divisor with a million: requests that follow on each other all have different ones.
_MICROSECOND_STEP = 611_953
_MOMENT = Struct(">q")
_COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_TRAILER = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Shape:
    """Cardinalities and sizes. A request comes from one server of one app of one bucket, for several
    devices."""

    buckets: int = 4
    apps: int = 4
    servers_of_app: int = 2
    names: int = 10
    devices: int = 1000
    devices_of_request: int = 10
    events_of_request: int = 1000
    templates: int = 16
    spread_seconds: int = 30
    repeats: float = 0.0

    def facts(self) -> dict[str, float]:
        """For the report."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket to write to: its id, its internal key, an ingest key, a read key."""

    bucket_id: str
    bucket_key: int
    ingest_key: str
    read_key: str = ""


@dataclass(frozen=True, slots=True)
class Binary:
    """Bytes with placeholders, and the moments in them: (place, whole seconds in microseconds, repeated)."""

    text: bytes
    moments: list[tuple[int, int, bool]]


@dataclass(frozen=True, slots=True)
class Template:
    """One request in all forms, with placeholders. ``records``: (partition, value)."""

    bucket: Bucket
    body: bytes
    rows: Binary
    records: list[tuple[int, Binary]]
    events: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests by number. ``number`` names a request for good: the same one is the same events."""

    shape: Shape
    templates: list[Template] = field(repr=False)
    # How many requests ago the repeated events came first; a multiple of the number of templates.
    repeat_distance: int
    # Requests of the hours before: each one's moments lie a second after those of the one before it, and
    # the last one's a second before all others. Only for records and rows.
    past: range = range(0)

    def template(self, number: int) -> Template:
        return self.templates[number % len(self.templates)]

    def body(self, number: int) -> bytes:
        """A JSON array for ``POST /v1/events``."""
        body = self._filled(self.template(number).body, number)
        body = body.replace(_THIS_MICROSECONDS, b"%06d" % _microseconds_of(number))
        if self.shape.repeats:
            body = body.replace(_EARLIER_MICROSECONDS, b"%06d" % _microseconds_of(self.earlier(number)))
        return body

    def records(self, number: int) -> list[tuple[int, bytes]]:
        """(partition, value) of what the gateway would publish for the request alone."""
        return [(partition, self._timed(value, number)) for partition, value in self.template(number).records]

    def rows(self, number: int) -> bytes:
        """The request's events as tuples of a binary COPY."""
        return self._timed(self.template(number).rows, number)

    def _filled(self, text: bytes, number: int) -> bytes:
        filled = text.replace(_THIS, b"%012x" % number)
        return filled.replace(_EARLIER, b"%012x" % self.earlier(number)) if self.shape.repeats else filled

    def _timed(self, binary: Binary, number: int) -> bytes:
        filled = bytearray(self._filled(binary.text, number))
        own, earlier = self._moved(number), self._moved(self.earlier(number))
        for place, seconds, repeated in binary.moments:
            _MOMENT.pack_into(filled, place, seconds + (earlier if repeated else own))
        return bytes(filled)

    def _moved(self, number: int) -> int:
        """By how many microseconds the moments of a template are moved for this request."""
        before = self.past.stop - number if number in self.past else 0
        return _microseconds_of(number) - before * 1_000_000

    def earlier(self, number: int) -> int:
        """The request whose events ``number`` repeats a share of."""
        return number - self.repeat_distance

    def events(self, numbers: range) -> int:
        """Events in these requests, repeats included."""
        return sum(self.template(number).events for number in numbers)

    def new_events(self, numbers: range, sent_before: Container[int] = ()) -> int:
        """Events that these requests add to ``sent_before``: repeats of what was sent are not new."""
        repeated = sum(
            self.template(number).repeats
            for number in numbers
            if self.earlier(number) in numbers or self.earlier(number) in sent_before
        )
        return self.events(numbers) - repeated


@dataclass(slots=True)
class Numbers:
    """Requests of several runs."""

    ranges: list[range] = field(default_factory=list)

    def __contains__(self, number: object) -> bool:
        return any(number in numbers for numbers in self.ranges)


def made(
    shape: Shape,
    buckets: list[Bucket],
    partitions: int,
    now: datetime,
    *,
    repeat_distance: int | None = None,
    earlier: datetime | None = None,
    seed: int = 1,
) -> Workload:
    """Templates whose events were observed within ``spread_seconds`` before ``now``; what they repeat was
    made at ``earlier``, if that was another time."""
    source = random.Random(seed)
    now = now.replace(microsecond=0)
    ago = timedelta() if earlier is None else now - earlier.replace(microsecond=0)
    templates = [
        _template(shape, buckets[i % len(buckets)], i, partitions, now, ago, source)
        for i in range(shape.templates)
    ]
    return Workload(shape, templates, repeat_distance or len(templates))


def copy_stream(workload: Workload, numbers: Iterable[int]) -> Iterator[bytes]:
    """The requests as one binary COPY."""
    yield _COPY_SIGNATURE
    for number in numbers:
        yield workload.rows(number)
    yield _COPY_TRAILER


def _template(
    shape: Shape,
    bucket: Bucket,
    index: int,
    partitions: int,
    now: datetime,
    ago: timedelta,
    source: random.Random,
) -> Template:
    app = source.randrange(shape.apps)
    server = source.randrange(shape.servers_of_app)
    devices = [source.randrange(shape.devices) for _ in range(shape.devices_of_request)]
    events = [
        _event(shape, index, position, now, f"app-{app}", f"server-{app}-{server}", devices, source)
        for position in range(shape.events_of_request)
    ]
    repeats = round(shape.repeats * len(events))
    # What is repeated stands among the last, so that a batch is not all of one kind.
    for position in range(repeats):
        earlier = dict(events[position])
        earlier["id"] = str(earlier["id"]).replace(_THIS.decode(), _EARLIER.decode())
        observed_at = _whole_seconds(earlier) - ago
        earlier["observed_at"] = _text(observed_at, _EARLIER_MICROSECONDS)
        events[len(events) - 1 - position] = earlier
    segments = _segments(events, bucket, partitions, now)
    return Template(
        bucket,
        orjson.dumps(events),
        _rows(segments, bucket),
        _records(segments, bucket),
        len(events),
        repeats,
    )


def _event(
    shape: Shape,
    index: int,
    position: int,
    now: datetime,
    app: str,
    server: str,
    devices: list[int],
    source: random.Random,
) -> dict[str, Any]:
    observed_at = now - timedelta(seconds=source.uniform(0, shape.spread_seconds))
    tail = f"{index:04x}-{position:04x}-{source.getrandbits(48):012x}"
    return {
        "id": f"{_THIS.decode()}-7{tail}",
        "name": f"name-{source.randrange(shape.names)}",
        "observed_at": _text(observed_at, _THIS_MICROSECONDS),
        "app": app,
        "server": server,
        "device": f"device-{source.choice(devices):06d}",
        "data": {
            "path": f"/v1/items/{source.randrange(10_000)}",
            "status": source.choice((200, 200, 200, 404, 500)),
            "duration_ms": round(source.expovariate(0.02), 3),
            "user": f"user-{source.randrange(100_000)}",
            "message": "request served",
        },
    }


def _text(observed_at: datetime, microseconds: bytes) -> str:
    return f"{observed_at:%Y-%m-%dT%H:%M:%S}.{microseconds.decode()}+00:00"


def _whole_seconds(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(f"{event['observed_at'][:19]}+00:00")


def _segments(events: list[dict[str, Any]], bucket: Bucket, partitions: int, now: datetime) -> _Segments:
    """The events as the gateway sorts them: by partition of (bucket, device), then by labels."""
    received_at = _microseconds(now)
    segments: _Segments = {}
    bucket_id = bytes.fromhex(bucket.bucket_id)
    for event in events:
        partition = route(bucket_id, event["device"].encode(), partitions)
        labels = encode_labels(event["name"], DEFAULT_STREAM, event["app"], event["server"])
        tail = encode_event(
            _microseconds(_whole_seconds(event)),
            event["id"],
            received_at,
            event["device"],
            orjson.dumps(event["data"]),
        )
        by_labels = segments.setdefault(partition, {})
        by_labels.setdefault(labels, Segment(EVENTS, 0, bucket_id, labels, [])).tails.append(tail)
    return segments


def _records(segments: _Segments, bucket: Bucket) -> list[tuple[int, Binary]]:
    record_id = bytes.fromhex(bucket.bucket_id)[:4] + _THIS
    return [
        (partition, _binary(encode_record(record_id, list(by_labels.values())), [by_labels]))
        for partition, by_labels in sorted(segments.items())
    ]


def _rows(segments: _Segments, bucket: Bucket) -> Binary:
    rows = b"".join(
        segment.head(bucket.bucket_key) + tail
        for by_labels in segments.values()
        for segment in by_labels.values()
        for tail in segment.tails
    )
    return _binary(rows, segments.values())


def _binary(text: bytes, segments: Iterable[dict[bytes, Segment]]) -> Binary:
    moments = []
    end = 0
    for by_labels in segments:
        for segment in by_labels.values():
            for tail in segment.tails:
                start = text.index(tail, end)
                end = start + len(tail)
                # The first field of a tail is the moment, behind its length.
                (seconds,) = _MOMENT.unpack_from(tail, 4)
                moments.append((start + 4, seconds, _EARLIER in tail))
    return Binary(text, moments)


def _microseconds_of(number: int) -> int:
    return number * _MICROSECOND_STEP % 1_000_000


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
