"""A device's events of one name: the times of them, and how many by period, from all buckets of a caller.

Neighbours: ``plan`` and ``sql`` as for every count; ``api.surfaces.devices`` asks. A caller may read
thousands of buckets and a device is in one of them, mostly: so first it is found out which buckets hold it
(from the device days, and raw rows where those do not reach), and all that follows asks these alone. The
device's days say, too, where a page of times lies (``pages``), however far down it is.
Guarantee: everything is exact, and read in the one snapshot of the connection given.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; tables and columns come from schema.tables.
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from query.execute import AnyConnection, fetch, knowledge
from query.interval import DAY, SECOND, Interval, Unit
from query.pages import Place, joined, place_of
from query.plan import Knowledge, Plan, Slice, plan
from query.request import Filters, Range, Scope
from query.sql import Arguments, Statement, counted_by_period, where_clause

PAGE_ROWS = 1000
# Pages beyond this are beyond what a device can have.
MAX_PAGE = 1_000_000_000
_DAYS = Interval(Unit.DAY)
# Of ranges that are nearer to each other than this, the chunks between them are planned as well.
NEAR_DAYS = 7
MOST_RANGES = 30
# Over more days than this it pays to ask first which of them have events.
MANY_DAYS = 60


@dataclass(frozen=True, slots=True)
class Occurrences:
    """What is asked of a device's events. ``page``: from 0, of 1000.

    ``scopes``: one for each retention among the buckets that the caller may read.
    """

    scopes: tuple[Scope, ...]
    device: str
    name: str
    range: Range = field(default_factory=Range)
    older_first: bool = True
    page: int = 0

    @property
    def filters(self) -> Filters:
        """The labels that its events have."""
        return Filters(name=self.name, device=self.device)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows (seconds since 1970, and a count where periods were asked for), and what nothing can answer."""

    rows: list[tuple[int, int]]
    left_out: tuple[Range, ...] = ()


async def occurrences(
    connection: AnyConnection, asked: Occurrences, interval: Interval | None
) -> Found | None:
    """A page of times (``interval`` None; each with count 1) or of periods; None: there is no such event.

    The connection's transaction must be REPEATABLE READ.
    """
    known = await knowledge(connection, Range())
    scopes = await _holding(connection, asked, known)
    if not scopes:
        return None
    ways = [(scope, _way(asked, scope, interval, known)) for scope in scopes]
    left_out = tuple({gone: None for _, way in ways for gone in way.left_out})
    ways = [(scope, way) for scope, way in ways if way.slices]
    if not ways:
        return Found([], left_out)
    offset = asked.page * PAGE_ROWS
    if interval is None:
        place = await _place(connection, asked, ways, known)
        if place is None:
            return Found([], left_out)
        statement = times(asked, within(ways, place.ranges), place.offset)
    else:
        if _days_of_rows(ways) > MANY_DAYS:
            days = await _days(connection, asked, ways, known)
            if days is not None:
                ways = within(ways, [Range(day, day + DAY) for day, _ in days])
            if not ways:
                return Found([], left_out)
        statement = counts(asked, ways, interval, offset)
    rows = await fetch(connection, statement)
    return Found([(row["at"], row["y"]) for row in rows], left_out)


async def _place(
    connection: AnyConnection, asked: Occurrences, ways: Sequence[tuple[Scope, Plan]], known: Knowledge
) -> Place | None:
    """Where the page of times lies, by the device's days; None: there are fewer of them.

    Without days that are built it would have to be counted in the rows themselves: then it lies anywhere.
    """
    offset = asked.page * PAGE_ROWS
    spans = [_span(way) for _, way in ways]
    seen = Range(min(span.start for span in spans), max(span.end for span in spans))
    days = await _days(connection, asked, ways, known)
    return Place((seen,), offset) if days is None else place_of(days, _DAYS, seen, offset, PAGE_ROWS)


async def _days(
    connection: AnyConnection, asked: Occurrences, ways: Sequence[tuple[Scope, Plan]], known: Knowledge
) -> list[tuple[int, int]] | None:
    """The days (microseconds since 1970) that have such events, and how many; None: no day is built."""
    dimensions = asked.filters.dimensions
    by_day = [(scope, plan(_span(way), _DAYS, dimensions, known)) for scope, way in ways]
    if all(piece.rung is None for _, piece in _slices(by_day)):
        return None
    rows = await fetch(connection, counts(asked, by_day, _DAYS))
    return [(row["at"] * SECOND, row["y"]) for row in rows]


def _span(way: Plan) -> Range:
    return Range(way.slices[0].start, way.slices[-1].end)


def _days_of_rows(ways: Sequence[tuple[Scope, Plan]]) -> float:
    """How many days of raw rows are read."""
    return sum(piece.end - piece.start for _, piece in _slices(ways) if piece.rung is None) / DAY


def within(ways: Sequence[tuple[Scope, Plan]], ranges: Iterable[Range]) -> list[tuple[Scope, Plan]]:
    """The parts of ways that ranges touch; each part has its own chunks planned, and no others."""
    spans = joined(ranges, NEAR_DAYS * DAY, MOST_RANGES)
    found = []
    for scope, way in ways:
        cut = [
            Slice(piece.rung, max(piece.start, span.start), min(piece.end, span.end))
            for piece in way.slices
            for span in spans
        ]
        kept = tuple(piece for piece in cut if piece.start < piece.end)
        if kept:
            found.append((scope, Plan(kept)))
    return found


async def _holding(connection: AnyConnection, asked: Occurrences, known: Knowledge) -> list[Scope]:
    """The scopes, narrowed to the buckets in which the caller sees such an event, at whatever time."""
    everything = Scope(tuple(key for scope in asked.scopes for key in scope.bucket_keys))
    held = await _held_keys(connection, everything, asked.filters, known)
    found = []
    for scope in asked.scopes:
        narrowed = Scope(tuple(key for key in scope.bucket_keys if key in held), scope.visible_from)
        if narrowed.bucket_keys and narrowed.visible_from > 0:
            visible = await _held_keys(connection, narrowed, asked.filters, known)
            narrowed = Scope(tuple(key for key in narrowed.bucket_keys if key in visible), scope.visible_from)
        if narrowed.bucket_keys:
            found.append(narrowed)
    return found


async def _held_keys(
    connection: AnyConnection, scope: Scope, filters: Filters, known: Knowledge
) -> frozenset[int]:
    seen = Range().seen_by(scope)
    if not scope.bucket_keys or seen.empty:
        return frozenset()
    way = plan(seen, None, filters.dimensions, known)
    if not way.slices:
        return frozenset()
    return frozenset(row["bucket_key"] for row in await fetch(connection, holders(scope, way, filters)))


def _way(asked: Occurrences, scope: Scope, interval: Interval | None, known: Knowledge) -> Plan:
    seen = asked.range.seen_by(scope)
    if seen.empty:
        return Plan(())
    if interval is not None:
        return plan(seen, interval, asked.filters.dimensions, known)
    # Times are in the raw rows alone.
    start = min(max(seen.start, known.raw_floor), seen.end)
    gone = (Range(seen.start, start),) if seen.start < start else ()
    return Plan((Slice(None, start, seen.end),) if start < seen.end else (), gone)


def holders(scope: Scope, way: Plan, filters: Filters) -> Statement:
    """Rows (bucket_key): the buckets of the scope that have such an event in the plan's slices."""
    arguments = Arguments()
    single = len(scope.bucket_keys) == 1
    parts = []
    for piece in way.slices:
        table = "events" if piece.rung is None else piece.rung.built
        where = where_clause(scope, piece, filters, arguments)
        # In one bucket the first row settles it; in several all rows of the device must be looked at.
        parts.append(
            f"(SELECT bucket_key FROM {table} {where} LIMIT 1)"
            if single
            else f"SELECT bucket_key FROM {table} {where} GROUP BY bucket_key"
        )
    found = "\nUNION ALL\n".join(parts)
    ending = "LIMIT 1" if single else "GROUP BY bucket_key"
    return Statement(f"SELECT bucket_key FROM (\n{found}\n) AS found {ending}", tuple(arguments.values))


def times(asked: Occurrences, ways: Sequence[tuple[Scope, Plan]], offset: int = 0) -> Statement:
    """A page of rows (at: whole seconds since 1970, y: 1), in the order asked for."""
    arguments = Arguments()
    direction = "ASC" if asked.older_first else "DESC"
    parts = [
        f"SELECT observed_at FROM events {where_clause(scope, piece, asked.filters, arguments)}"
        for scope, piece in _slices(ways)
    ]
    source = parts[0]
    if len(parts) > 1:
        # Inside a UNION ALL the index's order would be lost: each part is a list that ends as the page does.
        ending = f"ORDER BY observed_at {direction} LIMIT {arguments(offset + PAGE_ROWS, 'bigint')}"
        lists = "\nUNION ALL\n".join(f"({part} {ending})" for part in parts)
        source = f"SELECT observed_at FROM (\n{lists}\n) AS found"
    text = f"""
SELECT floor(extract(epoch FROM observed_at))::bigint AS at, 1 AS y
FROM (
{source} ORDER BY observed_at {direction} {_page(offset, arguments)}
) AS paged ORDER BY observed_at {direction}
"""
    return Statement(text, tuple(arguments.values))


def counts(
    asked: Occurrences, ways: Sequence[tuple[Scope, Plan]], interval: Interval, offset: int | None = None
) -> Statement:
    """Rows (at: first second of the period, y: its count, not 0), in the order asked for.

    A page of them from ``offset`` on; None: all.
    """
    arguments = Arguments()
    parts = [
        counted_by_period(scope, piece, interval, asked.filters, arguments) for scope, piece in _slices(ways)
    ]
    counted = "\nUNION ALL\n".join(parts)
    page = "" if offset is None else _page(offset, arguments)
    text = f"""
SELECT extract(epoch FROM counted.x)::bigint AS at, sum(y)::bigint AS y
FROM (
{counted}
) AS counted
GROUP BY counted.x HAVING sum(y) > 0
ORDER BY counted.x {"ASC" if asked.older_first else "DESC"} {page}
"""
    return Statement(text, tuple(arguments.values))


def scopes_of(buckets: Iterable[tuple[int, int]]) -> tuple[Scope, ...]:
    """One scope for each retention, of pairs (bucket key, visible from)."""
    keys: dict[int, list[int]] = {}
    for bucket_key, visible_from in buckets:
        keys.setdefault(visible_from, []).append(bucket_key)
    return tuple(Scope(tuple(found), visible_from) for visible_from, found in sorted(keys.items()))


def _slices(ways: Sequence[tuple[Scope, Plan]]) -> list[tuple[Scope, Slice]]:
    return [(scope, piece) for scope, way in ways for piece in way.slices]


def _page(offset: int, arguments: Arguments) -> str:
    return f"LIMIT {arguments(PAGE_ROWS, 'bigint')} OFFSET {arguments(offset, 'bigint')}"
