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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import uuid_utils

from ingest.gateway.dialects.events import Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.dialects.reading import Batch, Rejection
from ingest.gateway.json_text import fault, may_hold_faults, may_nest_deeper
from schema.errors import Invalid
from schema.events import parse_moment
from schema.records import EVENTS, NODE_REPORTS, STAMPED, encode_event, encode_node_report
from schema.topics import route

# What a waiting event costs beside its bytes: the object that holds them, its place in a list.
EVENT_OVERHEAD_BYTES = 48
_LOW_BITS = 47
_OPENING_BRACE = 0x7B


@dataclass(frozen=True, slots=True)
class Terms:
    """What one request's events are held to. Moments in microseconds since 1970."""

    received_at: int
    latest_at: int
    raw_floor_at: int
    retention_floor_at: int
    max_nesting: int

    @property
    def earliest_at(self) -> int:
        """The first moment that is not too old, for whichever reason."""
        return max(self.raw_floor_at, self.retention_floor_at)


@dataclass(frozen=True, slots=True)
class Destination:
    """What the tails of one segment have in common, and the partition that they go to."""

    partition: int
    kind: int
    flags: int
    bucket: bytes
    labels: tuple[str, str, str, str] | None


@dataclass(slots=True)
class Admitted:
    """What may be published, by destination, and what may not. ``held_bytes``: what it costs to hold it."""

    tails: dict[Destination, list[bytes]] = field(default_factory=dict)
    count: int = 0
    held_bytes: int = 0
    rejections: list[Rejection] = field(default_factory=list)


def admit_events(batch: Batch[Event], terms: Terms, bucket: bytes, partitions: int) -> Admitted:
    """Check, encode and route the events of one request."""
    admitted = Admitted(rejections=batch.rejections)
    by_destination: dict[tuple[int, int, str, str, str, str], list[bytes]] = {}
    received_at, earliest_at, latest_at = terms.received_at, terms.earliest_at, terms.latest_at
    made_ids = EventIds(len(batch.entries))
    shared_partition = -1
    held_bytes = 0
    for position, event in enumerate(batch.entries):
        try:
            moment = received_at
            if event.observed_at is not None:
                moment = parse_moment(event.observed_at)
                if not earliest_at <= moment <= latest_at:
                    _refuse_moment(moment, terms)
            data = _storable(bytes(event.data), terms.max_nesting, doubtful=batch.doubtful)
        except Invalid as error:
            admitted.rejections.append(Rejection(batch.index(position), error.message))
            continue
        flags = 0
        event_id = event.id
        if event_id is None:
            event_id = made_ids.next()
            if shared_partition < 0:
                shared_partition = route(bucket, _source(event), partitions)
            partition = shared_partition
        elif event.observed_at is None:
            flags = STAMPED
            partition = route(bucket, event_id.encode(), partitions)
        else:
            partition = route(bucket, _source(event), partitions)
        tail = encode_event(moment, event_id, received_at, event.device, data)
        held_bytes += len(tail)
        key = (partition, flags, event.name, event.stream, event.app, event.server)
        tails = by_destination.get(key)
        if tails is None:
            by_destination[key] = [tail]
        else:
            tails.append(tail)
        admitted.count += 1
    admitted.held_bytes = held_bytes + admitted.count * EVENT_OVERHEAD_BYTES
    for (partition, flags, *labels), tails in by_destination.items():
        name, stream, app, server = labels
        admitted.tails[Destination(partition, EVENTS, flags, bucket, (name, stream, app, server))] = tails
    return admitted


def admit_node_reports(batch: Batch[NodeReport], terms: Terms, bucket: bytes, partitions: int) -> Admitted:
    """Check, encode and route the node reports of one request, by (bucket, host)."""
    admitted = Admitted(rejections=batch.rejections)
    by_partition: dict[int, list[bytes]] = {}
    for position, report in enumerate(batch.entries):
        try:
            moment = terms.received_at
            if report.observed_at is not None:
                moment = parse_moment(report.observed_at)
                if not terms.earliest_at <= moment <= terms.latest_at:
                    _refuse_moment(moment, terms)
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
        admitted.count += 1
        admitted.held_bytes += len(tail) + EVENT_OVERHEAD_BYTES
        by_partition.setdefault(route(bucket, report.host.encode(), partitions), []).append(tail)
    admitted.tails = {
        Destination(partition, NODE_REPORTS, 0, bucket, None): tails
        for partition, tails in by_partition.items()
    }
    return admitted


class EventIds:
    """UUIDv7s for the events of one request, ascending: one from the library, the others count on from it."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._head = ""
        self._low = 0

    def next(self) -> str:
        """The next one, in its usual form."""
        if self._wanted == 1:
            return str(uuid_utils.uuid7())
        if not self._head:
            text = str(uuid_utils.uuid7())
            self._head = text[:24]
            # One bit is left free, so that counting on never reaches what stands before it.
            self._low = int(text[24:], 16) & ((1 << _LOW_BITS) - 1)
        self._low += 1
        return f"{self._head}{self._low:012x}"


def retention_floor(received_at: int, retention_days: int | None) -> int:
    """The moment before which a bucket keeps nothing; the beginning of time without a retention."""
    if retention_days is None:
        return 0
    return received_at - retention_days * 86_400_000_000


def _source(event: Event) -> bytes:
    return (event.device or event.server or event.app).encode()


def _storable(data: bytes, max_nesting: int, *, doubtful: bool) -> bytes:
    if (doubtful and may_hold_faults(data)) or may_nest_deeper(data, max_nesting):
        found = fault(data, max_nesting)
        if found is not None:
            raise Invalid(f"data: {found}")
    return data if data[0] == _OPENING_BRACE else b'{"value": ' + data + b"}"


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
