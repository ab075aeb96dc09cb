"""What a condition says of a document, slowly and obviously, and conditions and documents to try it with.

The judge of ``query.filters.compile``: nothing here knows of SQL.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from query.filters.conditions import (
    Condition,
    Contains,
    ContainsAnyCase,
    EndsWith,
    Equals,
    Every,
    Lies,
    Not,
    OneOf,
    Order,
    Present,
    Scalar,
    Some,
    StartsWith,
    Tag,
)

MISSING = object()
_INDEX = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")


def document_of(text: str) -> Any:
    """A JSON text with its numbers as they are written."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def found(document: Any, tag: Tag) -> Any:
    """What is at the tag's place, or MISSING."""
    value = document
    for step in tag.steps:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(step) and -(2**31) < int(step) < 2**31:
            place = int(step)
            value = value[place] if -len(value) <= place < len(value) else MISSING
        else:
            value = MISSING
    return value


def same(value: Any, wanted: Scalar) -> bool:
    """The same JSON type and the same value."""
    return type(value) is type(wanted) and bool(value == wanted)


def folded(text: str) -> str:
    """Lower case, character by character; the one capital whose lower case is two keeps the first."""
    return "".join(character.lower()[0] for character in text)


def holds(condition: Condition, document: Any) -> bool:  # noqa: C901, PLR0911, PLR0912 - one table of cases
    """Whether the condition is true of the document."""
    match condition:
        case Not():
            return not holds(condition.part, document)
        case Every():
            return all(holds(part, document) for part in condition.parts)
        case Some():
            return any(holds(part, document) for part in condition.parts)
    value = found(document, condition.tag)
    match condition:
        case Present():
            return value is not MISSING
        case Equals():
            return same(value, condition.value)
        case OneOf():
            return any(same(value, wanted) for wanted in condition.values)
        case Contains():
            if isinstance(value, str):
                return isinstance(condition.value, str) and condition.value in value
            return isinstance(value, list) and any(same(element, condition.value) for element in value)
        case ContainsAnyCase():
            if isinstance(value, str):
                return folded(condition.value) in folded(value)
            return isinstance(value, list) and any(
                isinstance(element, str) and folded(element) == folded(condition.value) for element in value
            )
        case StartsWith():
            return isinstance(value, str) and value.startswith(condition.value)
        case EndsWith():
            return isinstance(value, str) and value.endswith(condition.value)
        case Lies():
            return type(value) is type(condition.value) and _lies(value, condition.order, condition.value)


def _lies(value: Any, order: Order, bound: Any) -> bool:
    return bool(
        {
            Order.LESS: value < bound,
            Order.LESS_OR_EQUAL: value <= bound,
            Order.GREATER: value > bound,
            Order.GREATER_OR_EQUAL: value >= bound,
        }[order]
    )


def sort_key(document: Any, tag: Tag, *, descending: bool) -> tuple[Any, ...]:
    """What documents are sorted by: types in one order both ways, their values in the direction."""
    value = found(document, tag)
    if isinstance(value, Decimal):
        return 0, -value if descending else value
    if isinstance(value, str):
        points = [ord(character) for character in value]
        return 1, _Reversed(points) if descending else points
    if isinstance(value, bool):
        return 2, value != descending
    return (3,)


class _Reversed:
    """Sorts the other way round."""

    def __init__(self, value: list[int]) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


# Few keys and few characters, so that conditions and documents meet; some of them mean something elsewhere.
_KEYS = st.sampled_from(["a", "b", "c", "0", "1", "-1", "a.b", "", "ä", '"', "$", "%"])
_CHARACTERS = st.sampled_from("aAbBzZ%_\\\"'.*?[]{}İıßẞΣσςÄä\U00010400\U00010428 \n0\u2028")
TEXTS = st.one_of(
    st.text(_CHARACTERS, max_size=4), st.text(st.characters(exclude_categories=["Cs", "Cn"], min_codepoint=1))
)
NUMBERS = st.one_of(
    st.integers(-3, 3).map(Decimal),
    st.decimals(-4, 4, places=2),
    st.integers(-(10**20), 10**20).map(Decimal),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: Decimal(repr(number))),
)
SCALARS: st.SearchStrategy[Any] = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(_KEYS, VALUES, max_size=4)
TAGS = st.lists(_KEYS, min_size=1, max_size=3).map(lambda steps: Tag(tuple(steps)))
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Present, TAGS),
    st.builds(Equals, TAGS, SCALARS),
    st.builds(OneOf, TAGS, st.lists(SCALARS, min_size=1, max_size=3).map(tuple)),
    st.builds(Contains, TAGS, SCALARS),
    st.builds(ContainsAnyCase, TAGS, TEXTS),
    st.builds(StartsWith, TAGS, TEXTS),
    st.builds(EndsWith, TAGS, TEXTS),
    st.builds(Lies, TAGS, st.sampled_from(Order), st.one_of(TEXTS, NUMBERS)),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Every, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Some, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def json_of(value: Any) -> str:
    """A value as JSON, a number with all of its digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(json_of, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_of(key)}:{json_of(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
