"""Events, newest first, in batches of bounded size, so that no answer is ever held as a whole.

Most pages are the newest events of a name, and the last day holds them. What it does not hold, and every page
that skips events or wants those of one app or server, is looked up first (``pages``): counts by day, then by
hour, say where it lies.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import TypeAlias

import asyncpg

from query import sql
from query.execute import AGAIN, AnyConnection, Reader, counts_in, knowledge
from query.interval import DAY, Interval, Unit
from query.pages import Place, place_of
from query.request import Histogram, Page, Range
from schema.errors import Unavailable

FIRST_ROWS = 16
_MOST_ROWS = 1_000
# What a batch aims at; one event's data is at most a quarter of it.
_BATCH_BYTES = 1024 * 1024

Batches: TypeAlias = AsyncGenerator[list[asyncpg.Record], None]


async def batches(reader: Reader, page: Page) -> Batches:
    """Rows of ``sql.events_page``, in order; a snapshot and its connection are held until the end.

    Close it when you stop early. Raises Unavailable, also in the midst of it; Overloaded before
    the first batch.
    """
    if page.range.seen_by(page.scope).empty:
        return
    async with aclosing(batches_of(reader, lambda found: _of_page(found, page), page.limit)) as found:
        async for rows in found:
            yield rows


async def _of_page(connection: AnyConnection, page: Page) -> Batches:
    seen = page.range.seen_by(page.scope)
    if page.offset == 0 and not page.filters.dimensions - {"name"}:
        recent = Range(max(seen.start, min(seen.end, page.asked_at) - DAY), seen.end)
        delivered = 0
        async with aclosing(fetched(connection, sql.events_page(replace(page, range=recent)))) as found:
            async for rows in found:
                delivered += len(rows)
                yield rows
        if delivered == page.limit or recent.start == seen.start:
            return
        seen = Range(seen.start, recent.start)
        page = replace(page, range=seen, limit=page.limit - delivered)
    place = await _place(connection, page, seen)
    if place is None:
        return
    async with aclosing(fetched(connection, sql.events_page(page, place))) as found:
        async for rows in found:
            yield rows


async def _place(connection: AnyConnection, page: Page, seen: Range) -> Place | None:
    """Where a page lies; None: there is nothing of it."""
    known = await knowledge(connection, seen)
    # Counts may outlive rows.
    kept = Range(max(seen.start, known.raw_floor), seen.end)
    if kept.empty:
        return None
    asked = Histogram(page.scope, kept, Interval(Unit.DAY), page.filters)
    counts = await counts_in(connection, asked, known)
    place = place_of(reversed(counts), asked.interval, kept, page.offset, page.limit)
    if place is None or not page.filters.dimensions - {"name"}:
        return place
    # Events of one app are as rare in a day as the others make them.
    asked = replace(asked, range=place.hull, interval=Interval(Unit.HOUR))
    counts = await counts_in(connection, asked, known)
    return place_of(reversed(counts), asked.interval, place.hull, place.offset, page.limit)


async def batches_of(reader: Reader, ask: Callable[[AnyConnection], Batches], most_rows: int) -> Batches:
    """What ``ask`` yields, in one snapshot, asked again as a whole where that helps.

    ``most_rows``: above a few, the answer takes a turn among the long ones. Raises as ``batches`` does, and
    what ``ask`` raises.
    """
    async for attempt in reader.attempts():
        with attempt:
            delivered = False
            try:
                # The turn first: who waits for it must not hold a connection.
                async with (
                    reader.wide() if most_rows > FIRST_ROWS else nullcontext(),
                    reader.snapshot() as connection,
                    aclosing(ask(connection)) as found,
                ):
                    async for rows in found:
                        delivered = True
                        yield rows
            except AGAIN as error:
                if delivered:
                    # Half of the answer is gone already; from here on it can only be broken off.
                    raise Unavailable(f"database: {error!r}") from error
                raise


async def fetched(connection: AnyConnection, statement: sql.Statement) -> Batches:
    """Rows of a statement that has a column ``data``, in order."""
    cursor = await connection.cursor(statement.text, *statement.arguments)
    wanted = FIRST_ROWS
    while rows := await cursor.fetch(wanted):
        yield rows
        if len(rows) < wanted:
            break
        wanted = next_batch_rows(len(rows), sum(len(row["data"]) for row in rows))


def next_batch_rows(rows: int, data_bytes: int) -> int:
    """How many rows to fetch next, going by the size of the last ones."""
    a_row = data_bytes // rows + 200
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // a_row))
