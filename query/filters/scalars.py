"""JSON scalars in a rule or a filter: their terminals, and their values within bounds. Pure."""

from __future__ import annotations

import json
from decimal import Decimal

from lark import Token

from query.filters.conditions import MAX_VALUE, Scalar
from query.filters.pointing import Refused

# A text in double quotes as JSON has it; every alternative begins differently, so matching never goes back.
STRING = r'/"(?:[^"\\\x00-\x1f]|\\(?:["\\\/bfnrt]|u[0-9a-fA-F]{4}))*"/'
NUMBER = r"/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/"
_MAX_DIGITS = 60
# No event holds a number beyond a double's range.
_MAX_EXPONENT = 400
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def scalar_of(token: Token) -> Scalar:
    """The value of a token. Raises Refused."""
    if token[0] in "\"'":
        return bounded_text_of(token)
    return _CONSTANTS[token] if token in _CONSTANTS else number_of(token)


def number_of(token: Token) -> Decimal:
    """The value of a number, not rounded. Raises Refused."""
    _, _, exponent = token.lower().partition("e")
    if len(token) > _MAX_DIGITS or (exponent and not -_MAX_EXPONENT <= int(exponent) <= _MAX_EXPONENT):
        raise Refused(position_of(token), f"a number of at most {_MAX_DIGITS} digits that a double reaches")
    return Decimal(token)


def bounded_text_of(token: Token) -> str:
    """The text of a token in quotes, of bounded length. Raises Refused."""
    text = text_of(token)
    if len(text) > MAX_VALUE:
        raise Refused(position_of(token), f"a text of at most {MAX_VALUE} characters")
    return text


def text_of(token: Token) -> str:
    """The text of a token: in double quotes with JSON's escapes, in single ones as it is. Raises Refused."""
    if token[0] == '"':
        return storable(json.loads(token), token)
    return storable(token[1:-1] if token[0] == "'" else str(token), token)


def storable(text: str, token: Token) -> str:
    """The text, if an event's data can hold it. Raises Refused."""
    if "\x00" in text:
        raise Refused(position_of(token), "a text without U+0000, which no event holds")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(position_of(token), "a text without lone surrogates, which no event holds") from None
    return text


def position_of(token: Token) -> int:
    """Where a token begins in its text."""
    return token.start_pos or 0
