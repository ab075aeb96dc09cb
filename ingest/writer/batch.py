"""Records to rows: what one transaction will store, decided without any I/O.

``decode`` takes a fetched record apart; ``screen`` compares its segments with what the database said
of their buckets (present key, fences, floor) and leaves rows to copy, rows to look up first, and dead
letters. A row is never taken apart: the head of its segment and its tail are COPY's bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import repeat
from struct import Struct

from ingest.writer.recent import Recent
from schema.errors import Invalid
from schema.events import MAX_LABEL, MAX_STREAM
from schema.records import (
    EVENTS,
    NODE_REPORTS,
    STAMPED,
    Segment,
    decode_labels,
    decode_record,
    encode_record,
    event_identities,
    event_identity,
    postgres_moment,
    record_identity,
    well_formed,
)

MINUTE_MICROSECONDS = 60_000_000
HOUR_MINUTES = 60
DAY_MINUTES = 1440
# PostgreSQL's epoch falls on midnight, so minutes, hours and days counted from it are aligned.
_MOMENT = Struct(">4xq")
STAMPED_WINDOW = timedelta(hours=24)
_STAMPED_MICROSECONDS = STAMPED_WINDOW // timedelta(microseconds=1)
_MOST_BROKEN = 1_000  # beyond so many broken events a record is one dead letter as a whole
LABELS = ("name", "stream", "app", "server")
_LABEL_LIMITS = (MAX_LABEL, MAX_STREAM, MAX_LABEL, MAX_LABEL)

labels_of = lru_cache(maxsize=10_000)(decode_labels)


@lru_cache(maxsize=10_000)
def label_fault(labels: bytes) -> str | None:
    """Why a segment's labels cannot be stored, or None.

    Looked at before anything is copied: one that spoils every row of a segment would have each of them tried
    alone, and one too long for a rollup's index would fail only after the rows are in.
    """
    try:
        texts = labels_of(labels)
    except Invalid as error:
        return error.message
    for field_name, text, limit in zip(LABELS, texts, _LABEL_LIMITS, strict=True):
        if "\x00" in text:
            return f"{field_name}: holds the character U+0000"
        if len(text) > limit:
            return f"{field_name}: longer than {limit} characters"
    return None


@dataclass(frozen=True, slots=True)
class FetchedRecord:
    """A record as Kafka gave it. ``at_ms``: Kafka's timestamp, milliseconds since 1970."""

    partition: int
    offset: int
    at_ms: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition's writer stands: the next offset to store, in an epoch of the log."""

    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be stored: an event as a record of its own, or the record as a whole (position -1).

    ``kind``: one of a few words, for metrics. ``reason``: a sentence, for people.
    """

    partition: int
    offset: int
    position: int
    bucket_id: str | None
    kind: str
    reason: str
    payload: bytes


@dataclass(slots=True)
class Run:
    """Rows that share a head: (part of) a segment on its way into a table."""

    partition: int
    offset: int
    record_id: bytes
    segment: Segment
    bucket_key: int
    head: bytes
    tails: list[bytes]
    positions: list[int]
    identities: list[bytes]
    moments: list[int]

    def __len__(self) -> int:
        return len(self.tails)

    def part(self, indices: Iterable[int]) -> Run:
        """The same run with only the rows at ``indices``."""
        kept = list(indices)
        return Run(
            self.partition,
            self.offset,
            self.record_id,
            self.segment,
            self.bucket_key,
            self.head,
            [self.tails[i] for i in kept],
            [self.positions[i] for i in kept],
            [self.identities[i] for i in kept],
            [self.moments[i] for i in kept],
        )

    def letter(self, index: int, kind: str, reason: str) -> DeadLetter:
        """The row at ``index`` as a dead letter that can be published again as it is."""
        segment = self.segment
        alone = Segment(segment.kind, segment.flags, segment.bucket_id, segment.labels, [self.tails[index]])
        return DeadLetter(
            self.partition,
            self.offset,
            self.positions[index],
            segment.bucket_id.hex(),
            kind,
            reason,
            encode_record(self.record_id, [alone]),
        )


@dataclass(slots=True)
class Batch:
    """What a lane stores in one transaction: records that follow on ``standings``, partition by partition."""

    standings: dict[int, Standing] = field(default_factory=dict)
    # False: some rows of a record, of which others follow (``portions``).
    moves_offsets: bool = True
    records: list[FetchedRecord] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    last_record_ids: dict[int, bytes] = field(default_factory=dict)
    events: int = 0
    bytes: int = 0

    def add(self, record: FetchedRecord) -> None:
        """Decode a record into the batch; one that is none becomes a dead letter."""
        self.records.append(record)
        self.bytes += len(record.value)
        self.last_record_ids[record.partition] = record_identity(record.value)
        try:
            runs, letters = decode(record)
        except Invalid as error:
            self.letters.append(
                DeadLetter(record.partition, record.offset, -1, None, "record", error.message, record.value)
            )
            return
        self.runs += runs
        self.letters += letters
        self.events += sum(map(len, runs))

    def ends(self) -> dict[int, tuple[int, int]]:
        """Partition → (offset after its last record, that record's timestamp in milliseconds)."""
        return {record.partition: (record.offset + 1, record.at_ms) for record in self.records}

    def bucket_ids(self) -> list[str]:
        """The buckets that it has events of."""
        return sorted({run.segment.bucket_id.hex() for run in self.runs})

    def halves(self) -> list[Batch]:
        """Two batches to be stored one after the other, each with half of the records."""
        middle = len(self.records) // 2
        first = Batch(standings=self.standings)
        for record in self.records[:middle]:
            first.add(record)
        behind = {
            partition: Standing(self.standings[partition].epoch, next_offset)
            for partition, (next_offset, _) in first.ends().items()
        }
        second = Batch(standings={**self.standings, **behind})
        for record in self.records[middle:]:
            second.add(record)
        return [first, second]

    def buried(self, reason: str) -> Batch:
        """The same records, each a dead letter as a whole."""
        rest = Batch(standings=self.standings, records=self.records, bytes=self.bytes)
        rest.last_record_ids = self.last_record_ids
        rest.letters = [
            DeadLetter(record.partition, record.offset, -1, None, "record", reason, record.value)
            for record in self.records
        ]
        return rest

    def without(self, partitions: set[int]) -> Batch:
        """The batch less some partitions, decoded anew."""
        rest = Batch(standings=self.standings)
        for record in self.records:
            if record.partition not in partitions:
                rest.add(record)
        return rest


def decode(record: FetchedRecord) -> tuple[list[Run], list[DeadLetter]]:
    """A record's runs (keys not known yet), and its events that are none. Raises Invalid: it is no record."""
    decoded = decode_record(record.value)
    runs: list[Run] = []
    letters: list[DeadLetter] = []
    position = 0
    for segment in decoded.segments:
        tails = segment.tails
        positions = list(range(position, position + len(tails)))
        position += len(tails)
        run = Run(
            record.partition, record.offset, decoded.record_id, segment, 0, b"", tails, positions, [], []
        )
        if segment.kind == EVENTS and (fault := label_fault(segment.labels)) is not None:
            _check_broken(len(letters) + len(tails), fault)
            letters += [run.letter(index, "label", fault) for index in range(len(tails))]
            continue
        try:
            if segment.kind == EVENTS:
                run.moments, run.identities = event_identities(tails)
            else:
                run.moments, run.identities = _report_identities(tails)
        except Invalid:
            _leave_out_broken(run, letters)
        runs.append(run)
    return runs, letters


def _leave_out_broken(run: Run, letters: list[DeadLetter]) -> None:
    identity = event_identity if run.segment.kind == EVENTS else _report_identity
    pairs: list[tuple[int, bytes]] = []
    kept: list[int] = []
    for index, tail in enumerate(run.tails):
        try:
            pairs.append(identity(tail))
        except Invalid as error:
            _check_broken(len(letters) + 1, error.message)
            letters.append(run.letter(index, "event", error.message))
        else:
            kept.append(index)
    run.tails = [run.tails[index] for index in kept]
    run.positions = [run.positions[index] for index in kept]
    run.moments = [pair[0] for pair in pairs]
    run.identities = [pair[1] for pair in pairs]


def _check_broken(count: int, fault: str) -> None:
    """A letter for each of a million events of no bytes would take more memory than there is."""
    if count > _MOST_BROKEN:
        raise Invalid(f"record: more than {_MOST_BROKEN} of its events are broken, one of them: {fault}")


def _report_identity(tail: bytes) -> tuple[int, bytes]:
    """Its moment; node reports are compared by the database alone."""
    if len(tail) < _MOMENT.size or not well_formed(NODE_REPORTS, tail):
        raise Invalid("node report: its fields do not add up to the report")
    return _MOMENT.unpack_from(tail)[0], b""


def _report_identities(tails: list[bytes]) -> tuple[list[int], list[bytes]]:
    return [_report_identity(tail)[0] for tail in tails], [b""] * len(tails)


@dataclass(frozen=True, slots=True)
class Fence:
    """Records of a bucket before ``offset`` are dropped; in another epoch, events received before ``at``."""

    epoch: int
    offset: int
    at: int


@dataclass(frozen=True, slots=True)
class BucketState:
    """What the database says of a bucket in this transaction."""

    bucket_key: int
    deleted: bool
    fences: dict[int, Fence]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Moments (microseconds since 2000) between which an event may lie."""

    floor: int
    ceiling: int


@dataclass(slots=True)
class Screened:
    """What is left of a batch once its buckets are known."""

    events: list[Run] = field(default_factory=list)
    stamped: list[Run] = field(default_factory=list)
    node_reports: list[Run] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    fenced: int = 0


def screen(batch: Batch, buckets: dict[str, BucketState], epochs: dict[int, int], bounds: Bounds) -> Screened:
    """Sort a batch's runs by what has to happen to them."""
    screened = Screened(letters=list(batch.letters))
    for run in batch.runs:
        segment = run.segment
        bucket = buckets.get(segment.bucket_id.hex())
        if bucket is None:
            reason = "no bucket of this id was ever made here"
            screened.letters += [run.letter(i, "bucket", reason) for i in range(len(run))]
            continue
        if bucket.deleted:
            screened.fenced += len(run)
            continue
        before = len(run)
        if segment.kind == EVENTS:
            kept = _unfenced(run, bucket.fences.get(run.partition), epochs[run.partition])
            screened.fenced += before - len(kept)
        else:
            kept = run
        kept = _within(kept, bounds, screened.letters)
        if not kept.tails:
            continue
        kept.bucket_key = bucket.bucket_key
        kept.head = segment.head(bucket.bucket_key)
        if segment.kind != EVENTS:
            screened.node_reports.append(kept)
        elif segment.flags & STAMPED:
            screened.stamped.append(kept)
        else:
            screened.events.append(kept)
    return screened


def _unfenced(run: Run, fence: Fence | None, epoch: int) -> Run:
    if fence is None:
        return run
    if fence.epoch == epoch:
        return run.part(()) if run.offset < fence.offset else run
    # Offsets of another epoch say nothing: go by the moment at which the gateway received the event.
    return run.part(i for i, tail in enumerate(run.tails) if _received_at(tail) >= fence.at)


def _received_at(tail: bytes) -> int:
    _, identity = event_identity(tail)
    moment: int = _MOMENT.unpack_from(tail, len(identity))[0]
    return moment


def _within(run: Run, bounds: Bounds, letters: list[DeadLetter]) -> Run:
    if not run.moments or (min(run.moments) >= bounds.floor and max(run.moments) <= bounds.ceiling):
        return run
    kept = []
    for index, moment in enumerate(run.moments):
        if moment < bounds.floor:
            letters.append(run.letter(index, "floor", "observed_at is older than what is still kept"))
        elif moment > bounds.ceiling:
            letters.append(run.letter(index, "future", "observed_at lies too far in the future"))
        else:
            kept.append(index)
    return run.part(kept)


def suspects(runs: list[Run], seen: Recent) -> tuple[list[Run], list[Run], set[int]]:
    """Part runs into (surely new within this batch and what was seen lately, the rest, hashes of all).

    A hash that was seen proves nothing; such a row only takes the way that asks the database.
    """
    fresh: list[Run] = []
    doubtful: list[Run] = []
    hashes: set[int] = set()
    for run in runs:
        found = list(map(hash, zip(repeat(run.bucket_key), run.identities, strict=False)))
        before = len(hashes)
        if seen.knows_none(found) and hashes.isdisjoint(found):
            hashes.update(found)
            if len(hashes) - before == len(found):
                fresh.append(run)
                continue
            hashes.difference_update(found)
        new: list[int] = []
        old: list[int] = []
        for index, value in enumerate(found):
            (old if value in hashes or seen.knows(value) else new).append(index)
            hashes.add(value)
        if new:
            fresh.append(run.part(new))
        doubtful.append(run.part(old))
    return fresh, doubtful, hashes


def without_repeats(rows: list[tuple[Run, int, str]], known: set[int]) -> tuple[list[Run], int]:
    """Of stamped rows (run, index, id) those that are new, as parts of their runs, and how many are not.

    ``known``: places of rows whose id is stored within the window already. Of equal ids in ``rows`` whose
    moments are within the window of each other the first one counts.
    """
    taken: dict[tuple[int, str], list[int]] = {}
    kept: dict[int, tuple[Run, list[int]]] = {}
    repeats = 0
    for place, (run, index, event_id) in enumerate(rows):
        moments = taken.setdefault((run.bucket_key, event_id), [])
        moment = run.moments[index]
        if place in known or any(abs(moment - other) < _STAMPED_MICROSECONDS for other in moments):
            repeats += 1
            continue
        moments.append(moment)
        kept.setdefault(id(run), (run, []))[1].append(index)
    return [run if len(run) == len(indices) else run.part(indices) for run, indices in kept.values()], repeats


@dataclass(slots=True)
class Counts:
    """How many rows were really inserted, by what the rollups keep.

    Keys: ``minutes`` (bucket_key, name, minute), ``hours`` and ``days`` (bucket_key, name, app, server,
    minute at which the period starts), each with the shard last; minutes are counted from 2000.
    """

    minutes: Counter[tuple[int, str, int, int]] = field(default_factory=Counter)
    hours: Counter[tuple[int, str, str, str, int, int]] = field(default_factory=Counter)
    days: Counter[tuple[int, str, str, str, int, int]] = field(default_factory=Counter)

    def add(
        self, bucket_key: int, name: str, app: str, server: str, minute: int, shard: int, count: int
    ) -> None:
        """Count rows of one minute on every rung."""
        hour = minute - minute % HOUR_MINUTES
        day = minute - minute % DAY_MINUTES
        self.minutes[bucket_key, name, minute, shard] += count
        self.hours[bucket_key, name, app, server, hour, shard] += count
        self.days[bucket_key, name, app, server, day, shard] += count

    def add_runs(self, runs: list[Run], shard: int) -> None:
        """Count all rows of these runs."""
        alike: dict[tuple[int, bytes], list[int]] = {}
        for run in runs:
            alike.setdefault((run.bucket_key, run.segment.labels), []).extend(run.moments)
        for (bucket_key, labels), moments in alike.items():
            name, _stream, app, server = labels_of(labels)
            minutes = Counter([moment // MINUTE_MICROSECONDS for moment in moments])
            for minute, count in minutes.items():
                self.add(bucket_key, name, app, server, minute, shard, count)

    def hours_before(self, minute: int) -> list[int]:
        """Start minutes of the hours in here that ended at or before ``minute``."""
        return sorted({key[4] for key in self.hours if key[4] + HOUR_MINUTES <= minute})

    def hours_of_minutes_before(self, minute: int) -> list[int]:
        """Start minutes of the hours that have a minute in here which ended at or before ``minute``."""
        return sorted({key[2] - key[2] % HOUR_MINUTES for key in self.minutes if key[2] < minute})


COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"
# The driver takes longer over each chunk than over a dozen events inside one.
_COPY_CHUNK_BYTES = 256 * 1024


def copy_stream(runs: list[Run]) -> Iterator[bytes]:
    """The runs as a binary COPY stream, in chunks of bounded size (a larger run alone)."""
    pieces = [COPY_SIGNATURE]
    size = 0
    for run in runs:
        pieces.append(run.head + run.head.join(run.tails))
        size += len(pieces[-1])
        if size >= _COPY_CHUNK_BYTES:
            yield b"".join(pieces)
            pieces = []
            size = 0
    pieces.append(COPY_TRAILER)
    yield b"".join(pieces)


def postgres_minute(unix_microseconds: int) -> int:
    """The minute since 2000 that a moment (microseconds since 1970) lies in."""
    return postgres_moment(unix_microseconds) // MINUTE_MICROSECONDS
