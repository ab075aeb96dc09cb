"""Which events there are: names and counts by app, from the coarsest rungs."""

from __future__ import annotations

from dataclasses import dataclass

from query import sql
from query.execute import AnyConnection, fetch, planned
from query.plan import Plan
from query.request import Metadata

# Pairs of app and name in one answer; a bucket with more has put values into its names.
MAX_NAMES = 100_000


@dataclass(frozen=True, slots=True)
class AppEvents:
    """One app's event names, ascending by code points, and how many there are of each."""

    app: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Names:
    """``complete`` is False when there are more than were asked for."""

    apps: list[AppEvents]
    complete: bool
    plan: Plan


async def names_by_app(
    connection: AnyConnection,
    asked: Metadata,
    *,
    limit: int = MAX_NAMES,
    timeout_seconds: float | None = None,
) -> Names:
    """Names and counts in the snapshot of ``connection``'s transaction, which must be REPEATABLE READ."""
    seen = asked.range.seen_by(asked.scope)
    way = await planned(connection, seen, None, asked.filters.dimensions | {"app", "name"})
    if not way.slices:
        return Names([], complete=True, plan=way)
    statement = sql.counts_by_app(asked.scope, way, asked.filters, limit + 1)
    rows = await fetch(connection, statement, timeout_seconds)
    apps = [AppEvents(app, dict(zip(names, counts, strict=True))) for app, names, counts in rows]
    complete = sum(len(entry.counts) for entry in apps) <= limit
    if not complete:
        apps[-1].counts.popitem()
    return Names([entry for entry in apps if entry.counts], complete=complete, plan=way)
