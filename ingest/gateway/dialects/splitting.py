"""The elements of an array that is no JSON by the letter: a NaN or half a surrogate pair in one of them.

Python's clients write NaN without being asked. One bad element must not cost the others, so the array
is taken apart by a reader that overlooks such faults; each element is then read strictly, and refused
by itself. Slow, and used only for bodies that the strict reader did not take.
"""

from __future__ import annotations

import json
import re

from schema.errors import Invalid

_BLANKS = re.compile(r"[ \t\r\n]*")
_LENIENT = json.JSONDecoder()


def leniently_split(body: bytes, envelope: str, most: int) -> list[bytes] | None:
    """The texts of the elements of an array, bare or under the one field ``envelope``.

    ``body`` is UTF-8. None if it is no such array even so. Raises Invalid when it has more than ``most``.
    """
    text = body.decode()
    opening = re.match(rf'[ \t\r\n]*(\{{[ \t\r\n]*"{envelope}"[ \t\r\n]*:[ \t\r\n]*)?\[', text)
    if opening is None:
        return None
    try:
        texts, end = _elements(text, opening.end(), most)
    except (ValueError, RecursionError):
        return None
    rest = "}" if opening[1] else ""
    return texts if re.sub(_BLANKS, "", text[end:]) == rest else None


def _elements(text: str, position: int, most: int) -> tuple[list[bytes], int]:
    """The elements from ``position`` on, and the place after the closing bracket.

    Raises ValueError; Invalid as soon as there are too many, since a body may hold millions.
    """
    texts: list[bytes] = []
    position = _after_blanks(text, position)
    if text[position : position + 1] == "]":
        return texts, position + 1
    while True:
        start = _after_blanks(text, position)
        _, end = _LENIENT.raw_decode(text, start)
        if len(texts) >= most:
            raise Invalid(f"body: more than the {most} entries of one request; send several requests")
        texts.append(text[start:end].encode())
        position = _after_blanks(text, end)
        match text[position : position + 1]:
            case ",":
                position += 1
            case "]":
                return texts, position + 1
            case _:
                raise ValueError("neither another element nor the end")


def _after_blanks(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position
