r"""What JSON may hold that PostgreSQL's jsonb cannot, found in the text before it is acknowledged.

The characters U+0000 and lone surrogates (both only as ``\u`` escapes), numbers beyond the range of
a double or with hundreds of digits after the point (``1e-16383`` is eight bytes here and sixteen
thousand when it is read back), nesting beyond the limit. NaN and infinities are no JSON to begin with.

Looking at every event in Python would cost more than everything else the gateway does. So there are
two steps: ``may_hold_faults`` asks C functions about a whole body, and errs towards yes; ``fault``
is exact, for one value, and runs on the few that the first step cannot clear. It looks at a text as a whole,
too: piece by piece, a body full of brackets would keep the gateway busy for seconds.
"""

from __future__ import annotations

import re
from itertools import accumulate, count
from operator import sub

import orjson

LONE_SURROGATE = "holds a lone surrogate, which is no character; send pairs, or plain UTF-8"
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Between strings: numbers that may be beyond a bound, for their exponent or for their many digits.
_HARD_NUMBER = re.compile(
    rb"(?<![0-9.eE+-])(?=-?[0-9.]{100}|-?[0-9.]++[eE][+-]?(?:[2-9][0-9]{2}|[0-9]{4}))"
    rb"(-?[0-9]++(?:\.([0-9]++))?(?:[eE]([+-]?[0-9]++))?)"
)
# What opens becomes 2, what closes 0: the sum so far, less one for each, is the level.
_LEVELS = bytes.maketrans(b"[]{}", b"\2\0\2\0")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SIBLINGS = b"\2\0" * 16
# Digits after the point: a double's smallest numbers need 340.
_MAX_FRACTION_DIGITS = 400
_MAX_EXPONENT_DIGITS = 9

# For the first step: digits become 0, E becomes e, signs vanish; so "7E+308" reads "0e000".
_DIGITS_AND_EXPONENTS = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else ord("e") if byte in b"eE" else 0x20
    for byte in range(256)
)
_LONG_EXPONENT = b"0e000"
# With an exponent of two digits such a number is still within a double's range.
_LONG_DIGITS = b"0" * 200


def may_hold_faults(text: bytes) -> bool:
    """Whether ``text`` must be looked at more closely; nesting apart."""
    if b"\\u" in text and (b"\\u0000" in text or b"\\ud" in text or b"\\uD" in text):
        return True
    return _may_hold_hard_numbers(text)


def _may_hold_hard_numbers(text: bytes) -> bool:
    digits = text.translate(_DIGITS_AND_EXPONENTS, b"+-")
    return _LONG_EXPONENT in digits or _LONG_DIGITS in digits


def may_nest_deeper(text: bytes, levels: int) -> bool:
    """Whether a value of this text may nest beyond ``levels``: cheap, errs towards yes."""
    return len(text) > 2 * levels and text.count(b"{") + text.count(b"[") > levels


def fault(text: bytes, max_nesting: int) -> str | None:
    """What PostgreSQL could not hold of one JSON value, in words with the fix; None if nothing.

    ``text`` is JSON of valid syntax in UTF-8. Exact.
    """
    bare = _STRING.sub(b"", text)
    if _nests_deeper(bare, max_nesting):
        return f"nests beyond {max_nesting} levels; flatten it"
    if _may_hold_hard_numbers(bare):
        # A body may be full of them; those that are the same are looked at once.
        for number, fraction, exponent in set(_HARD_NUMBER.findall(bare)):
            found = _number_fault(number, fraction, exponent or b"0")
            if found is not None:
                return found
    return _string_fault(text) if b"\\u" in text else None


def _nests_deeper(bare: bytes, levels: int) -> bool:
    """``bare``: without strings."""
    brackets = bare.translate(_LEVELS, _NO_BRACKETS).replace(_SIBLINGS, _SIBLINGS[:2])
    return max(map(sub, accumulate(brackets), count(1)), default=0) > levels


def _string_fault(text: bytes) -> str | None:
    # Two backslashes are one that begins no escape.
    escapes = text.replace(b"\\\\", b"__")
    if b"\\u0000" in escapes:
        return "holds the character U+0000, which cannot be stored; remove it"
    if b"\\ud" in escapes or b"\\uD" in escapes:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            # Its syntax is valid, its numbers are in range: nothing else is left.
            return LONE_SURROGATE
    return None


def _number_fault(number: bytes, fraction: bytes, exponent: bytes) -> str | None:
    if len(number) <= _MAX_EXPONENT_DIGITS and exponent == b"0":
        return None
    shown = number[:40].decode()
    if len(exponent.lstrip(b"+-0")) > _MAX_EXPONENT_DIGITS or float(number) in (float("inf"), float("-inf")):
        return f"holds the number {shown}, beyond the range of a double; send it as a string"
    if len(fraction) - int(exponent) > _MAX_FRACTION_DIGITS:
        return f"holds the number {shown}, with over {_MAX_FRACTION_DIGITS} digits after the point; round it"
    return None
