"""The record layout: what is written is read again, and no bytes whatever bring the reader down."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import Invalid
from schema.records import (
    EVENTS,
    NODE_REPORTS,
    POSTGRES_EPOCH_MICROSECONDS,
    RECORD_ID_BYTES,
    STAMPED,
    Record,
    Segment,
    decode_labels,
    decode_record,
    encode_event,
    encode_labels,
    encode_node_report,
    encode_record,
    event_id,
    event_identities,
    event_identity,
    postgres_moment,
    record_identity,
    well_formed,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.integers(0, 253_402_300_799_999_999)
tails = st.builds(
    encode_event,
    moments,
    texts,
    moments,
    texts,
    st.binary(max_size=40).map(lambda raw: b'{"x":' + raw + b"}"),
)
reports = st.builds(
    encode_node_report,
    moments,
    texts,
    texts,
    moments,
    texts,
    st.sampled_from(["ONLINE", "OFFLINE"]),
    st.none() | st.floats(0, 1e9),
    st.integers(1, 3600),
)
bucket_ids = st.binary(min_size=12, max_size=12)
event_segments = st.builds(
    Segment,
    st.just(EVENTS),
    st.sampled_from([0, STAMPED]),
    bucket_ids,
    st.builds(encode_labels, texts, texts, texts, texts),
    st.lists(tails, max_size=4),
)
report_segments = st.builds(
    Segment, st.just(NODE_REPORTS), st.just(0), bucket_ids, st.just(b""), st.lists(reports, max_size=4)
)
records = st.builds(
    Record,
    st.binary(min_size=RECORD_ID_BYTES, max_size=RECORD_ID_BYTES),
    st.lists(event_segments | report_segments, max_size=4),
)


@given(records)
def test_a_record_reads_as_it_was_written(record: Record) -> None:
    value = encode_record(record.record_id, record.segments)
    assert decode_record(value) == record
    assert record_identity(value) == record.record_id
    for segment in record.segments:
        assert all(well_formed(segment.kind, tail) for tail in segment.tails)


@given(records, st.data())
def test_every_cut_record_is_refused(record: Record, data: st.DataObject) -> None:
    value = encode_record(record.record_id, record.segments)
    cut = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(Invalid):
        decode_record(value[:cut])


@given(records, st.binary(min_size=1, max_size=5))
def test_bytes_behind_a_record_are_refused(record: Record, more: bytes) -> None:
    with pytest.raises(Invalid, match="after the last segment"):
        decode_record(encode_record(record.record_id, record.segments) + more)


def read_all(value: bytes) -> None:
    """Everything that a writer reads of a record before PostgreSQL does."""
    record_identity(value)
    for segment in decode_record(value).segments:
        if segment.kind == EVENTS:
            decode_labels(segment.labels)
        for tail in segment.tails:
            well_formed(segment.kind, tail)
            event_identity(tail)


@given(records, st.data())
def test_flipped_bits_are_refused_or_read_as_something_else(record: Record, data: st.DataObject) -> None:
    value = bytearray(encode_record(record.record_id, record.segments))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(Invalid):
        read_all(bytes(value))


@given(st.binary(max_size=80), st.booleans())
def test_foreign_bytes_are_refused(foreign: bytes, disguised: bool) -> None:
    value = b"WEIR\x01" + foreign if disguised else foreign
    try:
        read_all(value)
    except Invalid:
        return
    assert value.startswith(b"WEIR\x01")


@given(moments, texts, moments, texts, st.binary(max_size=20))
def test_the_identity_of_an_event_is_its_moment_and_id(
    observed_at: int, identifier: str, received_at: int, device: str, data: bytes
) -> None:
    tail = encode_event(observed_at, identifier, received_at, device, data)
    moment, identity = event_identity(tail)
    assert moment == postgres_moment(observed_at)
    assert identity == tail[: 16 + len(identifier.encode())]
    assert event_id(tail) == identifier.encode()
    other = encode_event(observed_at, identifier, received_at + 1, device + "x", data + b" ")
    assert event_identity(other) == (moment, identity)


@given(st.lists(tails, max_size=8), st.data())
def test_many_identities_are_each_ones_own(many: list[bytes], data: st.DataObject) -> None:
    # Some twice, so that neighbours have fields of the same lengths.
    doubled = [tail for tail in many for _ in range(data.draw(st.integers(1, 3)))]
    pairs = list(map(event_identity, doubled))
    assert event_identities(doubled) == ([pair[0] for pair in pairs], [pair[1] for pair in pairs])


@given(tails, st.data())
def test_one_broken_event_behind_whole_ones_is_refused_as_it_is_alone(
    tail: bytes, data: st.DataObject
) -> None:
    wrong = bytearray(tail)
    wrong[data.draw(st.integers(0, len(wrong) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    wrong = wrong[: data.draw(st.integers(0, len(wrong)))] if data.draw(st.booleans()) else wrong
    try:
        moment, identity = event_identity(bytes(wrong))
    except Invalid:
        with pytest.raises(Invalid):
            event_identities([tail, tail, bytes(wrong)])
        return
    assert event_identities([tail, tail, bytes(wrong)]) == (
        [event_identity(tail)[0]] * 2 + [moment],
        [event_identity(tail)[1]] * 2 + [identity],
    )


@given(tails, st.data())
def test_an_event_that_is_not_exactly_its_fields_is_refused(tail: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(tail) - 1))
    for wrong in (tail[:cut], tail + b"\x00", tail + tail):
        assert not well_formed(EVENTS, wrong)
        with pytest.raises(Invalid):
            event_identity(wrong)


@given(tails, st.data())
def test_an_event_with_any_length_changed_is_refused(tail: bytes, data: st.DataObject) -> None:
    """Else one event could take its neighbours' bytes, or bring a row of its own into COPY."""
    (id_bytes,) = struct.unpack_from(">i", tail, 12)
    (device_bytes,) = struct.unpack_from(">i", tail, 28 + id_bytes)
    place = data.draw(st.sampled_from([0, 12, 16 + id_bytes, 28 + id_bytes, 32 + id_bytes + device_bytes]))
    (length,) = struct.unpack_from(">i", tail, place)
    other = data.draw(st.integers(-(2**31), 2**31 - 1).filter(lambda n: n != length))
    wrong = bytearray(tail)
    struct.pack_into(">i", wrong, place, other)
    try:
        event_identity(bytes(wrong))
    except Invalid:
        return
    # Two lengths may happen to add up again: then these are the fields of another event.
    assert well_formed(EVENTS, bytes(wrong))


def test_an_unknown_jsonb_version_is_no_event() -> None:
    tail = bytearray(encode_event(0, "id", 0, "", b"{}"))
    tail[-3] = 2
    assert not well_formed(EVENTS, bytes(tail))
    with pytest.raises(Invalid):
        event_identity(bytes(tail))


def test_a_node_report_without_latency_is_well_formed() -> None:
    report = encode_node_report(0, "host", "ip", 0, "1.0", "ONLINE", None, 60)
    assert well_formed(NODE_REPORTS, report)
    assert not well_formed(NODE_REPORTS, report[:-1])
    assert not well_formed(NODE_REPORTS, report + b"\x00")


def test_an_event_is_the_tail_of_a_binary_copy_tuple() -> None:
    """The layout byte by byte: what is on the topic outlives any release."""
    observed_at = POSTGRES_EPOCH_MICROSECONDS + 1
    tail = encode_event(observed_at, "a", observed_at + 1, "d", b"{}")
    assert tail.hex(" ") == (
        "00 00 00 08 00 00 00 00 00 00 00 01 00 00 00 01 61 "
        "00 00 00 08 00 00 00 00 00 00 00 02 00 00 00 01 64 "
        "00 00 00 03 01 7b 7d"
    )
    segment = Segment(EVENTS, STAMPED, bytes(range(12)), encode_labels("n", "s", "", ""), [tail])
    assert segment.head(7).hex(" ") == (
        "00 0a 00 00 00 04 00 00 00 07 00 00 00 01 6e 00 00 00 01 73 00 00 00 00 00 00 00 00"
    )
    value = encode_record(b"i" * 16, [segment])
    assert value[:24] == b"WEIR\x01\x00\x00\x01" + b"i" * 16
    assert value[24:50].hex(" ") == (
        "01 01 00 01 02 03 04 05 06 07 08 09 0a 0b 00 00 00 12 00 00 00 01 00 00 00 29"
    )


def test_a_node_report_is_kept_by_the_bucket_id() -> None:
    segment = Segment(NODE_REPORTS, 0, bytes.fromhex("ab" * 12), b"", [])
    assert segment.head(7) == b"\x00\x09\x00\x00\x00\x18" + b"ab" * 12


@given(texts, texts, texts, texts)
def test_labels_read_as_they_were_written(name: str, stream: str, app: str, server: str) -> None:
    labels = encode_labels(name, stream, app, server)
    assert decode_labels(labels) == (name, stream, app, server)
    for wrong in (labels + b"x", labels[:-1]):
        with pytest.raises(Invalid):
            decode_labels(wrong)


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"], ids=["byte", "surrogate", "overlong"]
)
def test_labels_that_are_no_text_are_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        decode_labels(struct.pack(">i", len(text)) + text + encode_labels("", "", "", "")[4:])


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_foreign_records_are_told_apart_too(left: bytes, right: bytes) -> None:
    assert (record_identity(left) == record_identity(right)) == (left == right)
    assert len(record_identity(left)) == RECORD_ID_BYTES
