"""When exactly a server was first, or last, heard within an hour that a rung names: from raw rows.

No index of events has the server. So the rows of a name in an hour are walked by the index of names, from
the hour's beginning or from its end, until each server that is looked for there has been met; all names and
hours in one statement, which is asked again, for more rows of each, while any server is missing. One walk
serves all servers of its name and hour: ten thousand of them cost one reading of their hour.

Neighbours: ``servers``, which knows the periods from the rungs. Guarantee: a moment is exact, or the start of
its hour where the rows are gone or the walk was given up.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; tables and columns come from schema.tables.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from query.execute import AnyConnection, fetch
from query.request import Scope
from query.sql import Arguments, Statement, tenancy
from schema.tables import EVENT_COUNTS_HOUR

# Names that hours are asked for one by one; with more of them all are read, so only one more is needed.
MAX_NAMES = 1_000
# Rows of each name and hour at first, and by how much that grows each turn.
FEWEST_ROWS = 64
GROWTH = 8
# Names of servers in all names and hours of a question, and arrays of them that are read at a time.
MAX_PAIRS = 1_000_000
_FEW_ARRAYS = 16
# Rows that a question may walk in each direction; a server that was not met by then keeps its hour.
MAX_ROWS = 4_000_000
# Days whose hours are looked at; further ones keep the day's precision.
_MAX_DAYS = 200
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Edge:
    """A period in which a server was first, or last, heard."""

    server: str
    start: datetime
    end: datetime
    is_last: bool


@dataclass(slots=True)
class Walk:
    """Of one name in one hour; ``missing``: the servers that it has not settled yet."""

    name: str
    hour: datetime
    missing: list[str]

    def settle(self, met: Mapping[str, datetime], reached: datetime | None, *, is_last: bool) -> None:
        """Leave out whom any walk has met before ``reached``; None: there are no rows beyond."""
        if reached is None:
            self.missing = []
        elif is_last:
            self.missing = [name for name in self.missing if name not in met or met[name] < reached]
        else:
            self.missing = [name for name in self.missing if name not in met or met[name] > reached]


async def moments_of(
    connection: AnyConnection, scope: Scope, edges: Sequence[Edge], names: Iterable[str]
) -> dict[tuple[str, bool], datetime]:
    """(server, is_last) → the moment where raw rows tell it, else the start of the hour where a rung does.

    ``names``: all that the servers sent.
    """
    asked = tuple(sorted(set(names)))
    hours = await _to_hours(connection, scope, edges, asked)
    found = {(edge.server, edge.is_last): edge.start for edge in hours}
    for is_last in (False, True):
        wanted = {edge.server: edge.start for edge in hours if edge.is_last is is_last}
        if wanted:
            walks = await _walks(connection, scope, wanted, asked)
            moments = await _walked(connection, scope, walks, is_last=is_last)
            found.update(((server, is_last), moment) for server, moment in moments.items())
    return found


def _of_hours(
    scope: Scope, names: tuple[str, ...], starts: tuple[datetime, ...], arguments: Arguments
) -> str:
    """The rung of hours, at these hours; its index has the name before the time."""
    named = f" AND name = ANY ({arguments(names, 'text[]')})" if len(names) <= MAX_NAMES else ""
    return (
        f"FROM {EVENT_COUNTS_HOUR.built} WHERE {tenancy(scope.bucket_keys, arguments)}{named}"
        f" AND period = ANY ({arguments(starts, 'timestamptz[]')}) AND server <> ''"
    )


async def _to_hours(
    connection: AnyConnection, scope: Scope, edges: Sequence[Edge], names: tuple[str, ...]
) -> list[Edge]:
    """The same edges, each as one hour; those of days too many are left out."""
    hours = [edge for edge in edges if edge.end - edge.start == _HOUR]
    in_days = [edge for edge in edges if edge.end - edge.start == _DAY]
    days = sorted({edge.start for edge in in_days})[-_MAX_DAYS:]
    if days:
        arguments = Arguments()
        inside = tuple(day + hour * _HOUR for day in days for hour in range(24))
        day = "date_trunc('day', period, 'UTC')"
        wanted = {(edge.server, edge.start) for edge in in_days}
        text = (
            f"SELECT server, {day} AS day, min(period) AS first, max(period) AS last"
            f" {_of_hours(scope, names, inside, arguments)}"
            f" AND {_one_of(wanted, 'server', day, arguments)} GROUP BY 1, 2"
        )
        rows = await fetch(connection, Statement(text, tuple(arguments.values)))
        known = {(row["server"], row["day"]): row for row in rows}
        for edge in in_days:
            row = known.get((edge.server, edge.start))
            if row is not None:
                start = row["last" if edge.is_last else "first"]
                hours.append(Edge(edge.server, start, start + _HOUR, edge.is_last))
    return hours


def _one_of(wanted: Iterable[tuple[str, datetime]], server: str, period: str, arguments: Arguments) -> str:
    """Whether a row is of a server in its period: looked up in a hash table, whatever the planner expects."""
    pairs = tuple(wanted)
    servers = arguments(tuple(name for name, _ in pairs), "text[]")
    periods = arguments(tuple(start for _, start in pairs), "timestamptz[]")
    return f"coalesce(({server}, {period}) IN (SELECT * FROM unnest({servers}, {periods})), false)"


async def _walks(
    connection: AnyConnection, scope: Scope, wanted: Mapping[str, datetime], names: tuple[str, ...]
) -> list[Walk]:
    """For each name and hour the servers that sent it then. ``wanted``: server → its hour.

    Of more than ``MAX_PAIRS`` names of servers in all, none for the last servers, which keep their hours.
    """
    arguments = Arguments()
    starts = tuple(sorted(set(wanted.values())))
    text = (
        "SELECT name, period, array_agg(server) AS servers FROM ("
        f"SELECT name, period, server {_of_hours(scope, names, starts, arguments)}"
        f" AND {_one_of(wanted.items(), 'server', 'period', arguments)} GROUP BY name, period, server"
        f' ORDER BY server COLLATE "C" LIMIT {arguments(MAX_PAIRS, "bigint")}'
        ") AS sent GROUP BY name, period"
    )
    walks: list[Walk] = []
    # Each server's name is kept once, however many arrays it comes in.
    known = {server: server for server in wanted}
    cursor = await connection.cursor(text, *arguments.values)
    while rows := await cursor.fetch(_FEW_ARRAYS):
        walks += [Walk(row["name"], row["period"], [known[name] for name in row["servers"]]) for row in rows]
    if sum(len(walk.missing) for walk in walks) == MAX_PAIRS:
        # Of the last one there may be more.
        last = max(server for walk in walks for server in walk.missing)
        for walk in walks:
            walk.missing = [server for server in walk.missing if server != last]
    return walks


async def _walked(
    connection: AnyConnection, scope: Scope, walks: list[Walk], *, is_last: bool
) -> dict[str, datetime]:
    """Server → its first, or last, moment in its hour; only of servers that all of its walks settled."""
    met: dict[str, datetime] = {}
    rows, left = FEWEST_ROWS, MAX_ROWS
    while walks and rows <= left:
        # Fewer rows than servers cannot settle a walk.
        ready = [walk for walk in walks if len(walk.missing) <= rows]
        walks = [walk for walk in walks if len(walk.missing) > rows]
        while ready and rows <= left:
            turn, ready = ready[: left // rows], ready[left // rows :]
            left -= await _step(connection, scope, turn, rows, met, is_last=is_last)
            walks += [walk for walk in turn if walk.missing]
        walks += ready
        rows *= GROWTH
    unsettled = {server for walk in walks for server in walk.missing}
    return {server: moment for server, moment in met.items() if server not in unsettled}


async def _step(
    connection: AnyConnection,
    scope: Scope,
    walks: Sequence[Walk],
    rows: int,
    met: dict[str, datetime],
    *,
    is_last: bool,
) -> int:
    """Walk ``rows`` of each; add to ``met`` who was met, and settle. Returns how many rows there were."""
    reached: list[datetime | None] = [None] * len(walks)
    walked = 0
    for row in await fetch(connection, walk_statement(scope, walks, rows, is_last=is_last)):
        near, far = (row["latest"], row["earliest"]) if is_last else (row["earliest"], row["latest"])
        if row["place"] is not None:
            walked += row["row_count"]
            if row["row_count"] == rows:
                reached[row["place"] - 1] = far
        elif (server := row["server"]) is not None:
            before = met.get(server, near)
            met[server] = max(before, near) if is_last else min(before, near)
    for walk, far in zip(walks, reached, strict=True):
        walk.settle(met, far, is_last=is_last)
    return walked


def walk_statement(scope: Scope, walks: Sequence[Walk], rows: int, *, is_last: bool) -> Statement:
    """Rows (place, server, earliest, latest, row_count): one a walk, by its place from 1, and one a server.

    ``server`` is null in a walk's row, and ``place`` in a server's. One more row has neither: all others.
    """
    arguments = Arguments()
    hours = [walk.hour for walk in walks]
    columns = [
        arguments(tuple(walk.name for walk in walks), "text[]"),
        arguments(tuple(hours), "timestamptz[]"),
    ]
    wanted = {server: walk.hour for walk in walks for server in walk.missing}
    is_wanted = _one_of(wanted.items(), "hit.server", "walk.hour", arguments)
    # Known when the statement is planned, so that no other chunks are.
    first, last = arguments(min(hours), "timestamptz"), arguments(max(hours), "timestamptz")
    text = f"""
SELECT place, server, min(observed_at) AS earliest, max(observed_at) AS latest, count(*) AS row_count
FROM (
    SELECT walk.place, hit.observed_at, CASE WHEN {is_wanted} THEN hit.server END AS server
    FROM unnest({", ".join(columns)}) WITH ORDINALITY AS walk (name, hour, place)
    CROSS JOIN LATERAL (
        SELECT server, observed_at FROM events
        WHERE {tenancy(scope.bucket_keys, arguments)} AND name = walk.name
            AND observed_at >= walk.hour AND observed_at < walk.hour + INTERVAL '1 hour'
            AND observed_at >= {first} AND observed_at < {last} + INTERVAL '1 hour'
        ORDER BY observed_at {"DESC" if is_last else "ASC"} LIMIT {arguments(rows, "bigint")}
    ) AS hit
) AS walked
GROUP BY GROUPING SETS ((place), (server))
"""
    return Statement(text, tuple(arguments.values))
