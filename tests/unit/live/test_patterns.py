"""Patterns of keys mean what a subscriber means by them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.live.patterns import wanted


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], True),
        ([""], True),
        (["status", ""], True),
        (["human:event"], True),
        (["human:*"], True),
        (["*:event"], True),
        (["**"], True),
        (["human:**"], True),
        (["**:event"], True),
        (["**:human:**:event:**"], True),
        (["status"], False),
        (["*"], False),
        (["human"], False),
        (["human:event:more"], False),
        (["human:*:*"], False),
        (["Human:Event"], False),
        (["status", "human:event"], True),
    ],
)
def test_what_is_wanted(patterns: list[str], expected: bool) -> None:
    assert wanted(patterns, "human:event") is expected


words = st.sampled_from(["a", "b", "*", "**"])


@given(st.lists(words, min_size=1, max_size=6), st.lists(st.sampled_from("ab"), min_size=1, max_size=6))
def test_as_a_regular_expression_has_it(pattern: list[str], key: list[str]) -> None:
    """Words end with a colon each, so that any number of them, none too, is one repetition."""
    parts = {"*": "[^:]+:", "**": "(?:[^:]+:)*"}
    expression = "".join(parts.get(word, f"{word}:") for word in pattern)
    expected = re.fullmatch(expression, "".join(f"{word}:" for word in key)) is not None
    assert wanted([":".join(pattern)], ":".join(key)) is expected


def test_a_long_pattern_takes_no_time() -> None:
    assert not wanted([":".join(["**"] * 60 + ["x"])], ":".join(["a"] * 60))
