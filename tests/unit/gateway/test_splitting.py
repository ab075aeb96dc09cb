"""Where an array's elements are, held to the JSON reader of the standard library."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway.admission import Terms, admit_events
from ingest.gateway.dialects.cloud_events import CLOUD_EVENTS, CloudEvents
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.dialects.reading import JSON, NDJSON, NOT_TAKEN
from ingest.gateway.dialects.splitting import check_elements, leniently_split
from schema.errors import Invalid
from schema.settings import EventLimits

SIZE = 10 * 1024 * 1024
SECONDS = 2.0
LIMITS = EventLimits()
NOW = 1_790_000_000_000_000
TERMS = Terms(NOW, NOW + 1, 0, 0, LIMITS.max_nesting)

texts = st.text(st.sampled_from(list('a\\"[]{},: \n\u00e4\u2028')), max_size=6)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=30,
    )


finite = nested(st.one_of(st.none(), st.integers(), texts))
values = nested(st.one_of(st.none(), st.integers(), st.sampled_from([math.nan, math.inf, -math.inf]), texts))


@settings(max_examples=150, deadline=None)
@given(st.lists(values, max_size=8), st.booleans(), st.booleans())
def test_every_element_is_found_and_none_besides(elements: list[Any], ascii_only: bool, spaced: bool) -> None:
    body = json.dumps(elements, ensure_ascii=ascii_only, indent=1 if spaced else None).encode()
    found = leniently_split(body, "events", 100, 1000)
    assert found is not None
    assert [repr(json.loads(text)) for text in found] == [repr(element) for element in elements]
    enveloped = b'{"events": %b}' % body
    assert leniently_split(enveloped, "events", 100, 1000) == found


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=2, max_size=8), st.booleans())
def test_the_bound_is_exact(elements: list[Any], spaced: bool) -> None:
    body = json.dumps(elements, indent=1 if spaced else None).encode()
    check_elements(body, len(elements))
    with pytest.raises(Invalid, match="more than the"):
        check_elements(body, len(elements) - 1)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(list('[]{},"\\a ')), max_size=40))
def test_what_is_malformed_ends_too(text: str) -> None:
    body = text.encode()
    try:
        check_elements(body, 3)
    except (Invalid, *NOT_TAKEN):
        return
    assert isinstance(json.loads(body), list)


def test_escapes_that_stand_for_no_character_cost_their_element_alone() -> None:
    for strange in (b'"\\ud800"', b'"\\uDfff"', b'"NaN\\\\ud"', b'"-Infinity"'):
        texts = [b'{"name":"a"}', b'{"name":%b}' % strange, b"-Infinity", b"[NaN,Infinity]"]
        for blank in (b"", b" \n"):
            body = b"[" + (blank + b"," + blank).join(texts) + blank + b"]"
            assert leniently_split(body, "events", 4, 1000) == texts
            assert leniently_split(b'{"events":' + body + blank + b"}", "events", 4, 1000) == texts
    for wrong in (
        b"[1NaN]",
        b"[-NaN]",
        b"[nan]",
        b'{"events":[NaN],"a":[1]}',
        b"[NaN]]",
        b"[NaN",
        b'{"events":[NaN]',
    ):
        assert leniently_split(wrong, "events", 4, 1000) is None


# Bodies of the largest size, as awkward as can be, and how many of their events may be accepted.
FULL = 256 * 1024 - 200


def of_full_events(start: bytes, piece: bytes, end: bytes) -> bytes:
    """Each as large as an event may be."""
    data = start + piece * ((FULL - len(start) - len(end)) // len(piece)) + end
    one = b'{"name":"a","data":' + data + b"}"
    return b"[" + b",".join([one] * (SIZE // (len(one) + 1))) + b"]"


AWKWARD = {
    "one of brackets": (b"[[" + b"{}," * (SIZE // 3 - 10) + b"{}]]", 0),
    "thirty of brackets": (b"[" + b",".join([b"[" + b"[]," * (SIZE // 90 - 9) + b"1]"] * 30) + b"]", 0),
    "brackets that end nowhere": (b"[1" + b"," * 200_001 + b"[" * (SIZE // 2), 0),
    "brackets beside a NaN": (b'[{"name":NaN},[' + b"[]," * (SIZE // 3 - 10) + b"[]]]", 0),
    "NaN everywhere": (b"[" + b",".join([b'{"name":NaN,"data":[' + b"[]," * 300 + b"1]}"] * 9900) + b"]", 0),
    "brackets": (of_full_events(b"[", b"[],", b"1]"), 40),
    "levels": (of_full_events(b"[", b"[" * 62 + b"]" * 62 + b",", b"1]"), 40),
    "too many levels at the end": (of_full_events(b"[", b"[],", b"[" * 70 + b"]" * 70 + b"]"), 0),
    "ones behind a pair": (of_full_events(b'["\\ud83d\\ude00",', b"1,", b"1]"), 40),
    "pairs": (of_full_events(b"[", b'"\\ud83d\\ude00",', b"1]"), 40),
    "half a pair at the end": (of_full_events(b"[", b'"\\ud83d\\ude00",', b'"\\ud83d"]'), 0),
    "exponents": (of_full_events(b"[", b"1e100,", b"1]"), 40),
    "ones before U+0000": (of_full_events(b"[", b"1,", b'"\\u0000"]'), 0),
    "the same field again": (b'{"events":[' + b'{"name":"a"},' * 700_000 + b'1],"events":[]}', 0),
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_an_awkward_body_takes_no_longer_than_an_honest_one_may(kind: str) -> None:
    body, accepted = AWKWARD[kind]
    began = time.process_time()
    try:
        admitted = admit_events(EVENTS.read(body, JSON, LIMITS), TERMS, bytes(12), 4)
    except Invalid:
        assert not accepted
    else:
        assert admitted.count == accepted
    # On a quiet machine each takes less than half of it.
    assert time.process_time() - began < SECONDS


HEAVY = {
    "ones": b"[" + b"1," * (SIZE // 2 - 2) + b"1]",
    "objects": b"[" + b"{}," * (SIZE // 3 - 2) + b"{}]",
    "an envelope": b'{"events":[' + b"{}," * (SIZE // 3 - 10) + b"{}]}",
    "an escaped name": b'{"\\u0065vents":[' + b"{}," * (SIZE // 3 - 12) + b"{}]}",
    "a doubled name": b'{"events":[],"events":[' + b"{}," * (SIZE // 3 - 12) + b"{}]}",
}


@pytest.mark.parametrize("kind", HEAVY)
def test_millions_are_refused_at_once(kind: str) -> None:
    body = HEAVY[kind]
    began = time.process_time()
    with pytest.raises(Invalid, match="more than the 10000 entries"):
        EVENTS.read(body, JSON, LIMITS)
    reports = body.replace(b"events", b"reports").replace(b"\\u0065vents", b"\\u0072eports")
    with pytest.raises(Invalid, match="more than the 10000 entries"):
        NODE_REPORTS.read(reports, JSON, LIMITS)
    if body.startswith(b"["):
        with pytest.raises(Invalid, match="more than the 10000 entries"):
            CloudEvents().read(body, CLOUD_EVENTS, LIMITS)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "body", [b"[" + b"NaN," * (SIZE // 4 - 2), b'{"a":1' + b',"b":0' * (SIZE // 6 - 2) + b"}"]
)
def test_millions_of_what_is_nothing_are_not_decoded(body: bytes) -> None:
    tracemalloc.start()
    try:
        assert EVENTS.read(body, JSON, LIMITS).rejections[0].too_large
    except Invalid:
        assert body.startswith(b"[")
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 6 * SIZE


DEEP = {
    "one that is too large": b'[{"name":"a"},[' + b"{},10," * (SIZE // 14) + b"{}]]",
    "one beside a NaN": b'[{"name":"a"},{"name":NaN},[' + b"10,{}," * (SIZE // 14) + b"{}]]",
}


@pytest.mark.parametrize("kind", DEEP)
def test_an_element_that_is_too_large_is_passed_over(kind: str) -> None:
    began = time.process_time()
    batch = EVENTS.read(DEEP[kind], JSON, LIMITS)
    assert [entry.name for entry in batch.entries] == ["a"]
    assert batch.rejections[-1].too_large
    assert time.process_time() - began < 8


@pytest.mark.parametrize("line", [b"\n", b"1\n", b" \r\n"])
def test_millions_of_lines(line: bytes) -> None:
    body = line * (SIZE // len(line) - 20)
    if line.strip():
        with pytest.raises(Invalid, match="more than the 10000 entries"):
            EVENTS.read(body, NDJSON, LIMITS)
        return
    batch = EVENTS.read(body + b'{"name":"a"}\n' + line, NDJSON, LIMITS)
    assert [entry.name for entry in batch.entries] == ["a"]
