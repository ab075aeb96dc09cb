"""What PostgreSQL could not hold is found; the cheap first step never clears what the exact one refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.gateway.json_text import fault, may_hold_faults, may_nest_deeper

NESTING = 5

numbers = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,6})?", fullmatch=True),
    st.integers(280, 420).map(lambda digits: "1" + "0" * digits),
    st.integers(280, 420).map(lambda digits: "0." + "0" * digits + "1"),
)
strings = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.sampled_from(
        [
            '"\\u0000"',
            '"\\\\u0000"',
            '"\\ud800"',
            '"\\ud83d\\ude00"',
            '"1e400"',
            '"\\""',
            '"[[[[[["',
            '"\\udfff"',
        ]
    ),
)
texts = st.recursive(
    st.one_of(numbers, strings, st.just("true"), st.just("null")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(st.tuples(strings, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


def expected_fault(text: str) -> bool:
    """The same judgement by another way: Python's reader, with its hooks, and a walk."""
    bad = False

    def number(digits: str) -> str:
        nonlocal bad
        mantissa, _, exponent = digits.lower().partition("e")
        fraction = mantissa.partition(".")[2]
        bad = bad or abs(float(digits)) == float("inf") or len(fraction) - int(exponent or 0) > 400
        return digits

    def walk(value: Any, level: int) -> bool:
        if isinstance(value, str):
            return "\x00" in value or any(0xD800 <= ord(character) <= 0xDFFF for character in value)
        if isinstance(value, dict):
            pairs = [part for pair in value["pairs"] for part in pair]
            return level >= NESTING or any(walk(part, level + 1) for part in pairs)
        if isinstance(value, list):
            return level >= NESTING or any(walk(part, level + 1) for part in value)
        return False

    value = json.loads(
        text, parse_int=number, parse_float=number, object_pairs_hook=lambda pairs: {"pairs": pairs}
    )
    return walk(value, 0) or bad


@settings(max_examples=800, deadline=None)
@given(texts)
def test_the_exact_step_judges_as_a_reader_of_values_does(text: str) -> None:
    found = fault(text.encode(), NESTING)
    assert (found is not None) == expected_fault(text), found


@settings(max_examples=800, deadline=None)
@given(texts)
def test_the_first_step_clears_nothing_that_the_exact_one_refuses(text: str) -> None:
    data = text.encode()
    if fault(data, NESTING) is not None:
        assert may_hold_faults(data) or may_nest_deeper(data, NESTING) or len(data) <= 2 * NESTING


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b'{"a":"\\u0000"}', "U+0000"),
        (b'{"\\u0000":1}', "U+0000"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":1e309}', "range of a double"),
        (b'{"a":1e99999999999}', "range of a double"),
        (b'{"a":1e-16383}', "digits after the point"),
        (b'{"a":%be99}' % (b"1" * 250), "range of a double"),
        (b'{"a":0.%be-99}' % (b"1" * 350), "digits after the point"),
        (b'["\\\\","\\\\\\u0000"]', "U+0000"),
        (b"[[[[[[]]]]]]", "nests"),
        (b"[[[[[%b[]]]]]]" % (b"[]," * 100), "nests"),
    ],
)
def test_what_is_refused_is_named(text: bytes, word: str) -> None:
    found = fault(text, NESTING)
    assert found is not None
    assert word in found
    assert may_hold_faults(text) or may_nest_deeper(text, NESTING)


@pytest.mark.parametrize(
    "text",
    [
        b"[[[[%b[]]]]]" % (b"[],{}," * 100),
        b'["[[[[[[[[[[{{{{{{{{{{","\\"[[[[[[[[[["]',
        b'["\\\\u0000","\\\\\\\\u0000","\\\\ud800"]',
        b"[" + b"1" * 199 + b"e99," + b"0." + b"1" * 199 + b"e-99,1e308,1e0000000001,-0.1e-300]",
        b'["1e999",{"1e999":"' + b"9" * 400 + b'"}]',
    ],
)
def test_what_only_looks_like_it_is_taken(text: bytes) -> None:
    assert isinstance(json.loads(text), list)
    assert fault(text, NESTING) is None
