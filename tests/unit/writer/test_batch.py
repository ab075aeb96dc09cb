"""Records to rows, without a database: decoding, screening, repeats, counts, COPY's bytes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.writer.batch import (
    STAMPED_WINDOW,
    Batch,
    Bounds,
    BucketState,
    Counts,
    Fence,
    FetchedRecord,
    Run,
    Screened,
    Standing,
    copy_stream,
    decode,
    label_fault,
    postgres_minute,
    screen,
    suspects,
    without_repeats,
)
from ingest.writer.recent import Recent
from schema.errors import Invalid
from schema.records import (
    EVENTS,
    NODE_REPORTS,
    STAMPED,
    Segment,
    decode_record,
    encode_event,
    encode_labels,
    encode_node_report,
    encode_record,
    postgres_moment,
    record_identity,
)

BUCKET = "ab" * 12
OTHER = "cd" * 12
NOW = 1_750_000_000_000_000
HOUR = 3_600_000_000
LABELS = encode_labels("boot", "events", "app", "s1")
OPEN = Bounds(postgres_moment(0), postgres_moment(NOW + 24 * HOUR))


def event(identifier: str, at: int = NOW, received_at: int = NOW) -> bytes:
    return encode_event(at, identifier, received_at, "", b"{}")


def report(at: int = NOW) -> bytes:
    return encode_node_report(at, "host", "ip", at, "1", "ONLINE", None, 60)


def events(*tails: bytes, bucket: str = BUCKET, flags: int = 0, labels: bytes = LABELS) -> Segment:
    return Segment(EVENTS, flags, bytes.fromhex(bucket), labels, list(tails))


def reports(*tails: bytes, bucket: str = BUCKET) -> Segment:
    return Segment(NODE_REPORTS, 0, bytes.fromhex(bucket), b"", list(tails))


def record(
    *segments: Segment, partition: int = 0, offset: int = 0, record_id: bytes = b"r" * 16
) -> FetchedRecord:
    return FetchedRecord(partition, offset, 1_750_000_000_000, encode_record(record_id, list(segments)))


def batch_of(*records: FetchedRecord) -> Batch:
    batch = Batch(standings={r.partition: Standing(1, 0) for r in records})
    for one in records:
        batch.add(one)
    return batch


def known(key: int = 1, *, deleted: bool = False, **fences: Fence) -> BucketState:
    return BucketState(key, deleted, {int(name[1:]): fence for name, fence in fences.items()})


def tails(runs: list[Run]) -> list[bytes]:
    return [tail for run in runs for tail in run.tails]


def test_a_record_becomes_runs_with_positions_across_its_segments() -> None:
    runs, letters = decode(record(events(event("a"), event("b")), reports(report()), events(event("c"))))
    assert letters == []
    assert [run.positions for run in runs] == [[0, 1], [2], [3]]
    assert [len(run) for run in runs] == [2, 1, 1]
    assert runs[0].moments == [postgres_moment(NOW)] * 2
    assert runs[0].identities[1].endswith(b"b")


@pytest.mark.parametrize(
    "bad", [b"", b"\x00", event("x")[:-1], event("x") + b"\x00", event("x") + event("y")]
)
def test_a_broken_event_is_a_letter_and_its_neighbours_stay(bad: bytes) -> None:
    runs, letters = decode(record(events(event("a"), bad, event("b")), events(event("c")), offset=7))
    assert tails(runs) == [event("a"), event("b"), event("c")]
    assert [run.positions for run in runs] == [[0, 2], [3]]
    assert [(letter.offset, letter.position, letter.kind) for letter in letters] == [(7, 1, "event")]
    assert decode_record(letters[0].payload).segments == [events(bad)]


@pytest.mark.parametrize("bad", [b"", report()[:-1], report() + b"\x00"])
def test_a_broken_node_report_is_a_letter_and_its_neighbours_stay(bad: bytes) -> None:
    runs, letters = decode(record(reports(report(), bad, report(NOW + 1))))
    assert tails(runs) == [report(), report(NOW + 1)]
    assert [letter.position for letter in letters] == [1]


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (encode_labels("a\x00", "s", "", ""), "name: holds the character U+0000"),
        (encode_labels("a", "s", "", "\x00"), "server: holds the character U+0000"),
        (encode_labels("a", "s", "x" * 201, ""), "app: longer than 200 characters"),
        (encode_labels("a", "s" * 101, "", ""), "stream: longer than 100 characters"),
        (encode_labels("a", "s", "", "")[:-1], "labels: "),
        (LABELS.replace(b"boot", b"bo\xff\xfe"), "labels: "),
        (LABELS.replace(b"boot", b"b\xed\xa0\x80"), "labels: "),
    ],
)
def test_labels_that_cannot_be_stored_spoil_their_segment_alone(labels: bytes, fault: str) -> None:
    found = label_fault(labels)
    assert found is not None
    assert found.startswith(fault)
    runs, letters = decode(record(events(event("a"), event("b"), labels=labels), events(event("c"))))
    assert tails(runs) == [event("c")]
    assert [(letter.kind, letter.position) for letter in letters] == [("label", 0), ("label", 1)]


def test_good_labels_have_no_fault() -> None:
    assert label_fault(encode_labels("ä" * 200, "s" * 100, "", "z" * 200)) is None


@pytest.mark.parametrize(
    "value", [b"", b"foreign", b"WEIR\x02" + bytes(40), record(events(event("a"))).value[:-1]]
)
def test_what_is_no_record_is_one_letter_and_the_offset_moves_on(value: bytes) -> None:
    batch = batch_of(
        record(events(event("a"))), FetchedRecord(0, 1, 5, value), record(events(event("b")), offset=2)
    )
    assert tails(batch.runs) == [event("a"), event("b")]
    assert [(letter.position, letter.kind, letter.payload) for letter in batch.letters] == [
        (-1, "record", value)
    ]
    assert batch.ends() == {0: (3, 1_750_000_000_000)}
    with pytest.raises(Invalid):
        decode_record(value)


@pytest.mark.parametrize(
    "segment",
    [events(*[b""] * 100_000), reports(*[b""] * 100_000), events(*[event("a")] * 2_000, labels=b"")],
    ids=["events", "reports", "labels"],
)
def test_a_record_of_nothing_but_broken_events_is_one_letter(segment: Segment) -> None:
    batch = batch_of(record(events(event("a")), segment))
    assert batch.runs == []
    (letter,) = batch.letters
    assert (letter.position, letter.kind) == (-1, "record")
    assert "more than 1000 of its events are broken" in letter.reason


def test_the_last_record_is_known_by_its_identity_whatever_it_is() -> None:
    batch = batch_of(record(events(event("a"))), FetchedRecord(1, 0, 0, b"foreign"))
    assert batch.last_record_ids == {0: b"r" * 16, 1: record_identity(b"foreign")}


def test_halves_are_stored_one_behind_the_other() -> None:
    batch = batch_of(
        record(events(event("a")), partition=0, offset=0),
        record(events(event("b")), partition=1, offset=0),
        record(events(event("c")), partition=0, offset=1),
        record(events(event("d")), partition=1, offset=1),
        record(events(event("e")), partition=0, offset=2),
    )
    first, second = batch.halves()
    assert tails(first.runs) + tails(second.runs) == tails(batch.runs)
    assert second.standings == {0: Standing(1, 1), 1: Standing(1, 1)}
    assert {**first.ends(), **second.ends()} == batch.ends()


def test_a_batch_without_a_partition_keeps_the_others() -> None:
    batch = batch_of(record(events(event("a"))), record(events(event("b")), partition=1))
    assert tails(batch.without({0}).runs) == [event("b")]
    assert list(batch.without({0}).ends()) == [1]


def screened(batch: Batch, state: BucketState, bounds: Bounds = OPEN, epoch: int = 1) -> Screened:
    epochs = dict.fromkeys(batch.standings, epoch)
    return screen(batch, {BUCKET: state}, epochs, bounds)


def test_rows_get_the_buckets_present_key_and_take_their_ways() -> None:
    batch = batch_of(record(events(event("a")), events(event("b"), flags=STAMPED), reports(report())))
    found = screened(batch, known(7))
    assert [tails(found.events), tails(found.stamped), tails(found.node_reports)] == [
        [event("a")],
        [event("b")],
        [report()],
    ]
    assert found.events[0].head == found.events[0].segment.head(7)
    assert (found.letters, found.fenced) == ([], 0)


def test_records_before_a_fence_are_dropped_and_those_behind_it_stay() -> None:
    batch = batch_of(*(record(events(event(str(n))), offset=n) for n in range(5)))
    found = screened(batch, known(p0=Fence(1, 3, postgres_moment(NOW + HOUR))))
    assert tails(found.events) == [event("3"), event("4")]
    assert found.fenced == 3


def test_a_fence_is_of_one_partition() -> None:
    batch = batch_of(record(events(event("a"))), record(events(event("b")), partition=1))
    found = screened(batch, known(p1=Fence(1, 10, 0)))
    assert tails(found.events) == [event("a")]


def test_in_another_epoch_a_fence_goes_by_the_moment_of_receipt() -> None:
    before, after = event("a", received_at=NOW - 1), event("b", received_at=NOW)
    batch = batch_of(record(events(before, after), events(after)))
    found = screened(batch, known(p0=Fence(1, 10, postgres_moment(NOW))), epoch=2)
    assert tails(found.events) == [after, after]
    assert found.fenced == 1


def test_a_fence_leaves_node_reports_alone() -> None:
    found = screened(batch_of(record(reports(report()))), known(p0=Fence(1, 10, postgres_moment(NOW + 1))))
    assert tails(found.node_reports) == [report()]


def test_a_deleted_bucket_takes_nothing_and_an_unknown_one_leaves_letters() -> None:
    batch = batch_of(record(events(event("a")), reports(report()), events(event("b"), bucket=OTHER)))
    found = screened(batch, known(deleted=True))
    assert (found.events, found.node_reports, found.fenced) == ([], [], 2)
    assert [(letter.bucket_id, letter.kind, letter.position) for letter in found.letters] == [
        (OTHER, "bucket", 2)
    ]


def test_moments_out_of_bounds_are_letters_and_the_bounds_are_within() -> None:
    bounds = Bounds(postgres_moment(NOW), postgres_moment(NOW + HOUR))
    inside = [event("a", NOW), event("b", NOW + HOUR)]
    batch = batch_of(
        record(events(event("c", NOW - 1), *inside, event("d", NOW + HOUR + 1))),
        record(reports(report(NOW - 1), report(NOW)), offset=1),
        record(events(event("e", NOW - HOUR)), offset=2),
    )
    found = screened(batch, known(), bounds)
    assert tails(found.events) == inside
    assert tails(found.node_reports) == [report(NOW)]
    assert [(letter.offset, letter.position, letter.kind) for letter in found.letters] == [
        (0, 0, "floor"),
        (0, 3, "future"),
        (1, 0, "floor"),
        (2, 0, "floor"),
    ]
    assert len(found.events) == 1


identifiers = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=12)


@given(st.lists(identifiers, max_size=6), st.sets(st.integers(0, 9)))
def test_suspects_lose_no_row_and_double_none(
    segments: list[list[tuple[int, int]]], remembered: set[int]
) -> None:
    """And what is called fresh repeats neither itself nor what is remembered."""

    def runs_of(lists: list[list[tuple[int, int]]]) -> list[Run]:
        made, _ = decode(record(*(events(*(event(str(n), NOW + at) for n, at in one)) for one in lists)))
        return made

    seen = Recent()
    _, _, hashes = suspects(runs_of([[(n, 0)] for n in remembered]), seen)
    seen.remember(hashes)
    runs = runs_of(segments)
    fresh, doubtful, found = suspects(runs, seen)
    assert Counter(tails(fresh)) + Counter(tails(doubtful)) == Counter(tails(runs))
    assert len(set(tails(fresh))) == len(tails(fresh))
    assert not set(tails(fresh)) & {event(str(n)) for n in remembered}
    assert found >= {hash((0, run.identities[i])) for run in runs for i in range(len(run))}
    for run in (*fresh, *doubtful):
        assert len(run.tails) == len(run.positions) == len(run.identities) == len(run.moments)


def test_the_same_id_in_two_buckets_is_two_events() -> None:
    one, two = decode(record(events(event("a")), events(event("a"), bucket=OTHER)))[0]
    one.bucket_key, two.bucket_key = 1, 2
    fresh, doubtful, _ = suspects([one, two], Recent())
    assert len(fresh) == 2
    assert not any(map(len, doubtful))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 80)), max_size=20))
def test_stamped_repeats_within_a_day_count_once(stamps: list[tuple[int, int]]) -> None:
    """Ids and hours, in the order of the log: an id is new again only a day or more from all its others."""
    stamps.sort(key=lambda stamp: stamp[1])
    runs, _ = decode(record(*(events(event(str(n), NOW + hour * HOUR)) for n, hour in stamps)))
    rows = [(run, 0, str(n)) for run, (n, _) in zip(runs, stamps, strict=True)]
    kept, repeats = without_repeats(rows, set())
    assert sum(map(len, kept)) + repeats == len(stamps)
    day = STAMPED_WINDOW.total_seconds() * 1_000_000
    for identifier in range(4):
        moments = [run.moments[0] for run in kept if run.tails[0][16:17] == str(identifier).encode()]
        assert all(later - earlier >= day for earlier, later in pairwise(moments))
        assert bool(moments) == any(n == identifier for n, _ in stamps)


def test_stamped_rows_that_are_stored_already_are_left_out() -> None:
    (run,), _ = decode(record(events(event("a"), event("b"), event("c"))))
    kept, repeats = without_repeats([(run, 0, "a"), (run, 1, "b"), (run, 2, "c")], {1})
    assert repeats == 1
    assert tails(kept) == [event("a"), event("c")]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3 * 24 * HOUR)), max_size=30))
def test_counts_are_a_recount_at_every_width(rows: list[tuple[str, int]]) -> None:
    counts = Counts()
    for name, at in rows:
        labels = encode_labels(name, "events", "app", "s1")
        (run,), _ = decode(record(events(event("x", NOW + at), labels=labels)))
        run.bucket_key = 7
        counts.add_runs([run], 2)
    minutes = [(name, postgres_minute(NOW + at)) for name, at in rows]
    assert counts.minutes == Counter((7, name, minute, 2) for name, minute in minutes)
    assert counts.hours == Counter((7, name, "app", "s1", m // 60 * 60, 2) for name, m in minutes)
    assert counts.days == Counter((7, name, "app", "s1", m // 1440 * 1440, 2) for name, m in minutes)


def test_moments_before_2000_fall_into_their_minute() -> None:
    counts = Counts()
    (run,), _ = decode(record(events(event("x", 59_999_999), event("y", 60_000_000))))
    counts.add_runs([run], 0)
    assert sorted(minute for _, _, minute, _ in counts.minutes) == [
        postgres_minute(0),
        postgres_minute(0) + 1,
    ]


def test_an_hour_is_closed_from_its_end_on() -> None:
    counts = Counts()
    counts.add(1, "n", "", "", 600, 0, 5)
    assert counts.hours_before(659) == []
    assert counts.hours_before(660) == [600]


def test_a_minute_is_late_from_its_end_on() -> None:
    counts = Counts()
    counts.add(1, "n", "", "", 642, 0, 5)
    counts.add(1, "n", "", "", 655, 0, 5)
    counts.add(1, "n", "", "", 700, 0, 5)
    assert counts.hours_of_minutes_before(642) == []
    assert counts.hours_of_minutes_before(643) == [600]
    assert counts.hours_of_minutes_before(701) == [600, 660]


def test_a_copy_stream_is_signature_tuples_trailer() -> None:
    (run,), _ = decode(record(events(event("a"), event("b"))))
    run.head = run.segment.head(7)
    stream = b"".join(copy_stream([run]))
    assert stream.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
    assert stream.endswith(run.head + event("b") + b"\xff\xff")
    assert stream.count(run.head) == 2
