"""Whether a statement can see what is not its caller's: a reading of its text, part by part.

Each place that names a table of tenants must have, among the conditions that all have to hold in its own
SELECT, one that says which buckets. It is a reading of SQL as `query` writes it, not of all SQL: what it
cannot follow it takes for unscoped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TENANTS_TABLES = (
    "events|event_counts_minute|event_counts_hour|event_counts_day|device_counts_day|event_counts_minute_built"
    "|event_counts_hour_built|event_counts_day_built|device_counts_day_built|node_reports|devices"
    "|stream_names|node_retirements|dead_letters|buckets|bucket_members"
)
_NAMED = re.compile(rf"\b(?:FROM|JOIN)\s+({TENANTS_TABLES})\b", re.IGNORECASE)
# What ends the conditions of a SELECT, on its own level.
_ENDINGS = re.compile(r"\b(?:GROUP BY|ORDER BY|HAVING|LIMIT|OFFSET|UNION|WINDOW|FOR UPDATE)\b", re.IGNORECASE)
_SCOPE = re.compile(
    r"(?:\w+\.)?(?:bucket_key = \$(\d+)::integer|bucket_key = ANY \(\$(\d+)::integer\[\]\)"
    r"|bucket_key = ANY \(\(SELECT \$(\d+)::integer\[\]\)::integer\[\]\)"
    r"|coalesce\(bucket_key IN \(SELECT unnest\(\$(\d+)::integer\[\]\)\), false\)"
    r"|bucket_id = \$(\d+)(?:::text)?)"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A table named in a statement. `parameter`: number of the one that says whose; None: none does."""

    table: str
    parameter: int | None


def places(statement: str) -> Iterator[Place]:
    """Every place of a statement that names a table of tenants."""
    text = re.sub(r"--[^\n]*", "", statement)
    for found in _NAMED.finditer(text):
        conditions = _conditions(text, found.end())
        numbers = [match for one in conditions if (match := _SCOPE.fullmatch(one.strip()))]
        number = next((int(next(filter(None, match.groups()))) for match in numbers), None)
        yield Place(found[1], number)


def _conditions(text: str, position: int) -> list[str]:
    """What AND joins in the WHERE of the SELECT that goes on at `position`; nothing where OR joins it."""
    own = _own_level(text, position)
    where = re.search(r"\bWHERE\b", own, re.IGNORECASE)
    if where is None:
        return []
    rest = own[where.end() :]
    ending = _ENDINGS.search(_flat(rest))
    conditions = rest[: ending.start()] if ending else rest
    flat = _flat(conditions)
    if re.search(r"\bOR\b", flat, re.IGNORECASE):
        return []
    parts, start = [], 0
    for joined in re.finditer(r"\bAND\b", flat, re.IGNORECASE):
        parts.append(conditions[start : joined.start()])
        start = joined.end()
    return [*parts, conditions[start:]]


def _own_level(text: str, position: int) -> str:
    """From ``position`` to the parenthesis that closes the level it is on."""
    level = 0
    for end in range(position, len(text)):
        level += (text[end] == "(") - (text[end] == ")")
        if level < 0:
            return text[position:end]
    return text[position:]


def _flat(text: str) -> str:
    """The same length, with everything inside parentheses blanked."""
    level = 0
    flat = []
    for character in text:
        level -= character == ")"
        flat.append(character if level == 0 else "_")
        level += character == "("
    return "".join(flat)
