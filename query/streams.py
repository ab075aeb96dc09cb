"""Streams: the events of several devices, so many of each, as conditions on their data let them through.

Neighbours: ``api.surfaces.device_data`` asks, ``filters`` gives the condition. One statement reads each
device by the index (device, bucket_key, time) for itself, so that a limit holds for each of them and one with
many events does not cost the others. Compressed chunks have no such index: what a device has there is found
by unpacking what all devices have, so several are read in one pass where all that they have is not much.
Guarantee: tenancy is the first predicate; rows come by device in the order asked for, each device's in their
own order; no answer is cut silently; how it is read changes nothing of it.
"""

# ruff: noqa: S608 - whatever comes from a request is a parameter; columns are named here.
from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from query.events import Batches, batches_of, fetched
from query.execute import AnyConnection, Reader, fetch
from query.filters.compile import predicate, sort_keys
from query.filters.conditions import ALWAYS, Condition, Tag
from query.request import END_OF_TIME, Range, Scope, microseconds, moment
from query.sql import FEW_KEYS, Arguments, Statement, tenancy, tenancy_of_rows
from schema.errors import Invalid
from schema.tables import STREAM_NAMES

MAX_DEVICES = 100
MAX_EVENTS = 100_000
# From so many devices on it is looked whether one pass can read them; so many events are sorted at once.
PASS_DEVICES = 5
PASS_EVENTS = 20_000
# The newest few of each device are found soon, most often before anything that is compressed.
FEW_NEWEST = 100


class Moment(StrEnum):
    """The moments of an event that one may sort by; the values are columns."""

    OBSERVED_AT = "observed_at"
    RECEIVED_AT = "received_at"


@dataclass(frozen=True, slots=True)
class Sorting:
    """By what each device's events are sorted. Ties: newest first, then by id."""

    by: Moment | Tag
    descending: bool


NEWEST_FIRST = Sorting(Moment.OBSERVED_AT, descending=True)


@dataclass(frozen=True, slots=True)
class Streams:
    """Events of a stream, at most ``limit`` of each device. ``scopes``: one for each retention."""

    scopes: tuple[Scope, ...]
    devices: tuple[str, ...]
    stream: str
    range: Range
    limit: int
    condition: Condition = ALWAYS
    sorting: Sorting = NEWEST_FIRST

    @property
    def most_rows(self) -> int:
        """How many events the answer may have by its limit."""
        return len(self.devices) * self.limit

    @property
    def seen(self) -> Range:
        """The part of the range that any of the buckets shows."""
        return self.range.seen_by(Scope((), min((scope.visible_from for scope in self.scopes), default=0)))


@dataclass(frozen=True, slots=True)
class Names:
    """The names that the stream's events have before ``until``: microseconds since 1970, in the range."""

    until: int
    names: tuple[str, ...]


async def stream_batches(reader: Reader, asked: Streams) -> Batches:
    """Rows of ``stream_page``, in order and in batches; close it when you stop early.

    Raises Invalid before the first batch when there are more than MAX_EVENTS; Unavailable, Overloaded.
    """
    if asked.seen.empty or not any(scope.bucket_keys for scope in asked.scopes):
        return

    async with aclosing(
        batches_of(reader, lambda found: _of_streams(reader, found, asked), asked.most_rows)
    ) as found:
        async for rows in found:
            yield rows


async def _of_streams(reader: Reader, connection: AnyConnection, asked: Streams) -> Batches:
    names = await known_names(connection, asked)
    if await reader.compresses(connection) and await one_pass_will_do(connection, asked, names):
        page = stream_page_in_one_pass(asked, names)
    else:
        await _check_number(connection, asked, names)
        page = stream_page(asked, names)
    async with aclosing(fetched(connection, page)) as found:
        async for rows in found:
            yield rows


async def _check_number(connection: AnyConnection, asked: Streams, names: Names | None) -> None:
    if asked.most_rows > MAX_EVENTS:
        (row,) = await fetch(connection, stream_count(asked, names))
        if row["found"] > MAX_EVENTS:
            raise Invalid(
                f"limit: more than {MAX_EVENTS} events for these devices; ask for fewer devices, a lower "
                "limit or a shorter time"
            )


async def one_pass_will_do(connection: AnyConnection, asked: Streams, names: Names | None) -> bool:
    """Whether part of the range is compressed, and all that would be found in it little enough for one pass.

    The newest of each device may be found after a look at a few hours. But where all that there is are fewer
    than limits allow, some device has fewer than its limit: alone, it would be looked for in the whole range.
    """
    newest = asked.sorting == NEWEST_FIRST
    devices = len(asked.devices)
    # What is asked for twice is answered twice, and one pass counts it once.
    if devices < PASS_DEVICES or len(set(asked.devices)) < devices:
        return False
    if newest and asked.limit < FEW_NEWEST and asked.condition == ALWAYS:
        return False
    (row,) = await fetch(connection, packed(asked))
    if not row["packed"]:
        return False
    most = min(asked.most_rows - 1, PASS_EVENTS) if newest else PASS_EVENTS
    (row,) = await fetch(connection, stream_total(asked, names, most))
    return bool(row["found"] <= most)


def packed(asked: Streams) -> Statement:
    """One row (packed): whether chunks of the range are compressed."""
    text = """
SELECT EXISTS (
    SELECT FROM timescaledb_information.chunks
    WHERE hypertable_schema = 'public' AND hypertable_name = 'events' AND is_compressed
        AND range_start < $2::timestamptz AND range_end > $1::timestamptz
) AS packed
"""
    return Statement(text, (moment(asked.seen.start), moment(asked.seen.end)))


async def known_names(connection: AnyConnection, asked: Streams) -> Names | None:
    """The names that the stream's events have, where that is known and they are not too many."""
    keys = _keys(asked)
    if len(keys) > FEW_KEYS:
        # To look all of them up would take as long as what it saves.
        return None
    (row,) = await fetch(connection, stream_names(asked))
    if len(row["names"]) > STREAM_NAMES:
        return None
    until = min(max(microseconds(row["until"]), asked.seen.start), asked.seen.end)
    return Names(until, tuple(row["names"])) if until > asked.seen.start else None


def stream_names(asked: Streams) -> Statement:
    """One row (until, names): events of the stream before ``until`` have these names, in what is asked."""
    arguments = Arguments()
    start = arguments(moment(asked.seen.start), "timestamptz")
    text = f"""
SELECT least(
        stream_names_until, (SELECT min(hour) FROM late_hours WHERE hour > {start} - INTERVAL '1 hour')
    ) AS until,
    ARRAY(
        SELECT DISTINCT name FROM stream_names
        WHERE {tenancy(_keys(asked), arguments)} AND stream = {arguments(asked.stream, "text")}
        ORDER BY name LIMIT {STREAM_NAMES + 1}
    ) AS names
FROM store_state
"""
    return Statement(text, tuple(arguments.values))


def stream_page(asked: Streams, names: Names | None = None) -> Statement:
    """Rows (place: of the device, from 1; id, observed_at, data: JSON text), in order."""
    arguments = Arguments()
    devices = arguments(asked.devices, "text[]")
    columns, order = _sorted(asked.sorting, arguments)
    # Of the events let through the first are found by each device; put together, they are already in the
    # order of the devices, and the outer sort has one device's events in hand at a time.
    limit = arguments(asked.limit, "bigint")
    ending = f'ORDER BY {order}observed_at DESC, id COLLATE "C", bucket_key LIMIT {limit}'
    found = _joined(
        [
            f"SELECT bucket_key, id, observed_at, data{columns} FROM events\n    {where}\n    {ending}"
            for where in _wheres(asked, names, arguments)
        ],
        ending,
    )
    text = f"""
SELECT wanted.place, found.id, found.observed_at, found.data::text AS data
FROM unnest({devices}) WITH ORDINALITY AS wanted (device, place)
CROSS JOIN LATERAL ({found}) AS found
ORDER BY wanted.place, {order}found.observed_at DESC, found.id COLLATE "C", found.bucket_key
"""
    return Statement(text, tuple(arguments.values))


def stream_page_in_one_pass(asked: Streams, names: Names | None = None) -> Statement:
    """The rows of ``stream_page``, by reading the range once for all devices and sorting what they have."""
    arguments = Arguments()
    devices = arguments(asked.devices, "text[]")
    columns, order = _sorted(asked.sorting, arguments)
    ending = f'{order}found.observed_at DESC, found.id COLLATE "C", found.bucket_key'
    # OFFSET 0 is a fence: without it, a plan may look for each device by itself again.
    parts = [
        f"(SELECT device, bucket_key, id, observed_at, data{columns} FROM events\n    {where})"
        for where in _wheres(asked, names, arguments, _of_devices(devices))
    ]
    text = f"""
SELECT place, id, observed_at, data::text AS data
FROM (
    SELECT wanted.place, found.id, found.observed_at, found.data, row_number() OVER (
        PARTITION BY wanted.place ORDER BY {ending}
    ) AS number
    FROM unnest({devices}) WITH ORDINALITY AS wanted (device, place)
    JOIN (SELECT * FROM ({" UNION ALL ".join(parts)}) AS parts OFFSET 0) AS found
        ON found.device = wanted.device
) AS numbered
WHERE number <= {arguments(asked.limit, "bigint")}
ORDER BY place, number
"""
    return Statement(text, tuple(arguments.values))


def stream_total(asked: Streams, names: Names | None, most: int) -> Statement:
    """One row (found): how many events the devices have, limits apart, counted to just beyond ``most``."""
    arguments = Arguments()
    device = _of_devices(arguments(asked.devices, "text[]"))
    parts = [f"(SELECT FROM events {where})" for where in _wheres(asked, names, arguments, device)]
    text = f"""
SELECT count(*) AS found
FROM (SELECT FROM ({" UNION ALL ".join(parts)}) AS all_found LIMIT {arguments(most + 1, "bigint")}) AS counted
"""
    return Statement(text, tuple(arguments.values))


def stream_count(asked: Streams, names: Names | None = None) -> Statement:
    """One row (found): how many events ``stream_page`` has, counted to just beyond MAX_EVENTS."""
    arguments = Arguments()
    limit = arguments(asked.limit, "bigint")
    parts = [f"SELECT FROM events {where} LIMIT {limit}" for where in _wheres(asked, names, arguments)]
    text = f"""
SELECT count(*) AS found
FROM (
    SELECT FROM unnest({arguments(asked.devices, "text[]")}) AS wanted (device)
    CROSS JOIN LATERAL ({_joined(parts, f"LIMIT {limit}")}) AS found
    LIMIT {arguments(MAX_EVENTS + 1, "bigint")}
) AS counted
"""
    return Statement(text, tuple(arguments.values))


def _keys(asked: Streams) -> tuple[int, ...]:
    return tuple(sorted(key for scope in asked.scopes for key in scope.bucket_keys))


def _joined(parts: list[str], ending: str) -> str:
    """Parts as one; each has its own end of the list, so all together need theirs."""
    if len(parts) == 1:
        return parts[0]
    return "SELECT * FROM (" + "\nUNION ALL\n".join(f"({part})" for part in parts) + f") AS parts {ending}"


_OF_ONE_DEVICE = "device = wanted.device"


def _of_devices(devices: str) -> str:
    return f"device = ANY ({devices})"


def _wheres(
    asked: Streams, names: Names | None, arguments: Arguments, device: str = _OF_ONE_DEVICE
) -> list[str]:
    """One WHERE for each part of the range, the newest first: since names are no longer known, and before."""
    seen = asked.seen
    if names is None:
        return [_where(asked, seen, None, arguments, device)]
    parts = ((Range(names.until, seen.end), None), (Range(seen.start, names.until), names.names))
    return [_where(asked, part, known, arguments, device) for part, known in parts if not part.empty]


def _where(
    asked: Streams, seen: Range, names: tuple[str, ...] | None, arguments: Arguments, device: str
) -> str:
    predicates = [
        tenancy_of_rows(_keys(asked), arguments),
        device,
        # What the index leaves out; of a device that comes from a list the planner could not know it.
        "device <> ''",
        f"stream = {arguments(asked.stream, 'text')}",
        # The index has them, and not the stream: events of others are passed over without being fetched.
        *([] if names is None else [f"name = ANY ({arguments(names, 'text[]')})"]),
        f"observed_at >= {arguments(moment(seen.start), 'timestamptz')}",
        f"observed_at < {arguments(moment(seen.end), 'timestamptz')}",
    ]
    for scope in asked.scopes:
        # Buckets that keep their events for a shorter time than others: one index scan serves all of them.
        if scope.visible_from > seen.start and scope.bucket_keys:
            shown_from = arguments(moment(min(scope.visible_from, END_OF_TIME)), "timestamptz")
            these = tenancy_of_rows(scope.bucket_keys, arguments)
            predicates.append(f"NOT ({these} AND observed_at < {shown_from})")
    if asked.condition != ALWAYS:
        predicates.append(predicate(asked.condition, arguments))
    return "WHERE " + "\n        AND ".join(predicates)


def _sorted(sorting: Sorting, arguments: Arguments) -> tuple[str, str]:
    """More columns to select, and the order of them, that come before the order that settles ties."""
    keys = _sort_keys(sorting, arguments)
    columns = "".join(f", {key} AS key_{number}" for number, (key, _) in enumerate(keys))
    order = "".join(f"key_{number} {direction}, " for number, (_, direction) in enumerate(keys))
    return columns, order


def _sort_keys(sorting: Sorting, arguments: Arguments) -> list[tuple[str, str]]:
    """Expressions and directions that come before the order that settles ties."""
    if sorting == NEWEST_FIRST:
        return []
    direction = "DESC" if sorting.descending else "ASC"
    if isinstance(sorting.by, Moment):
        return [(sorting.by.value, direction)]
    kind, *values = sort_keys(sorting.by, arguments)
    # The types of values stand in one order both ways, events without a value last.
    return [(kind, "ASC"), *((value, direction) for value in values)]
