"""Conditions as SQL over the column ``data``: every value a parameter, no condition ever null. Pure.

Texts are compared by code points whatever the database's collation, and case is folded by Unicode's simple
mapping. Nothing becomes a pattern, so no character of a value has a meaning, and no test takes longer than
a search through the text.
"""

from __future__ import annotations

import json
from decimal import Decimal

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


def sort_keys(tag: Tag, direction: str, arguments: Arguments) -> list[str]:
    """What to order by for a tag: numbers, then texts, then false and true, then events without any of these.

    The types stand in this order both ways; ``direction`` (asc, desc) is that of the values in them.
    """
    value, text = _value(tag, arguments), _text(tag, arguments)
    kind = f"jsonb_typeof({value})"
    return [
        f"CASE {kind} WHEN 'number' THEN 0 WHEN 'string' THEN 1 WHEN 'boolean' THEN 2 ELSE 3 END",
        f"CASE WHEN {kind} = 'number' THEN ({text})::numeric END {direction}",
        f"CASE WHEN {kind} IN ('string', 'boolean') THEN {text} END COLLATE \"C\" {direction}",
    ]


def _test(leaf: Leaf, arguments: Arguments) -> str:
    value, text = _value(leaf.tag, arguments), _text(leaf.tag, arguments)
    match leaf:
        case Present():
            test = f"{value} IS NOT NULL"
        case Equals(_, wanted):
            test = f"coalesce({value} = {arguments(json_text(wanted), 'jsonb')}, false)"
        case OneOf(_, several):
            texts = tuple(json_text(wanted) for wanted in several)
            test = f"coalesce({value} = ANY ({arguments(texts, 'jsonb[]')}), false)"
        case Contains(_, wanted):
            tests = {"array": f"{value} @> {arguments(json_text(wanted), 'jsonb')}"}
            if isinstance(wanted, str):
                tests["string"] = f"strpos({text}, {arguments(wanted, 'text')}) > 0"
            test = _by_kind(value, **tests)
        case ContainsAnyCase(_, wanted):
            test = _contains_any_case(value, text, arguments(wanted, "text"))
        case StartsWith(_, wanted):
            test = _by_kind(value, string=f"starts_with({text}, {arguments(wanted, 'text')})")
        case EndsWith(_, wanted):
            tail = f"right({text}, {arguments(len(wanted), 'integer')})"
            test = _by_kind(value, string=f"{tail} = {arguments(wanted, 'text')}")
        case Lies(_, order, wanted) if isinstance(wanted, str):
            compared = f'({text}) COLLATE "C" {order.value} {arguments(wanted, "text")}'
            test = _by_kind(value, string=compared)
        case Lies(_, order, wanted):
            compared = f"{value} {order.value} {arguments(json_text(wanted), 'jsonb')}"
            test = _by_kind(value, number=compared)
    return test


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
