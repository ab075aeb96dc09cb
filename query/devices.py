"""Which devices a bucket knows: those that were registered, and those that sent events.

Neighbours: ``plan`` says from where the events' devices are read, ``api.surfaces.registrations`` asks. The
list hops from one device to the next in each index, so a page costs its own length, not the number of events.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; tables and columns come from schema.tables.
from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from query.execute import AnyConnection, fetch, planned
from query.plan import Plan
from query.request import Filters, Range, Scope
from query.sql import Arguments, Statement, where_clause

# Names of events that are counted of one device.
MAX_NAMES = 1000

_REGISTERED = """
SELECT device, name, attributes::text AS attributes, registered_at, updated_at
FROM devices WHERE bucket_id = $1 AND device = $2
"""


@dataclass(frozen=True, slots=True)
class Device:
    """``attributes``: JSON text. ``registered_at``, ``updated_at``: None when it only ever sent events."""

    device: str
    name: str
    attributes: str
    registered_at: datetime | None
    updated_at: datetime | None


async def known_devices(
    connection: AnyConnection, scope: Scope, bucket_id: str, after: str, limit: int
) -> list[Device]:
    """Devices after ``after``, in the database's order of texts, ``limit`` at most."""
    way = await planned(connection, Range().seen_by(scope), None, {"device", "name"})
    rows = await fetch(connection, list_statement(scope, way, bucket_id, after, limit))
    return [_device(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Sent:
    """How many events of each name are stored of a device.

    ``complete``: False when there are more names than ``MAX_NAMES``. ``left_out``: what nothing can answer.
    """

    events: dict[str, int]
    complete: bool
    left_out: tuple[Range, ...]


async def known_device(
    connection: AnyConnection, scope: Scope, bucket_id: str, device: str
) -> tuple[Device, Sent] | None:
    """A device, and what is stored of it; None: unknown."""
    rows = await fetch(connection, Statement(_REGISTERED, (bucket_id, device)))
    filters = Filters(device=device)
    way = await planned(connection, Range().seen_by(scope), None, filters.dimensions)
    counts = await fetch(connection, counts_statement(scope, way, filters)) if way.slices else []
    if not rows and not counts:
        return None
    found = _device(rows[0]) if rows else Device(device, "", "{}", None, None)
    events = {row["name"]: row["y"] for row in counts[:MAX_NAMES]}
    return found, Sent(events, complete=len(counts) <= MAX_NAMES, left_out=way.left_out)


def list_statement(scope: Scope, way: Plan, bucket_id: str, after: str, limit: int) -> Statement:
    """Rows of Device, in order."""
    arguments = Arguments()
    bucket = arguments(bucket_id, "text")
    sources = [f"SELECT device FROM devices WHERE bucket_id = {bucket}"]
    for piece in way.slices:
        table = "events" if piece.rung is None else piece.rung.built
        sources.append(f"SELECT device FROM {table} {where_clause(scope, piece, Filters(), arguments)}")
    nearest = "\nUNION ALL\n".join(
        f"({source} AND device > known.device AND device <> '' ORDER BY device LIMIT 1)" for source in sources
    )
    most = arguments(limit, "bigint")
    text = f"""
WITH RECURSIVE known AS (
    SELECT {arguments(after, "text")} AS device, 0::bigint AS number
    UNION ALL
    SELECT following.device, known.number + 1
    FROM known
    CROSS JOIN LATERAL (
        SELECT device FROM (
{nearest}
        ) AS nearest ORDER BY device LIMIT 1
    ) AS following
    WHERE known.number < {most}
)
SELECT device, coalesce(name, '') AS name, coalesce(attributes::text, '{{}}') AS attributes, registered_at,
    updated_at
FROM known LEFT JOIN (SELECT * FROM devices WHERE bucket_id = {bucket}) AS registered USING (device)
WHERE number > 0
ORDER BY number
"""
    return Statement(text, tuple(arguments.values))


def counts_statement(scope: Scope, way: Plan, filters: Filters) -> Statement:
    """Rows (name, y), by name: one more than are counted, where there are more."""
    arguments = Arguments()
    parts = []
    for piece in way.slices:
        where = where_clause(scope, piece, filters, arguments)
        if piece.rung is None:
            parts.append(f"SELECT name, count(*) AS y FROM events {where} GROUP BY 1")
        else:
            parts.append(f"SELECT name, event_count AS y FROM {piece.rung.built} {where}")
    counted = "\nUNION ALL\n".join(parts)
    text = f"""
SELECT name, sum(y)::bigint AS y FROM (
{counted}
) AS counted GROUP BY name HAVING sum(y) > 0 ORDER BY name COLLATE "C"
LIMIT {arguments(MAX_NAMES + 1, "bigint")}
"""
    return Statement(text, tuple(arguments.values))


def _device(row: asyncpg.Record) -> Device:
    return Device(row["device"], row["name"], row["attributes"], row["registered_at"], row["updated_at"])
