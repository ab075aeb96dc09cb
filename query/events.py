"""Events, newest first, in batches of bounded size, so that no answer is ever held as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext

import asyncpg

from query import sql
from query.execute import AGAIN, AnyConnection, Reader
from query.request import Page
from schema.errors import Unavailable

_FIRST_ROWS = 16
_MOST_ROWS = 1_000
# What a batch aims at; one event's data is at most a quarter of it.
_BATCH_BYTES = 1024 * 1024


async def batches(reader: Reader, page: Page) -> AsyncGenerator[list[asyncpg.Record], None]:
    """Rows of ``sql.events_page``, in order; a snapshot and its connection are held until the end.

    Close it when you stop early. Raises Unavailable, also in the midst of it; Overloaded before
    the first batch.
    """
    if page.range.seen_by(page.scope).empty:
        return
    async with aclosing(batches_of(reader, sql.events_page(page), page.limit)) as found:
        async for rows in found:
            yield rows


async def batches_of(
    reader: Reader,
    statement: sql.Statement,
    most_rows: int,
    check: Callable[[AnyConnection], Awaitable[None]] | None = None,
) -> AsyncGenerator[list[asyncpg.Record], None]:
    """Rows of a statement that has a column ``data``, in order; ``check`` looks first, in the same snapshot.

    ``most_rows``: above a few, the answer takes a turn among the long ones. Raises as ``batches`` does, and
    what ``check`` raises.
    """
    async for attempt in reader.attempts():
        with attempt:
            delivered = False
            try:
                # The turn first: who waits for it must not hold a connection.
                async with (
                    reader.wide() if most_rows > _FIRST_ROWS else nullcontext(),
                    reader.snapshot() as connection,
                ):
                    if check is not None:
                        await check(connection)
                    cursor = await connection.cursor(statement.text, *statement.arguments)
                    wanted = _FIRST_ROWS
                    while rows := await cursor.fetch(wanted):
                        delivered = True
                        yield rows
                        if len(rows) < wanted:
                            break
                        wanted = next_batch_rows(len(rows), sum(len(row["data"]) for row in rows))
            except AGAIN as error:
                if delivered:
                    # Half of the answer is gone already; from here on it can only be broken off.
                    raise Unavailable(f"database: {error!r}") from error
                raise


def next_batch_rows(rows: int, data_bytes: int) -> int:
    """How many rows to fetch next, going by the size of the last ones."""
    a_row = data_bytes // rows + 200
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // a_row))
