"""Which servers a bucket has heard from: counts from the coarsest rungs, first and last moments from raw
rows.

A rung says in which of its periods a server was first and last heard; ``edges`` finds out when exactly.
Where it cannot, the start of the period has to do. Nodes come from their reports, one step of the index for
each node.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; tables and columns come from schema.tables.
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

from query.edges import MAX_NAMES, Edge, moments_of
from query.events import FIRST_ROWS, next_batch_rows
from query.execute import AnyConnection, planned
from query.plan import Plan
from query.request import Filters, Range, Scope, moment
from query.sql import Arguments, Statement, where_clause

MAX_SERVERS = 10_000
# Of all servers together.
MAX_APPS = 20_000
# A report holds for three of its intervals.
_HOLDS_INTERVALS = 3

_NODES = f"""
WITH RECURSIVE node AS (
    (SELECT ip, host FROM node_reports WHERE bucket_id = $1 ORDER BY ip, host LIMIT 1)
    UNION ALL
    SELECT following.ip, following.host FROM node, LATERAL (
        SELECT ip, host FROM node_reports
        WHERE bucket_id = $1 AND (ip, host) > (node.ip, node.host) ORDER BY ip, host LIMIT 1
    ) AS following
)
SELECT node.ip, node.host, latest.version, latest.observed_at AS last_seen, earliest.first_seen,
    CASE WHEN latest.observed_at < now() - make_interval(secs => {_HOLDS_INTERVALS} * latest.interval_seconds)
        THEN 'OFFLINE' ELSE latest.status END AS status
FROM node
CROSS JOIN LATERAL (
    SELECT version, status, observed_at, interval_seconds FROM node_reports
    WHERE bucket_id = $1 AND ip = node.ip AND host = node.host ORDER BY observed_at DESC LIMIT 1
) AS latest
CROSS JOIN LATERAL (
    SELECT observed_at AS first_seen FROM node_reports
    WHERE bucket_id = $1 AND ip = node.ip AND host = node.host AND observed_at >= $2
    ORDER BY observed_at LIMIT 1
) AS earliest
WHERE NOT EXISTS (
    SELECT FROM node_retirements AS retired
    WHERE retired.bucket_id = $1 AND retired.ip = node.ip AND retired.host = node.host
        AND retired.retired_at >= latest.observed_at
)
LIMIT {MAX_SERVERS + 1}
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine by its newest report."""

    ip: str
    host: str
    version: str
    status: str
    first_seen: datetime
    last_seen: datetime


@dataclass(slots=True)
class Server:
    """What was heard from one server. ``node``: the newest report of a host of the same name."""

    name: str
    first_seen: datetime
    last_seen: datetime
    apps: set[str] = field(default_factory=set)
    event_count: int = 0
    node: Node | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """By name. ``complete``: False when there are more than ``MAX_SERVERS``, or apps of theirs than
    ``MAX_APPS``; then the last ones are left out. ``left_out``: see Plan.
    """

    servers: list[Server]
    complete: bool
    left_out: tuple[Range, ...]


async def servers_of(connection: AnyConnection, scope: Scope, bucket_id: str) -> Servers:
    """The servers of one bucket, in the snapshot of ``connection``'s REPEATABLE READ transaction."""
    seen = Range().seen_by(scope)
    way = await planned(connection, seen, None, {"app", "server"})
    found: dict[str, Server] = {}
    complete = True
    if way.slices:
        edges: dict[tuple[str, bool], Edge] = {}
        names: set[str] = set()
        complete = await _gathered(connection, _counts(scope, way), found, edges, names)
        await _sharpen(connection, scope, found, list(edges.values()), names)
    nodes = await connection.fetch(_NODES, bucket_id, moment(scope.visible_from))
    complete &= len(nodes) <= MAX_SERVERS
    for row in nodes[:MAX_SERVERS]:
        complete &= _add_node(found, Node(**dict(row)))
    return Servers([found[name] for name in sorted(found)], complete, way.left_out)


async def _gathered(
    connection: AnyConnection,
    statement: Statement,
    found: dict[str, Server],
    edges: dict[tuple[str, bool], Edge],
    names: set[str],
) -> bool:
    """Add the rows of ``_counts`` up; False: there are more than an answer shows.

    ``names``: of all of them; where there are more than can be asked for one by one, not necessarily all.
    Rows are read a few at a time: a bucket may have put values into its apps.
    """
    apps = 0
    cursor = await connection.cursor(statement.text, *statement.arguments)
    wanted = FIRST_ROWS
    while rows := await cursor.fetch(wanted):
        for row in rows:
            server = found.get(row["server"])
            if server is None and len(found) >= MAX_SERVERS:
                return False
            apps += server is None or row["app"] not in server.apps
            if apps > MAX_APPS:
                # Of this one there is more to come.
                found.pop(row["server"], None)
                for is_last in (False, True):
                    edges.pop((row["server"], is_last), None)
                return False
            _add(found, edges, row)
            if len(names) <= MAX_NAMES:
                names.update(row["names"])
        wanted = next_batch_rows(len(rows), sum(len(name) for row in rows for name in row["names"]))
    return True


def _counts(scope: Scope, way: Plan) -> Statement:
    """Rows (position of the slice, server, app, names, event_count, first, last), by server, then by time."""
    arguments = Arguments()
    parts = []
    for position, piece in enumerate(way.slices):
        where = where_clause(scope, piece, Filters(), arguments) + " AND server <> ''"
        table, at, count, seconds = "events", "observed_at", "count(*)", 0
        if piece.rung is not None:
            table, at, count = piece.rung.built, "period", "sum(event_count)"
            seconds = piece.rung.period_seconds
        # By name first: a hash of some hundred groups, where gathering names from all rows would sort these.
        parts.append(
            f"SELECT {position} AS position, {seconds} AS seconds, server, app,"
            f" (array_agg(name))[:{MAX_NAMES + 1}] AS names,"
            " sum(event_count)::bigint AS event_count, min(first) AS first, max(last) AS last FROM ("
            f"SELECT server, app, name, {count} AS event_count, min({at}) AS first, max({at}) AS last"
            f" FROM {table} {where} GROUP BY server, app, name) AS named GROUP BY server, app"
        )
    counted = "\nUNION ALL\n".join(parts)
    text = f'SELECT * FROM (\n{counted}\n) AS counted ORDER BY server COLLATE "C", position'
    return Statement(text, tuple(arguments.values))


def _add(found: dict[str, Server], edges: dict[tuple[str, bool], Edge], row: asyncpg.Record) -> None:
    name, first, last = row["server"], row["first"], row["last"]
    server = found.get(name)
    if server is None:
        server = found[name] = Server(name, first, last)
        _edge(edges, name, first, row["seconds"], is_last=False)
        _edge(edges, name, last, row["seconds"], is_last=True)
    else:
        if first < server.first_seen:
            server.first_seen = first
            _edge(edges, name, first, row["seconds"], is_last=False)
        if last >= server.last_seen:
            server.last_seen = last
            _edge(edges, name, last, row["seconds"], is_last=True)
    server.apps.add(row["app"])
    server.event_count += row["event_count"]


def _edge(
    edges: dict[tuple[str, bool], Edge], server: str, at: datetime, seconds: int, *, is_last: bool
) -> None:
    if seconds == 0:
        edges.pop((server, is_last), None)
    else:
        edges[server, is_last] = Edge(server, at, at + timedelta(seconds=seconds), is_last)


async def _sharpen(
    connection: AnyConnection, scope: Scope, found: dict[str, Server], edges: list[Edge], names: set[str]
) -> None:
    """Replace periods by the moments of the rows in them. ``names``: those that the servers' events have."""
    for (server, is_last), at in (await moments_of(connection, scope, edges, names)).items():
        if is_last:
            found[server].last_seen = at
        else:
            found[server].first_seen = at
    for one in found.values():
        # The start of a period may lie before a first moment that is exact.
        one.last_seen = max(one.first_seen, one.last_seen)


def _add_node(found: dict[str, Server], node: Node) -> bool:
    """False: it is of one server too many."""
    server = found.get(node.host)
    if server is None:
        if len(found) >= MAX_SERVERS:
            return False
        server = found[node.host] = Server(node.host, node.first_seen, node.last_seen)
    server.first_seen = min(server.first_seen, node.first_seen)
    server.last_seen = max(server.last_seen, node.last_seen)
    if server.node is None or server.node.last_seen < node.last_seen:
        server.node = node
    return True
