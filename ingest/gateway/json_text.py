r"""What JSON may hold that PostgreSQL's jsonb cannot, found in the text before it is acknowledged.

The characters U+0000 and lone surrogates (both only as ``\u`` escapes), numbers beyond the range of
a double or with hundreds of digits after the point (``1e-16383`` is eight bytes here and sixteen
thousand when it is read back), nesting beyond the limit. NaN and infinities are no JSON to begin with.

Looking at every event in Python would cost more than everything else the gateway does. So there are
two steps: ``may_hold_faults`` asks C functions about a whole body, and errs towards yes; ``fault``
is exact, for one value, and runs on the few that the first step cannot clear.
"""

from __future__ import annotations

import re

import orjson

# JSON of valid syntax, piece by piece: strings, numbers, and what opens and closes.
_PIECES = re.compile(
    rb'(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")'
    rb"|(?P<number>-?[0-9]+(?:\.(?P<fraction>[0-9]+))?(?:[eE](?P<exponent>[+-]?[0-9]+))?)"
    rb"|(?P<opens>[\[{])|(?P<closes>[\]}])",
    re.DOTALL,
)
# Digits after the point: a double's smallest numbers need 340.
_MAX_FRACTION_DIGITS = 400
_MAX_EXPONENT_DIGITS = 9

# For the first step: digits become 0, E becomes e, signs vanish; so "7E+308" reads "0e000".
_DIGITS_AND_EXPONENTS = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else ord("e") if byte in b"eE" else 0x20
    for byte in range(256)
)
_LONG_EXPONENT = b"0e000"
_LONG_DIGITS = b"0" * 300


def may_hold_faults(text: bytes) -> bool:
    """Whether ``text`` must be looked at more closely; nesting apart."""
    if b"\\u" in text and (b"\\u0000" in text or b"\\ud" in text or b"\\uD" in text):
        return True
    digits = text.translate(_DIGITS_AND_EXPONENTS, b"+-")
    return _LONG_EXPONENT in digits or _LONG_DIGITS in digits


def may_nest_deeper(text: bytes, levels: int) -> bool:
    """Whether a value of this text may nest beyond ``levels``: cheap, errs towards yes."""
    return len(text) > 2 * levels and text.count(b"{") + text.count(b"[") > levels


def fault(text: bytes, max_nesting: int) -> str | None:
    """What PostgreSQL could not hold of one JSON value, in words with the fix; None if nothing.

    ``text`` is JSON of valid syntax in UTF-8. Exact.
    """
    level = 0
    for piece in _PIECES.finditer(text):
        if (string := piece["string"]) is not None:
            found = _string_fault(string) if b"\\u" in string else None
        elif piece["opens"] is not None:
            level += 1
            found = f"nests beyond {max_nesting} levels; flatten it" if level > max_nesting else None
        elif piece["closes"] is not None:
            level -= 1
            continue
        else:
            found = _number_fault(piece["number"], piece["fraction"] or b"", piece["exponent"] or b"0")
        if found is not None:
            return found
    return None


def _string_fault(string: bytes) -> str | None:
    try:
        value = orjson.loads(string)
    except orjson.JSONDecodeError:
        return "holds a lone surrogate, which is no character; send pairs, or plain UTF-8"
    return "holds the character U+0000, which cannot be stored; remove it" if "\x00" in value else None


def _number_fault(number: bytes, fraction: bytes, exponent: bytes) -> str | None:
    if len(number) <= _MAX_EXPONENT_DIGITS and exponent == b"0":
        return None
    shown = number[:40].decode()
    if len(exponent.lstrip(b"+-0")) > _MAX_EXPONENT_DIGITS or float(number) in (float("inf"), float("-inf")):
        return f"holds the number {shown}, beyond the range of a double; send it as a string"
    if len(fraction) - int(exponent) > _MAX_FRACTION_DIGITS:
        return f"holds the number {shown}, with over {_MAX_FRACTION_DIGITS} digits after the point; round it"
    return None
