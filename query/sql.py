"""The statements, built from a scope, a plan and filters; every value is a parameter. Pure.

Each subquery begins with the tenancy predicate of ``Scope``, without exception: there is one function
that opens a WHERE, and it writes that predicate first. Counts are always sums of ``event_count``, since
a period of a rung may be spread over several rows.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; tables and columns come from schema.tables.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from query.interval import SECOND, Interval
from query.pages import Place
from query.plan import Plan, Slice
from query.request import Filters, Page, Range, Scope, moment

# What the store says of itself, in the snapshot that is counted in: rows (kind, rollup, moment). The
# placeholders are a range of hours.
_KNOWLEDGE = """
SELECT 'raw_floor' AS kind, '' AS rollup, raw_floor AS moment FROM store_state
UNION ALL
SELECT 'complete_until', rollup, complete_until FROM rollup_coverage
UNION ALL
SELECT 'stale_hour', rollup, hour FROM rollup_stale_hours WHERE hour >= {start} AND hour < {end}
"""
KNOWLEDGE = _KNOWLEDGE.format(start="$1", end="$2")

# Where the writers stand. $1: topic, $2: partitions.
STORED_OFFSETS = """
SELECT partition, epoch, next_offset FROM partition_offsets
WHERE topic = $1 AND partition = ANY ($2::integer[])
"""


# Keys that a statement may show to the planner.
FEW_KEYS = 50


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the values of its parameters, $1 first."""

    text: str
    arguments: tuple[Any, ...]


class Arguments:
    """Numbers the parameters of one statement; equal values share one."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[tuple[str, Any], int] = {}

    def __call__(self, value: Any, kind: str) -> str:
        """The placeholder of a value, with its type; a tuple becomes an array."""
        number = self._numbers.get((kind, value))
        if number is None:
            self.values.append(list(value) if isinstance(value, tuple) else value)
            number = self._numbers[kind, value] = len(self.values)
        return f"${number}::{kind}"


def counts_by_period(
    scope: Scope, plan: Plan, interval: Interval, filters: Filters, hours: Range
) -> Statement:
    """One row: xs (starts of periods in epoch ms, in any order), ys (counts, none 0), and what is known.

    xs and ys are null when nothing was found. A period of several months may come as single months: the
    caller puts them together. kinds, rollups, moments: what ``KNOWLEDGE`` says of ``hours`` in the same
    snapshot.
    """
    arguments = Arguments()
    parts = [counted_by_period(scope, piece, interval, filters, arguments) for piece in plan.slices]
    known = _KNOWLEDGE.format(
        start=arguments(moment(hours.start), "timestamptz"), end=arguments(moment(hours.end), "timestamptz")
    )
    counted = "\nUNION ALL\n".join(parts) or "SELECT NULL::timestamptz AS x, 0::bigint AS y WHERE false"
    text = f"""
SELECT xs, ys, kinds, rollups, moments
FROM (
    SELECT array_agg(x) AS xs, array_agg(y) AS ys
    FROM (
        SELECT (date_part('epoch', counted.x) * 1000)::bigint AS x, sum(y)::bigint AS y
        FROM (
{counted}
        ) AS counted
        GROUP BY counted.x
    ) AS summed
) AS points
CROSS JOIN (
    SELECT array_agg(kind) AS kinds, array_agg(rollup) AS rollups, array_agg(moment) AS moments
    FROM ({known}) AS known
) AS knowledge
"""
    return Statement(text, tuple(arguments.values))


def counted_by_period(
    scope: Scope, piece: Slice, interval: Interval, filters: Filters, arguments: Arguments
) -> str:
    """A part: rows (x: the start of a period of the interval, y: events in it, never 0)."""
    if piece.rung is not None:
        # The rung's own periods need no cutting.
        same = interval.width == piece.rung.period_seconds * SECOND
        x = "period" if same else _period(interval, "period", arguments)
        where = where_clause(scope, piece, filters, arguments)
        return f"SELECT {x} AS x, event_count AS y FROM {piece.rung.built} {where}"
    first = interval.period(piece.start)
    if first == interval.period(piece.end - 1):
        # The edge of a histogram lies in one period: no row of it has to be cut or grouped.
        x = arguments(moment(first), "timestamptz")
        where = where_clause(scope, piece, filters, arguments)
        return f"SELECT {x} AS x, count(*) AS y FROM events {where} HAVING count(*) > 0"
    x = _period(interval, "observed_at", arguments)
    where = where_clause(scope, piece, filters, arguments)
    return f"SELECT {x} AS x, count(*) AS y FROM events {where} GROUP BY 1"


def counts_by_app(scope: Scope, plan: Plan, filters: Filters, limit: int) -> Statement:
    """Rows (app, names, ys: their counts), by code points, no count 0; ``limit`` names in all."""
    arguments = Arguments()
    parts = []
    for piece in plan.slices:
        where = where_clause(scope, piece, filters, arguments)
        if piece.rung is None:
            parts.append(f"SELECT app, name, count(*) AS y FROM events {where} GROUP BY 1, 2")
        else:
            parts.append(f"SELECT app, name, event_count AS y FROM {piece.rung.built} {where}")
    counted = "\nUNION ALL\n".join(parts)
    text = f"""
SELECT app, array_agg(name ORDER BY name COLLATE "C") AS names, array_agg(y ORDER BY name COLLATE "C") AS ys
FROM (
    SELECT app, name, sum(y)::bigint AS y
    FROM (
{counted}
    ) AS counted
    GROUP BY app, name
    ORDER BY app COLLATE "C", name COLLATE "C"
    LIMIT {arguments(limit, "bigint")}
) AS summed
GROUP BY app
ORDER BY app COLLATE "C"
"""
    return Statement(text, tuple(arguments.values))


_EVENT_COLUMNS = (
    "id, floor(extract(epoch FROM observed_at) * 1000)::bigint AS at, name, app, server, device,"
    " stream, data::text AS data"
)


def events_page(page: Page, place: Place | None = None) -> Statement:
    """Rows (id, at: epoch ms, name, app, server, device, stream, data: JSON text), newest first.

    ``place``: where it lies, if that is known.
    """
    arguments = Arguments()
    seen = page.range.seen_by(page.scope) if place is None else place.hull
    where = where_clause(page.scope, Slice(None, seen.start, seen.end), page.filters, arguments)
    limit = arguments(page.limit, "bigint")
    offset = arguments(page.offset if place is None else place.offset, "bigint")
    if place is None or len(place.ranges) == 1:
        text = (
            f"SELECT {_EVENT_COLUMNS} FROM events {where}"
            f' ORDER BY observed_at DESC, id COLLATE "C" LIMIT {limit} OFFSET {offset}'
        )
        return Statement(text, tuple(arguments.values))
    starts = arguments(tuple(moment(piece.start) for piece in place.ranges), "timestamptz[]")
    ends = arguments(tuple(moment(piece.end) for piece in place.ranges), "timestamptz[]")
    # Each range is walked by itself, in their order: the outer sort has one of them in hand at a time.
    text = f"""
SELECT {_EVENT_COLUMNS}
FROM unnest({starts}, {ends}) WITH ORDINALITY AS piece (start_at, end_at, place)
CROSS JOIN LATERAL (
    SELECT * FROM events {where} AND observed_at >= piece.start_at AND observed_at < piece.end_at
    ORDER BY observed_at DESC, id COLLATE "C" LIMIT {limit} + {offset}
) AS found
ORDER BY place, observed_at DESC, id COLLATE "C" LIMIT {limit} OFFSET {offset}
"""
    return Statement(text, tuple(arguments.values))


def where_clause(scope: Scope, piece: Slice, filters: Filters, arguments: Arguments) -> str:
    """The WHERE of one slice: tenancy first, then labels, then time."""
    column = "observed_at" if piece.rung is None else "period"
    predicates = [tenancy(scope.bucket_keys, arguments)]
    predicates += [f"{label} = {arguments(value, 'text')}" for label, value in filters.wanted.items()]
    predicates.append(f"{column} >= {arguments(moment(piece.start), 'timestamptz')}")
    predicates.append(f"{column} < {arguments(moment(piece.end), 'timestamptz')}")
    return "WHERE " + " AND ".join(predicates)


def tenancy(bucket_keys: Sequence[int], arguments: Arguments) -> str:
    """The predicate that every part of every statement begins with: these buckets, and no others."""
    if len(bucket_keys) == 1:
        # Equality keeps an index's order of time, which a list of keys does not.
        return f"bucket_key = {arguments(bucket_keys[0], 'integer')}"
    keys = arguments(tuple(bucket_keys), "integer[]")
    if len(bucket_keys) <= FEW_KEYS:
        return f"bucket_key = ANY ({keys})"
    # Of a list that it can see, the planner weighs every key, anew for each chunk and index.
    return f"bucket_key = ANY ((SELECT {keys})::integer[])"


def tenancy_of_rows(bucket_keys: Sequence[int], arguments: Arguments) -> str:
    """The same for rows that another column finds: of many keys, each row's own is looked up."""
    if len(bucket_keys) <= FEW_KEYS:
        return tenancy(bucket_keys, arguments)
    keys = arguments(tuple(bucket_keys), "integer[]")
    # The coalesce keeps it a look-up in a hash table that is made once; it would become a join.
    return f"coalesce(bucket_key IN (SELECT unnest({keys})), false)"


def _period(interval: Interval, column: str, arguments: Arguments) -> str:
    """The start of the period that holds a column's moment."""
    if interval.width is None:
        return f"date_trunc('month', {column}, 'UTC')"
    width = arguments(timedelta(microseconds=interval.width), "interval")
    return f"date_bin({width}, {column}, {arguments(moment(interval.origin), 'timestamptz')})"
