"""How many elements an array has, and where they are, found without making anything of them.

Two uses. A body of a few megabytes may have millions of elements, and each costs a decoder some hundred
bytes: ``check_elements`` and ``checked_lines`` refuse it before one is made. And Python's clients write NaN
without being asked: one element that is no JSON by the letter must not cost the others, so
``leniently_split`` takes the array apart, and each element is then read strictly, and refused by itself.

Both leave the walk over the text to the decoder, which passes over what it is not asked for: in Python, a
body full of brackets would take seconds.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from ingest.gateway.json_text import LONE_SURROGATE
from schema.errors import Invalid

# At most so many commas or lines: decoded at once. It costs some tens of megabytes at worst.
_FEW = 200_000
_BLANKS = b" \t\r\n"
_LINE = re.compile(rb"\S[^\n]*")
# Before an element.
_SEPARATOR = re.compile(rb"[ \t\r\n,]*+")
_NOTHING = Raw(b"")
_TEXTS = msgspec.json.Decoder(list[Raw])
# Texts are what counts here: Python's own bound on the digits of a number must not end the search. NaN and
# infinities alone keep their value, to be told from a number that is beyond a double.
_LENIENT = json.JSONDecoder(parse_int=len, parse_float=len)


def has_few(body: bytes) -> bool:
    """Whether a body has so few elements that it may be decoded without counting them first."""
    # An element and its comma are two bytes; counting the commas would cost as much as decoding.
    return len(body) <= 2 * _FEW or body.count(b",") <= _FEW


def check_elements(array: bytes | Raw, most: int) -> None:
    """Refuse an array with more than ``most`` elements.

    Raises Invalid then; where it is no array by the letter what msgspec raises (``reading.NOT_TAKEN``), and
    then it must not be decoded: nobody knows how many it has up to where its decoder would end.
    """
    if getattr(_counting(most).decode(array), f"element_{most}") is not _NOTHING:
        raise _too_many(most)


@lru_cache(maxsize=4)
def _counting(most: int) -> msgspec.json.Decoder[Any]:
    """Takes one element more than ``most``, and passes over all that follow."""
    places: list[Any] = [(f"element_{place}", Raw, _NOTHING) for place in range(most + 1)]
    return msgspec.json.Decoder(msgspec.defstruct("Counted", places, array_like=True, gc=False))


def checked_lines(body: bytes, most: int) -> bytes:
    """The body, without its blank lines where it has many. Raises Invalid beyond ``most`` lines."""
    if len(body) <= _FEW or body.count(b"\n") <= _FEW:
        return body
    lines = [line[0] for line in islice(_LINE.finditer(body), most + 1)]
    if len(lines) > most:
        raise _too_many(most)
    return b"\n".join(lines)


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
    end = len(body.rstrip(_BLANKS))
    if opening[1]:
        end -= 1
        if body[end : end + 1] != b"}":
            return None
    start = opening.end() - 1
    # Byte by byte as long as before, so that what is found in one is found in the other.
    plain = _plain(body[start:end])
    try:
        check_elements(plain, most)
        found = [len(text) for text in _TEXTS.decode(plain)]
    except (msgspec.DecodeError, RecursionError):
        return None
    texts = []
    position = 1
    for size in found:
        separator = _SEPARATOR.match(plain, position)
        assert separator is not None
        position = separator.end() + size
        text = body[start + position - size : start + position]
        if size <= max_bytes and text != plain[position - size : position] and not _is_lenient_json(text):
            return None
        texts.append(text)
    return texts


def lenient_fields(text: bytes) -> dict[str, Any] | None:
    """The fields of an object that Python's reader takes, numbers apart; None if it is no such object.

    For the texts of single events: a body full of brackets would take seconds.
    """
    try:
        fields = _LENIENT.decode(text.decode())
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def strange_field(text: bytes) -> str | None:
    """Which field of an object holds what no JSON may hold, and the fix; None if that is not its fault."""
    for name, value in (lenient_fields(text) or {}).items():
        shown = repr(name[:60])[1:-1] if name.isprintable() else "the name of a field"
        try:
            json.dumps([name, value], ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return f"{shown}: {LONE_SURROGATE}"
        except RecursionError:
            return None
        except ValueError:
            return f"{shown}: holds NaN or an infinity, which are no JSON; send null, or a text"
    return None


def _plain(text: bytes) -> bytes:
    """With other values in place of those that Python's reader takes and others do not."""
    for strange, plain in (
        (b"NaN", b"0.0"),
        (b"Infinity", b"0.000000"),
        (b"\\ud", b"\\u0"),
        (b"\\uD", b"\\u0"),
    ):
        text = text.replace(strange, plain)
    return text


def _is_lenient_json(text: bytes) -> bool:
    try:
        _LENIENT.decode(text.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _too_many(most: int) -> Invalid:
    return Invalid(f"body: more than the {most} entries of one request; send several requests")
