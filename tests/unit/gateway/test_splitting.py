"""Where an array's elements are, held to the JSON reader of the standard library."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway.dialects import splitting
from ingest.gateway.dialects.cloud_events import CLOUD_EVENTS, CloudEvents
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.dialects.reading import JSON, NDJSON
from ingest.gateway.dialects.splitting import check_elements, leniently_split, separators
from schema.errors import Invalid
from schema.settings import EventLimits
from tests.support.bounds import AT_AND_ABOVE

SIZE = 10 * 1024 * 1024
LIMITS = EventLimits()

texts = st.text(st.sampled_from(list('a\\"[]{},: \n\u00e4\u2028')), max_size=6)
values = st.recursive(
    st.one_of(st.none(), st.integers(), st.just(float("nan")), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, max_size=8), st.booleans(), st.booleans())
def test_every_element_is_found_and_none_besides(elements: list[Any], ascii_only: bool, spaced: bool) -> None:
    body = json.dumps(elements, ensure_ascii=ascii_only, indent=1 if spaced else None).encode()
    found = leniently_split(body, "events", 100, 1000)
    assert found is not None
    assert [repr(json.loads(text)) for text in found] == [repr(element) for element in elements]
    if elements:
        assert len(separators(body, 1, len(elements))) == len(elements)
    enveloped = b'{"events": %b}' % body
    assert leniently_split(enveloped, "events", 100, 1000) == found


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=2, max_size=8), texts)
def test_the_bound_is_exact_under_any_name(elements: list[Any], name: str) -> None:
    body = json.dumps(elements).encode()
    named = json.dumps({name: elements}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_FEW", 0)
        for text in (body, named):
            check_elements(text, len(elements))
            with pytest.raises(Invalid, match="more than the"):
                check_elements(text, len(elements) - 1)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(list('[]{},"\\a ')), max_size=40))
def test_what_is_malformed_ends_too(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_FEW", 0)
        with contextlib.suppress(Invalid):
            check_elements(text.encode(), 3)


@AT_AND_ABOVE
def test_the_brackets_of_an_element_are_counted(monkeypatch: pytest.MonkeyPatch, beyond: int) -> None:
    monkeypatch.setattr(splitting, "_FEW", 0)
    monkeypatch.setattr(splitting, "_MOST_BRACKETS", 10)
    with pytest.raises(Invalid) if beyond else contextlib.nullcontext():
        check_elements(b"[" + b"[" * (5 + beyond) + b"]" * 5 + b",1]", 3)


def test_a_body_of_brackets_is_refused() -> None:
    for body in (b"[[" + b"{}," * (SIZE // 3 - 10) + b"{}]]", b"[1" + b"," * 200_001 + b"[" * (SIZE // 2)):
        began = time.process_time()
        with pytest.raises(Invalid):
            EVENTS.read(body, JSON, LIMITS)
        assert time.process_time() - began < 8


HEAVY = {
    "ones": b"[" + b"1," * (SIZE // 2 - 2) + b"1]",
    "objects": b"[" + b"{}," * (SIZE // 3 - 2) + b"{}]",
    "an envelope": b'{"events":[' + b"{}," * (SIZE // 3 - 10) + b"{}]}",
    "an escaped name": b'{"\\u0065vents":[' + b"{}," * (SIZE // 3 - 12) + b"{}]}",
    "a doubled name": b'{"events":[],"events":[' + b"{}," * (SIZE // 3 - 12) + b"{}]}",
    "members": b"{" + b",".join(b'"%d":0' % n for n in range(700_000)) + b"}",
    "no end": b"[" + b"NaN," * (SIZE // 4 - 2),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_millions_are_refused_at_once(kind: str) -> None:
    body = HEAVY[kind]
    began = time.process_time()
    for reader in (EVENTS, NODE_REPORTS):
        with pytest.raises(Invalid, match="more than the 10000 entries"):
            reader.read(body, JSON, LIMITS)
    if body.startswith(b"["):
        with pytest.raises(Invalid, match="more than the 10000 entries"):
            CloudEvents().read(body, CLOUD_EVENTS, LIMITS)
    assert time.process_time() - began < 2


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
