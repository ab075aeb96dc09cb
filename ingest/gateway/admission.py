"""Which events may be stored, and the form in which they travel. Pure; the clock comes in.

``admit_events`` takes what a dialect has read, event by event: the moment (present, in range, not
before the raw floor or the bucket's retention), the data (an object, or wrapped into one; nothing that
PostgreSQL cannot hold), the id. Good events of a mixed batch are kept, each refusal has its index and
its reason. What is admitted is encoded at once, sorted by where it goes.

Where an event goes: one whose moment the gateway stamps is routed by (bucket, id), since its id alone
is its identity and one partition must see all of its retries. Another with an id is routed by
(bucket, source), the source being its device, else its server, else its app. Events without an id
cannot be repeated, so nothing hangs on their partition: those of one request travel together, by the
source of the first of them, instead of being cut into as many records as there are partitions.

A request with an ``Idempotency-Key`` gives ids to its events that have none, from the key and their
places, and they are flagged like stamped ones: the id alone is their identity. They go by (bucket, key),
so that every repeat of the request meets the first one on one partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn

import uuid_utils

from ingest.gateway.dialects.events import Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.dialects.reading import Batch, Rejection
from ingest.gateway.json_text import fault, may_hold_faults, may_nest_deeper
from schema.errors import Invalid
from schema.events import parse_moment
from schema.records import EVENTS, NODE_REPORTS, STAMPED, EventEncoder, encode_node_report
from schema.topics import route

# What a waiting event costs beside its bytes: the object that holds them, its place in a list.
EVENT_OVERHEAD_BYTES = 48
# What a segment costs beside its labels: the objects that hold them, its place in a record.
SEGMENT_OVERHEAD_BYTES = 256
_LOW_BITS = 47
_OPENING_BRACE = 0x7B


class Terms(NamedTuple):
    """What one request's events are held to. Moments in microseconds since 1970."""

    received_at: int
    latest_at: int
    raw_floor_at: int
    retention_floor_at: int
    max_nesting: int
    # The request's Idempotency-Key.
    request_key: str | None = None


class Part(NamedTuple):
    """Tails of one partition and one segment; ``labels``: name, stream, app, server."""

    partition: int
    kind: int
    flags: int
    labels: tuple[str, str, str, str] | None
    tails: list[bytes]
    tails_bytes: int


@dataclass(slots=True)
class Admitted:
    """What may be published of one request to a bucket, and what may not.

    ``answer_bytes``: what of the answer is made already, and waits for the acknowledgement too.
    """

    bucket: bytes
    rejections: list[Rejection]
    parts: list[Part] = field(default_factory=list)
    count: int = 0
    tails_bytes: int = 0
    labels_bytes: int = 0
    answer_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What it costs to hold the parts, and the answer."""
        return self.tails_bytes + EVENT_OVERHEAD_BYTES * self.count + self.labels_bytes + self.answer_bytes

    def add(
        self,
        partition: int,
        kind: int,
        flags: int,
        labels: tuple[str, str, str, str] | None,
        tails: list[bytes],
    ) -> None:
        """One part."""
        tails_bytes = sum(map(len, tails))
        self.parts.append(Part(partition, kind, flags, labels, tails, tails_bytes))
        self.count += len(tails)
        self.tails_bytes += tails_bytes
        # A character is at most four bytes.
        texts = labels or ()
        self.labels_bytes += SEGMENT_OVERHEAD_BYTES + sum(
            len(text) if text.isascii() else 4 * len(text) for text in texts
        )


def admit_events(  # noqa: PLR0912, PLR0915 - one loop on purpose, see below
    batch: Batch[Event], terms: Terms, bucket: bytes, partitions: int
) -> Admitted:
    """Check, encode and route the events of one request.

    The one loop of the gateway that is written for speed: a call more for each event is felt.
    """
    admitted = Admitted(bucket, batch.rejections)
    by_place: dict[tuple[int, int, str, str, str, str], list[bytes]] = {}
    received_at, latest_at, raw_floor_at, retention_floor_at, max_nesting, request_key = terms
    earliest_at = max(raw_floor_at, retention_floor_at)
    all_data = [bytes(event.data) for event in batch.entries]
    doubtful = batch.doubtful and may_hold_faults(b"\n".join(all_data))
    unchecked_bytes = 0 if doubtful else 2 * max_nesting
    encode = EventEncoder(received_at).tail
    id_head, id_low = first_event_id()
    routes = _Routes(bucket, partitions, request_key)
    known_routes = routes.known
    shared_partition = -1
    id_start = None if request_key is None else request_key.encode()
    for position, (event, text) in enumerate(zip(batch.entries, all_data, strict=True)):
        observed_at = event.observed_at
        try:
            if observed_at is None:
                moment = received_at
            else:
                moment = parse_moment(observed_at)
                if not earliest_at <= moment <= latest_at:
                    _refuse_moment(moment, terms)
            if len(text) > unchecked_bytes:
                _check_data(text, max_nesting, doubtful=doubtful)
        except Invalid as error:
            admitted.rejections.append(Rejection(batch.index(position), error.message))
            continue
        data = text if text[0] == _OPENING_BRACE else b'{"value": %b}' % text
        flags = 0
        event_id = event.id
        if event_id is None:
            if id_start is None:
                id_low += 1
                identifier = b"%b%012x" % (id_head, id_low)
            else:
                identifier = b"%b:%d" % (id_start, batch.index(position))
                flags = STAMPED
            if shared_partition < 0:
                shared_partition = routes.of(event.device or event.server or event.app)
            partition = shared_partition
        else:
            identifier = event_id.encode()
            if observed_at is None:
                flags = STAMPED
                partition = route(bucket, identifier, partitions)
            else:
                source = event.device or event.server or event.app
                known_route = known_routes.get(source)
                partition = routes.of(source) if known_route is None else known_route
        tail = encode(moment, identifier, event.device, data)
        key = (partition, flags, event.name, event.stream, event.app, event.server)
        tails = by_place.get(key)
        if tails is None:
            by_place[key] = [tail]
        else:
            tails.append(tail)
    for (partition, flags, name, stream, app, server), tails in by_place.items():
        admitted.add(partition, EVENTS, flags, (name, stream, app, server), tails)
    return admitted


def admit_node_reports(batch: Batch[NodeReport], terms: Terms, bucket: bytes, partitions: int) -> Admitted:
    """Check, encode and route the node reports of one request, by (bucket, host)."""
    admitted = Admitted(bucket, batch.rejections)
    by_partition: dict[int, list[bytes]] = {}
    for position, report in enumerate(batch.entries):
        try:
            moment = _report_moment(report, terms)
        except Invalid as error:
            admitted.rejections.append(Rejection(batch.index(position), error.message))
            continue
        tail = encode_node_report(
            moment,
            report.host,
            report.ip,
            terms.received_at,
            report.version,
            report.status,
            report.latency_ms,
            report.interval_seconds,
        )
        by_partition.setdefault(route(bucket, report.host.encode(), partitions), []).append(tail)
    for partition, tails in by_partition.items():
        admitted.add(partition, NODE_REPORTS, 0, None, tails)
    return admitted


def _report_moment(report: NodeReport, terms: Terms) -> int:
    if report.observed_at is None:
        if terms.request_key is not None:
            raise Invalid(
                "observed_at: required beside Idempotency-Key, since a report is known by its moment"
            )
        return terms.received_at
    moment = parse_moment(report.observed_at)
    if not max(terms.raw_floor_at, terms.retention_floor_at) <= moment <= terms.latest_at:
        _refuse_moment(moment, terms)
    return moment


def first_event_id() -> tuple[bytes, int]:
    """A fresh UUIDv7 in two parts: its first 24 characters, and the number in its last 12 digits.

    The events of one request count on from it, which is cheaper than a new one for each, keeps their
    order, and stays unique: 74 random bits are left. One of the number's bits is zero, so that counting
    never reaches the first part.
    """
    text = str(uuid_utils.uuid7())
    return text[:24].encode(), int(text[24:], 16) & ((1 << _LOW_BITS) - 1)


def retention_floor(received_at: int, retention_days: int | None) -> int:
    """The moment before which a bucket keeps nothing; the beginning of time without a retention."""
    if retention_days is None:
        return 0
    return received_at - retention_days * 86_400_000_000


class _Routes:
    """The partitions of one bucket's sources, which are few in a request; with a key, it is the only one."""

    def __init__(self, bucket: bytes, partitions: int, request_key: str | None) -> None:
        self._bucket = bucket
        self._partitions = partitions
        self._request_key = request_key
        self.known: dict[str, int] = {}

    def of(self, source: str) -> int:
        partition = self.known.get(source)
        if partition is None:
            text = source if self._request_key is None else self._request_key
            partition = self.known[source] = route(self._bucket, text.encode(), self._partitions)
        return partition


def _check_data(data: bytes, max_nesting: int, *, doubtful: bool) -> None:
    if (doubtful and may_hold_faults(data)) or may_nest_deeper(data, max_nesting):
        found = fault(data, max_nesting)
        if found is not None:
            raise Invalid(f"data: {found}")


def _refuse_moment(moment: int, terms: Terms) -> NoReturn:
    if moment > terms.latest_at:
        ahead_seconds = (terms.latest_at - terms.received_at) // 1_000_000
        raise Invalid(f"observed_at: more than {ahead_seconds} s in the future; correct the sender's clock")
    if moment < terms.raw_floor_at:
        floor = _shown(terms.raw_floor_at)
        raise Invalid(f"observed_at: before {floor}, where stored events begin; it cannot be kept")
    raise Invalid(
        f"observed_at: before {_shown(terms.retention_floor_at)}, older than the bucket's retention"
    )


def _shown(moment: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).isoformat(timespec="seconds")


def all_too_large(rejections: Sequence[Rejection]) -> bool:
    """Whether every refusal is for size."""
    return bool(rejections) and all(rejection.too_large for rejection in rejections)
