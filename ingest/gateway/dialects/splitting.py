"""Where the elements of an array are, found without decoding any of them.

Two uses. A body of a few megabytes may have millions of elements, and each costs a decoder some hundred
bytes: ``check_elements`` and ``checked_lines`` refuse it before one is made. And Python's clients write NaN
without being asked: one element that is no JSON by the letter must not cost the others, so
``leniently_split`` takes the array apart, and each element is then read strictly, and refused by itself.
"""

from __future__ import annotations

import json
import re
from itertools import islice

from schema.errors import Invalid

# At most so many commas or lines: decoded at once. It costs some tens of megabytes at worst.
_FEW = 200_000
# Brackets inside one element: beyond it, hardly anything else has room in a body.
_MOST_BRACKETS = 2_000_000
_BLANKS = b" \t\r\n"
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Up to what stands between elements, or begins or ends one.
_ELEMENT = re.compile(rb'(?:[^",\[\]{}]++|' + _TEXT + rb")*+", re.DOTALL)
# Up to the next bracket.
_DEEP = re.compile(rb'(?:[^"\[\]{}]++|' + _TEXT + rb")*+", re.DOTALL)
_LINE = re.compile(rb"\S[^\n]*")
# Texts are what counts here: Python's own bound on the digits of a number must not end the search.
_LENIENT = json.JSONDecoder(parse_int=float)


def check_elements(body: bytes, most: int, few: int | None = None) -> None:
    """Refuse a body with more than ``most`` elements in its array; with ``few`` commas it is not looked at.

    Its array is the body, or the arrays right below an object, whatever their names. A malformed body is
    left to the decoders, which end where this ended. Raises Invalid.
    """
    few = _FEW if few is None else few
    if len(body) <= 2 * few or body.count(b",") <= few:
        return
    position = len(body) - len(body.lstrip(_BLANKS))
    try:
        if body.startswith(b"[", position):
            separators(body, position + 1, most)
        elif body.startswith(b"{", position):
            _check_members(body, position + 1, most)
    except ValueError:
        return


def checked_lines(body: bytes, most: int) -> bytes:
    """The body, without its blank lines where it has many. Raises Invalid beyond ``most`` lines."""
    if len(body) <= _FEW or body.count(b"\n") <= _FEW:
        return body
    lines = [line[0] for line in islice(_LINE.finditer(body), most + 1)]
    if len(lines) > most:
        raise _too_many(most)
    return b"\n".join(lines)


def separators(body: bytes, position: int, most: int) -> list[int]:
    """The places of the commas between an array's elements, and of the bracket at its end.

    ``position``: behind the bracket at its beginning. Raises ValueError where it does not end; Invalid as
    soon as there are too many, since a body may hold millions.
    """
    found: list[int] = []
    while True:
        position = _next(_ELEMENT, body, position)
        match body[position : position + 1]:
            case b",":
                found.append(position)
                if len(found) >= most:
                    raise _too_many(most)
            case b"]":
                found.append(position)
                return found
            case b"[" | b"{":
                position = _closing(body, position + 1)
            case _:
                raise ValueError("the array does not end")
        position += 1


def leniently_split(body: bytes, envelope: str, most: int, max_bytes: int) -> list[bytes] | None:
    """The texts of the elements of an array, bare or under the one field ``envelope``.

    ``body`` is UTF-8. None if it is no such array even so; elements beyond ``max_bytes`` are not looked at.
    Raises Invalid when it has more than ``most``.
    """
    opening = re.match(
        rb'[ \t\r\n]*(\{[ \t\r\n]*"' + envelope.encode() + rb'"[ \t\r\n]*:[ \t\r\n]*)?\[', body
    )
    if opening is None:
        return None
    try:
        places = separators(body, opening.end(), most)
    except ValueError:
        return None
    if body[places[-1] + 1 :].translate(None, _BLANKS) != (b"}" if opening[1] else b""):
        return None
    starts = [opening.end(), *(place + 1 for place in places)]
    texts = [body[start:end].strip(_BLANKS) for start, end in zip(starts, places, strict=False)]
    if texts == [b""]:
        return []
    return texts if all(len(text) > max_bytes or _is_lenient_json(text) for text in texts) else None


def _check_members(body: bytes, position: int, most: int) -> None:
    """The same for all arrays right below an object, and for its members. Raises ValueError, Invalid."""
    members = elements = 0
    while True:
        position = _next(_ELEMENT, body, position)
        match body[position : position + 1]:
            case b",":
                members += 1
            case b"[":
                places = separators(body, position + 1, most)
                position = places[-1]
                elements += len(places)
                members += 1
            case b"{":
                position = _closing(body, position + 1)
                members += 1
            case _:
                return
        # Each member has a comma and at most one bracket.
        if elements > most or members > 2 * most:
            raise _too_many(most)
        position += 1


def _closing(body: bytes, position: int) -> int:
    """Where what was opened before ``position`` is closed again. Raises ValueError, Invalid."""
    depth = 1
    for _ in range(_MOST_BRACKETS):
        position = _next(_DEEP, body, position)
        match body[position : position + 1]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case _:
                raise ValueError("a bracket is not closed")
        if depth == 0:
            return position
        position += 1
    raise Invalid(f"body: an entry has more than {_MOST_BRACKETS} brackets; flatten it")


def _next(pattern: re.Pattern[bytes], body: bytes, position: int) -> int:
    found = pattern.match(body, position)
    return found.end() if found else position


def _is_lenient_json(text: bytes) -> bool:
    try:
        _LENIENT.decode(text.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _too_many(most: int) -> Invalid:
    return Invalid(f"body: more than the {most} entries of one request; send several requests")
