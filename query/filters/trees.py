"""The JSON filters: AND, OR and NOT around leaves ``[tag, operator, value]``. Pure.

The grammar is the filters' own rather than JSON's, so that whatever is not a filter is pointed at where it
stands. Conditions are made while the text is read (by a table, not by recursion), so no depth of nesting can
exhaust anything before its bound refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from lark import Lark, Token, Transformer, v_args

from query.filters.conditions import (
    MAX_DEPTH,
    MAX_LEAVES,
    MAX_TEXT,
    MAX_VALUES,
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
    depth,
    leaves,
)
from query.filters.pointing import Refused, Unparsable, parse
from query.filters.scalars import NUMBER, STRING, bounded_text_of, number_of, position_of, scalar_of, text_of
from query.filters.tags import tag_in
from schema.errors import Invalid

_GROUPS = ("AND", "OR", "NOT")
_TEXT_TESTS: dict[str, Callable[[Tag, str], Condition]] = {
    "CASE_INSENSITIVE_CONTAINS": ContainsAnyCase,
    "STARTS_WITH": StartsWith,
    "ENDS_WITH": EndsWith,
}
_ORDERS = {
    "LESS_THAN": Order.LESS,
    "LESS_OR_EQUAL": Order.LESS_OR_EQUAL,
    "GREATER_THAN": Order.GREATER,
    "GREATER_OR_EQUAL": Order.GREATER_OR_EQUAL,
}
OPERATORS = ("EQUALS", "NOT_EQUALS", "CONTAINS", *_TEXT_TESTS, *_ORDERS, "IN", "EXISTS")
_KEYWORDS = "\n".join(f'{name}: "\\"{name}\\""' for name in (*_GROUPS, *OPERATORS))
_RULES = rf"""
?start: node
?node: group | leaf
group: "{{" (AND | OR) ":" "[" node ("," node)* "]" "}}" -> several
     | "{{" NOT ":" node "}}" -> negated
?leaf: "[" _test "]"
_test: equals | differs | contains | compares_texts | lies | is_one_of | exists
equals: tag "," EQUALS "," _scalar
differs: tag "," NOT_EQUALS "," _scalar
contains: tag "," CONTAINS "," _scalar
compares_texts: tag "," (CASE_INSENSITIVE_CONTAINS | STARTS_WITH | ENDS_WITH) "," STRING
lies: tag "," (LESS_THAN | LESS_OR_EQUAL | GREATER_THAN | GREATER_OR_EQUAL) "," (STRING | NUMBER)
is_one_of: tag "," IN "," "[" _scalar ("," _scalar)* "]"
exists: tag "," EXISTS ("," (TRUE | FALSE))?
tag: STRING
_scalar: STRING | NUMBER | TRUE | FALSE | NULL
{_KEYWORDS}
TRUE: "true"
FALSE: "false"
NULL: "null"
NUMBER: {NUMBER}
STRING: {STRING}
%ignore /[ \t\r\n]+/
"""
_WORDS = {
    "LBRACE": '"{"',
    "RBRACE": '"}"',
    "LSQB": '"["',
    "RSQB": '"]"',
    "COMMA": '","',
    "COLON": '":"',
    **{name: f'"{name}"' for name in (*_GROUPS, *OPERATORS)},
    "STRING": "a text in double quotes",
    "NUMBER": "a number",
    "TRUE": "true",
    "FALSE": "false",
    "NULL": "null",
    "$END": "the end",
}


@v_args(inline=True)
class _Conditions(Transformer[Token, Condition]):
    """Each rule of the grammar as a condition. Raises Refused."""

    def several(self, which: Token, *parts: Condition) -> Condition:
        return _bounded(Every(parts) if which == '"AND"' else Some(parts), which)

    def negated(self, which: Token, part: Condition) -> Condition:
        return _bounded(Not(part), which)

    def equals(self, tag: Tag, _operator: Token, value: Token) -> Condition:
        return Equals(tag, scalar_of(value))

    def differs(self, tag: Tag, _operator: Token, value: Token) -> Condition:
        return Not(Equals(tag, scalar_of(value)))

    def contains(self, tag: Tag, _operator: Token, value: Token) -> Condition:
        return Contains(tag, scalar_of(value))

    def compares_texts(self, tag: Tag, operator: Token, value: Token) -> Condition:
        return _TEXT_TESTS[operator[1:-1]](tag, bounded_text_of(value))

    def lies(self, tag: Tag, operator: Token, value: Token) -> Condition:
        bound = bounded_text_of(value) if value.type == "STRING" else number_of(value)
        return Lies(tag, _ORDERS[operator[1:-1]], bound)

    def is_one_of(self, tag: Tag, operator: Token, *values: Token) -> Condition:
        if len(values) > MAX_VALUES:
            raise Refused(position_of(operator), f"at most {MAX_VALUES} values")
        return OneOf(tag, tuple(scalar_of(value) for value in values))

    def exists(self, tag: Tag, _operator: Token, wanted: Token | None = None) -> Condition:
        return Not(Present(tag)) if wanted == "false" else Present(tag)

    def tag(self, written: Token) -> Tag:
        try:
            return tag_in(text_of(written))
        except Refused as refused:
            # Inside a text with escapes characters do not stand where they are read.
            raise refused.within(position_of(written) + 1, exact="\\" not in written) from None


def _bounded(condition: Condition, token: Token) -> Condition:
    if depth(condition) > MAX_DEPTH:
        raise Refused(position_of(token), f"at most {MAX_DEPTH} groups inside one another")
    if leaves(condition) > MAX_LEAVES:
        raise Refused(position_of(token), f"at most {MAX_LEAVES} leaves")
    return condition


_GRAMMAR = Lark(_RULES, parser="lalr", lexer="contextual", transformer=_Conditions())


def parse_filters(given: Any, parameter: str) -> Condition:
    """A condition from a JSON text, or from a value that was JSON already. Raises Invalid."""
    if isinstance(given, str):
        text = given
    elif isinstance(given, dict | list):
        text = orjson.dumps(given).decode()
    else:
        raise Invalid(f"{parameter}: must be a JSON object, as such or as a text")
    if len(text) > MAX_TEXT:
        raise Invalid(f"{parameter}: longer than {MAX_TEXT} characters")
    try:
        condition: Condition = parse(_GRAMMAR, text, _WORDS)
    except Refused as refused:
        raise Unparsable(parameter, text, refused.position, refused.expected) from None
    return condition
