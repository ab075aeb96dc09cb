"""Conditions as SQL over the column ``data``: every value a parameter, no condition ever null. Pure.

Texts are compared by code points whatever the database's collation, and case is folded by Unicode's simple
mapping. Nothing becomes a pattern, so no character of a value has a meaning, and no test takes longer than
a search through the text.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import assert_never

from query.filters.conditions import (
    Condition,
    Contains,
    ContainsAnyCase,
    EndsWith,
    Equals,
    Every,
    Leaf,
    Lies,
    Not,
    OneOf,
    Present,
    Scalar,
    Some,
    StartsWith,
    Tag,
)
from query.sql import Arguments

_FOLDED = 'lower(({}) COLLATE "pg_c_utf8")'


def predicate(condition: Condition, arguments: Arguments) -> str:
    """An expression that is true or false of a row of events."""
    match condition:
        case Not(part):
            return f"NOT {predicate(part, arguments)}"
        case Every(parts):
            return f"({' AND '.join(predicate(part, arguments) for part in parts) or 'true'})"
        case Some(parts):
            return f"({' OR '.join(predicate(part, arguments) for part in parts) or 'false'})"
        case _:
            return f"({_test(condition, arguments)})"


def sort_keys(tag: Tag, arguments: Arguments) -> list[str]:
    """What to order by for a tag: its type first (numbers, texts, booleans, anything else), then its value.

    In each key but the first, events of other types are null.
    """
    value, text = _value(tag, arguments), _text(tag, arguments)
    kind = f"jsonb_typeof({value})"
    return [
        f"CASE {kind} WHEN 'number' THEN 0 WHEN 'string' THEN 1 WHEN 'boolean' THEN 2 ELSE 3 END",
        f"CASE WHEN {kind} = 'number' THEN ({text})::numeric END",
        f"CASE WHEN {kind} IN ('string', 'boolean') THEN {text} END COLLATE \"C\"",
    ]


def _test(leaf: Leaf, arguments: Arguments) -> str:
    value, text = _value(leaf.tag, arguments), _text(leaf.tag, arguments)
    match leaf:
        case Present():
            test = f"{value} IS NOT NULL"
        case Equals():
            test = f"coalesce({value} = {arguments(json_text(leaf.value), 'jsonb')}, false)"
        case OneOf():
            texts = tuple(json_text(one) for one in leaf.values)
            test = f"coalesce({value} = ANY ({arguments(texts, 'jsonb[]')}), false)"
        case Contains():
            tests = {"array": f"{value} @> {arguments(json_text(leaf.value), 'jsonb')}"}
            if isinstance(leaf.value, str):
                tests["string"] = f"strpos({text}, {arguments(leaf.value, 'text')}) > 0"
            test = _by_kind(value, **tests)
        case ContainsAnyCase():
            test = _contains_any_case(value, text, arguments(leaf.value, "text"))
        case StartsWith():
            test = _by_kind(value, string=f"starts_with({text}, {arguments(leaf.value, 'text')})")
        case EndsWith():
            tail = f"right({text}, {arguments(len(leaf.value), 'integer')})"
            test = _by_kind(value, string=f"{tail} = {arguments(leaf.value, 'text')}")
        case Lies():
            test = _lies(leaf, value, text, arguments)
        case _:
            assert_never(leaf)
    return test


def _lies(leaf: Lies, value: str, text: str, arguments: Arguments) -> str:
    if isinstance(leaf.value, str):
        wanted = arguments(leaf.value, "text")
        return _by_kind(value, string=f'({text}) COLLATE "C" {leaf.order.value} {wanted}')
    return _by_kind(value, number=f"{value} {leaf.order.value} {arguments(json_text(leaf.value), 'jsonb')}")


def _contains_any_case(value: str, text: str, wanted: str) -> str:
    folded = _FOLDED.format(wanted)
    element = _FOLDED.format("element #>> '{}'")
    return _by_kind(
        value,
        string=f"strpos({_FOLDED.format(text)}, {folded}) > 0",
        array=(
            f"EXISTS (SELECT FROM jsonb_array_elements({value}) AS element"
            f" WHERE jsonb_typeof(element) = 'string' AND {element} = {folded})"
        ),
    )


def _by_kind(value: str, **tests: str) -> str:
    """The test for the value's JSON type; false for other types, and where there is no value."""
    cases = " ".join(f"WHEN '{kind}' THEN {test}" for kind, test in tests.items())
    return f"CASE jsonb_typeof({value}) {cases} ELSE false END"


def _value(tag: Tag, arguments: Arguments) -> str:
    return f"data #> {arguments(tag.steps, 'text[]')}"


def _text(tag: Tag, arguments: Arguments) -> str:
    return f"data #>> {arguments(tag.steps, 'text[]')}"


def json_text(value: Scalar) -> str:
    """A scalar as JSON; a number with all of its digits."""
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
