"""The fast reader is held to the contract: msgspec and the pydantic models accept and refuse the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.gateway.dialects.events import EVENTS, Event
from ingest.gateway.dialects.nodes import NODE_REPORTS, NodeReport
from ingest.gateway.dialects.reading import JSON, NDJSON, Reader
from schema.errors import Invalid, UnsupportedEncoding
from schema.settings import EventLimits

LIMITS = EventLimits()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["", "x" * 100, "x" * 101, "x" * 128, "x" * 129, "ä" * 200, "ä" * 201, "\U0001f600" * 200]
    ),
    st.sampled_from(
        ["ONLINE", "OFFLINE", "DISCONNECTED", "online", "2026-01-31T12:00:00Z", "\x00", "a\x00b"]
    ),
    st.sampled_from([0, 1, 3600, 3601, 60.0, -0.0, 1e308, 10**11, True]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def objects(fields: list[str], required: str) -> st.SearchStrategy[dict[str, Any]]:
    good = st.fixed_dictionaries({required: st.text(min_size=1, max_size=5)})
    any_fields = st.dictionaries(st.sampled_from([*fields, "other"]), values, max_size=4)
    return st.builds(lambda base, more: {**base, **more}, st.one_of(good, st.just({})), any_fields)


events = objects(["name", "id", "observed_at", "stream", "device", "app", "server", "data"], "name")
reports = objects(
    ["host", "ip", "version", "status", "latency_ms", "observed_at", "interval_seconds"], "host"
)


def by_contract(reader: Reader[Any], text: bytes) -> Any:
    try:
        return reader.read_by_contract(text)
    except Invalid as error:
        return error.message


def comparable(entry: Any) -> dict[str, Any]:
    fields = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return {
        name: bytes(value) if isinstance(value, msgspec.Raw) else (type(value), value)
        for name, value in fields.items()
    }


def check_equal(reader: Reader[Any], struct: type[Any], value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    contract = by_contract(reader, text)
    batch = reader.read(text, JSON, LIMITS)
    if isinstance(contract, str):
        assert batch.entries == []
        assert [rejection.error for rejection in batch.rejections] == [contract]
        if b"\\u0000" not in text:
            with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
                msgspec.json.decode(text, type=struct)
        return
    assert batch.rejections == []
    assert comparable(batch.entries[0]) == comparable(contract)
    assert comparable(msgspec.json.decode(text, type=struct)) == comparable(contract)


@settings(max_examples=600, deadline=None)
@given(events)
@example({"name": "a", "observed_at": True})
@example({"name": "a", "id": ""})
@example({"name": "a", "data": None})
@example({"name": "a", "observed_at": 2**80})
def test_events_are_taken_and_refused_as_the_contract_says(value: dict[str, Any]) -> None:
    check_equal(EVENTS, Event, value)


@settings(max_examples=600, deadline=None)
@given(reports)
@example({"host": "a", "latency_ms": 5})
@example({"host": "a", "latency_ms": -0.0})
@example({"host": "a", "latency_ms": True})
@example({"host": "a", "interval_seconds": 60.0})
@example({"host": "a", "interval_seconds": True})
def test_node_reports_are_taken_and_refused_as_the_contract_says(value: dict[str, Any]) -> None:
    check_equal(NODE_REPORTS, NodeReport, value)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"name":"a"},{"name":"b"}]',
        b' \n[ {"name":"a"} , {"name":"b"} ] ',
        b'{"events":[{"name":"a"},{"name":"b"}]}',
        b' { "events" : [{"name":"a"},{"name":"b"}] }',
    ],
)
def test_forms_of_a_json_body(body: bytes) -> None:
    assert [event.name for event in EVENTS.read(body, JSON, LIMITS).entries] == ["a", "b"]


def test_lines_skip_blanks_and_keep_the_good_ones() -> None:
    body = b'{"name":"a"}\n\n{"name":"b","nam":1}\r\n  \nno json\n{"name":"\xff"}\n{"name":"c"}'
    batch = EVENTS.read(body, NDJSON, LIMITS)
    assert [event.name for event in batch.entries] == ["a", "c"]
    assert batch.indexes == [0, 4]
    assert [(one.index, one.error.split(" ")[0]) for one in batch.rejections] == [
        (1, "nam:"),
        (2, "not"),
        (3, "not"),
    ]


@pytest.mark.parametrize("bad", ["NaN", "Infinity", '"\\ud800"', '"half \\udfff"', "1e400", "[1,]"])
def test_one_bad_element_does_not_cost_the_others(bad: str) -> None:
    body = f'[{{"name":"a"}},{{"name":"b","data":{{"x":{bad}}}}},{{"name":"c"}}]'.encode()
    try:
        batch = EVENTS.read(body, JSON, LIMITS)
    except Invalid:
        assert bad == "[1,]", "only what cannot be split may cost the whole body"
        return
    names = [event.name for event in batch.entries]
    assert "a" in names
    assert "c" in names


SURROGATE = "holds a lone surrogate, which is no character; send pairs, or plain UTF-8"
NOT_FINITE = "holds NaN or an infinity, which are no JSON; send null, or a text"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (b'{"name":"b","data":{"x":"\\ud800"}}', f"data: {SURROGATE}"),
        (b'{"name":"b","data":["\\ud83d\\ude00",{"\\uDfff":1e400}]}', f"data: {SURROGATE}"),
        (b'{"name":"half \\udfff"}', f"name: {SURROGATE}"),
        (b'{"name":"b","\\ud800":1}', f"the name of a field: {SURROGATE}"),
        (b' {"name":"b","data":[-Infinity,12]}', f"data: {NOT_FINITE}"),
        (b'{"name":"b","observed_at":NaN}', f"observed_at: {NOT_FINITE}"),
    ],
)
def test_what_is_no_json_in_one_event_is_told_by_its_field_however_the_event_came(
    event: bytes, told: str
) -> None:
    # ``event`` is a line, too.
    bodies = [(event, JSON), (b"[%b]" % event, JSON), (b'{"events":[%b]}' % event, JSON), (event, NDJSON)]
    for body, media_type in bodies:
        batch = EVENTS.read(body, media_type, LIMITS)
        assert batch.entries == []
        assert [(one.index, one.error) for one in batch.rejections] == [(0, told)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"b","data":NaN,"events":[]}',
        b'{"name":"b","data":{"x":"\\ud800"}',
        b'{"name":"b","data":{"x":"\\ud800"}}]',
        b'{"name":"b","data":["' + b"x" * LIMITS.max_event_bytes + b'\\ud800"]}',
    ],
    ids=["beside events", "half of it", "more behind it", "too large"],
)
def test_a_body_that_is_no_event_is_refused_as_a_whole_whatever_it_holds(body: bytes) -> None:
    with pytest.raises(Invalid, match=r"^body: "):
        EVENTS.read(body, JSON, LIMITS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"5",
        b'"x"',
        b"null",
        b'[{"name":"a"}',
        b'[{"name":"a"}]]',
        b"\xff",
        b'{"events":5}',
        b'{"events":[],"more":1}',
        b"[" * 5000,
    ],
)
def test_a_body_that_cannot_be_taken_apart_is_refused_whole(body: bytes) -> None:
    try:
        batch = EVENTS.read(body, JSON, LIMITS)
    except Invalid:
        return
    assert batch.entries == []
    assert batch.rejections


def test_an_escaped_field_name_is_the_same_field() -> None:
    assert EVENTS.read(b'{"na\\u006de":"a"}', JSON, LIMITS).entries[0].name == "a"


def test_limits_at_n_and_beyond() -> None:
    limits = EventLimits(max_events=3, max_event_bytes=1024)
    line = b'{"name":"a"}\n'
    assert len(EVENTS.read(line * 3, NDJSON, limits).entries) == 3
    with pytest.raises(Invalid, match="over the 3"):
        EVENTS.read(line * 4, NDJSON, limits)
    padding = 1024 - len(b'{"name":"a","data":""}')
    fits = b'{"name":"a","data":"%b"}' % (b"x" * padding)
    assert len(fits) == 1024
    assert len(EVENTS.read(fits, JSON, limits).entries) == 1
    batch = EVENTS.read(b'[%b,{"name":"b"}]' % fits.replace(b"x", b"xx", 1), JSON, limits)
    assert [event.name for event in batch.entries] == ["b"]
    assert [(one.index, one.too_large) for one in batch.rejections] == [(0, True)]


def test_a_large_body_is_read_as_its_entries_are_one_by_one() -> None:
    limits = EventLimits(max_event_bytes=1024)
    fits = b'{"name":"a","data":"%b"}' % (b"x" * (1024 - len(b'{"name":"a","data":""}')))
    larger = fits.replace(b"x", b"xx", 1)
    for third in (fits, larger, b'{"name":"a", "id": 7}'):
        entries = [fits, b' {"name" : "b"} ', third]
        joined = b",".join(entries)
        for body, kind in (
            (b"[%b]" % joined, JSON),
            (b'{"events":[%b]}' % joined, JSON),
            (b"\n".join(entries), NDJSON),
        ):
            assert len(body) > limits.max_event_bytes
            batch = EVENTS.read(body, kind, limits)
            names = ["a", "b", "a"] if third is fits else ["a", "b"]
            assert [event.name for event in batch.entries] == names
            assert [one.index for one in batch.rejections] == ([] if third is fits else [2])


def test_another_media_type_is_not_read() -> None:
    with pytest.raises(UnsupportedEncoding):
        EVENTS.read(b"{}", "text/csv", LIMITS)


def test_empty_batches_are_nothing() -> None:
    for body, kind in ((b"[]", JSON), (b'{"events":[]}', JSON), (b"", NDJSON), (b"\n\n", NDJSON)):
        batch = EVENTS.read(body, kind, LIMITS)
        assert (batch.entries, batch.rejections) == ([], [])


def test_an_array_that_is_no_json_is_split_up_to_the_limit_only() -> None:
    """A body of 10 MiB may hold millions of elements; each costs a decoder a hundred bytes."""
    limits = EventLimits(max_events=3)
    assert len(EVENTS.read(b'[{"name":"a"},NaN,NaN]', JSON, limits).rejections) == 2
    for body in (b"[NaN,NaN,NaN,NaN]", b'{"events":[' + b"NaN," * 100_000 + b"1]}"):
        with pytest.raises(Invalid, match="more than the 3 entries"):
            EVENTS.read(body, JSON, limits)
    for body in (b"[NaN,NaN,NaN,NaN", b'{"events":[' + b"NaN," * 100_000):
        with pytest.raises(Invalid, match="must be a JSON object"):
            EVENTS.read(body, JSON, limits)
