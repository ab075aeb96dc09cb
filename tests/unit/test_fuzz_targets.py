"""What `make fuzz` feeds for half an hour, a few seconds of it: seeds, what was found before, and chance."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import CORPUS
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

FOUND = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
SECONDS = 5.0
PIECES = [
    b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"1e400", b"1e-16383", b"9" * 400, b"0." + b"0" * 500, b"NaN",
    b"-Infinity", b"[" * 20, b"]" * 20, b'{"a":' * 12, b"}" * 12, b"\x00", b"\xff", b"\xed\xa0\x80", b'"',
    b"\\", b",", b"\n", b"null", b"true", b"{}", b"[]", b'"x"', b"\x80\x00\x00\x00", b"\xff\xff\xff\xff",
    b":", b".", b"=",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, honest: list[bytes]) -> bytes:
    """An honest input with a few places cut, overwritten or stuffed."""
    found = bytearray(draw(st.sampled_from(honest)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(found)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        found[start : start + draw(st.sampled_from([0, 0, 1, 4, 30]))] = piece
    return bytes(found)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_errors_comes_out_in_bounded_time(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=250, deadline=None, database=None)
    @given(damaged(seeds(name)) | st.binary(max_size=200))
    def holds(data: bytes) -> None:
        before = time.thread_time()
        target(data)
        assert time.thread_time() - before < SECONDS

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_honest_inputs_hold(name: str) -> None:
    for honest in seeds(name):
        TARGETS[name](honest)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name[:20]}")
def test_what_was_found_once_holds(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


HUGE = {
    "nested arrays": b"[" * 1_000_000,
    "nested arrays, closed": b"[" * 500_000 + b"]" * 500_000,
    "nested objects": b'{"a":' * 300_000,
    "an event with nested arrays": b'{"name":"a","data":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "a huge key": b'{"name":"a","data":{"' + b"k" * 2_000_000 + b'":1}}',
    "a huge field name": b'{"' + b"n" * 2_000_000 + b'":1}',
    "a huge exponent": b'{"name":"a","data":{"x":1e' + b"9" * 100_000 + b"}}",
    "a huge integer": b'{"name":"a","data":{"x":' + b"9" * 1_000_000 + b"}}",
    "a huge integer as moment": b'{"name":"a","observed_at":' + b"9" * 1_000_000 + b"}",
    "a huge integer in an array with a NaN": b'[{"name":"a","data":NaN},{"name":"b","data":%b}]'
    % (b"9" * 1_000_000),
    "many digits after the point": b'{"name":"a","data":{"x":0.' + b"1" * 1_000_000 + b"}}",
    "many small arrays": b"[" + b"[]," * 400_000 + b"[]]",
    "many escapes": b'{"name":"a","data":"' + b"\\u0000" * 300_000 + b'"}',
    "many lines": b"\n" * 1_000_000,
    "many broken lines": b"{\n" * 1_000_000,
    "many keys": b'{"name":"a","data":{' + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}}",
    "one key again and again": b'{"name":"a",' + b'"name":"a",' * 200_000 + b'"name":"a"}',
    "many brackets in a text": b'{"name":"a","data":"' + b"[" * 2_000_000 + b'"}',
    "half of an array with a NaN": b"[" + b"NaN," * 300_000,
}


@pytest.mark.parametrize("kind", HUGE)
def test_huge_bodies_are_judged_in_bounded_time(kind: str) -> None:
    """With the limits of a gateway, in each of the dialects."""
    for dialect in range(8):
        before = time.thread_time()
        TARGETS["bodies"](bytes([dialect]) + HUGE[kind])
        assert time.thread_time() - before < SECONDS, dialect
