"""Conditions written as rules and as JSON filters, token by token: a test knows where each token stands."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

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
    Some,
    StartsWith,
    Tag,
)

_OPERATORS: dict[type, str] = {
    Equals: "EQUALS",
    Contains: "CONTAINS",
    ContainsAnyCase: "CASE_INSENSITIVE_CONTAINS",
    StartsWith: "STARTS_WITH",
    EndsWith: "ENDS_WITH",
}
_ORDERS = {
    Order.LESS: "LESS_THAN",
    Order.LESS_OR_EQUAL: "LESS_OR_EQUAL",
    Order.GREATER: "GREATER_THAN",
    Order.GREATER_OR_EQUAL: "GREATER_OR_EQUAL",
}


def scalar_text(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def tag_text(tag: Tag) -> str:
    """Names that need no quotes have none."""
    return ".".join(step if re.fullmatch(r"[a-z0-9_]+", step) else json.dumps(step) for step in tag.steps)


def filter_tokens(condition: Condition) -> list[str]:
    """The tokens of the JSON filter that is this condition."""
    match condition:
        case Not():
            return ["{", '"NOT"', ":", *filter_tokens(condition.part), "}"]
        case Every() | Some():
            which = '"AND"' if isinstance(condition, Every) else '"OR"'
            inner = _listed([filter_tokens(part) for part in condition.parts])
            return ["{", which, ":", "[", *inner, "]", "}"]
    rest: list[str]
    match condition:
        case Present():
            rest = ['"EXISTS"']
        case OneOf():
            values = _listed([[scalar_text(value)] for value in condition.values])
            rest = ['"IN"', ",", "[", *values, "]"]
        case Lies():
            rest = [f'"{_ORDERS[condition.order]}"', ",", scalar_text(condition.value)]
        case _:
            rest = [f'"{_OPERATORS[type(condition)]}"', ",", scalar_text(condition.value)]
    return ["[", json.dumps(tag_text(condition.tag)), ",", *rest, "]"]


def rule_text(condition: Present | Equals) -> str:
    """The entry of rule or xrule that is this condition."""
    if isinstance(condition, Present):
        return tag_text(condition.tag)
    return f"{tag_text(condition.tag)} = {scalar_text(condition.value)}"


def _listed(parts: list[list[str]]) -> list[str]:
    return [token for place, part in enumerate(parts) for token in ([","] if place else []) + part]
