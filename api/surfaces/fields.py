"""Parameters as clients send them: numbers may be texts, moments ISO 8601 or epoch milliseconds. Pure.

Each function takes the parameters and the name of one; null means that it was not given. Raises Invalid,
naming the parameter and what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from query.request import END_OF_TIME, checked_label
from schema.errors import Invalid
from schema.events import parse_moment

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")

Parameters = Mapping[str, Any]


def label(given: Parameters, name: str) -> str | None:
    """A label to filter by; an empty text means events without one."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Invalid(f"{name}: must be a string")
    return checked_label(value, name)


def required_label(given: Parameters, name: str) -> str:
    """A label that must be there and not be empty."""
    value = label(given, name)
    if not value:
        raise Invalid(f"{name}: is required; a string that is not empty")
    return value


def whole_number(given: Parameters, name: str, default: int, least: int, most: int) -> int:
    """An integer from ``least`` to ``most``; ``"10"`` and ``10.0`` are 10."""
    value = given.get(name)
    if value is None:
        return default
    number: int | None = None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is None or not least <= number <= most:
        raise Invalid(f"{name}: must be a whole number from {least} to {most}")
    return number


def number(given: Parameters, name: str, default: float) -> float:
    """Any finite number."""
    value = given.get(name)
    if value is None:
        return default
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Invalid(f"{name}: must be a number")


def text(given: Parameters, name: str, default: str) -> str:
    """Any text."""
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise Invalid(f"{name}: must be a string")
    return value


def moment(given: Parameters, name: str) -> int | None:
    """Microseconds since 1970 of epoch milliseconds, or of ISO 8601 (without an offset: UTC)."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return parse_moment(_with_offset(value.strip()), name)
    # A whole number stays one: a double may have lost its last digits.
    milliseconds = value if isinstance(value, int) else number(given, name, 0.0)
    # Compared before it is multiplied, since the largest doubles would become infinite.
    if isinstance(value, bool) or not 0 <= milliseconds <= END_OF_TIME // 1000:
        raise Invalid(f"{name}: must lie between 1970 and 9999; write ISO 8601 or epoch milliseconds")
    return round(milliseconds * 1000)


def _with_offset(written: str) -> str:
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        return written
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).isoformat()
