"""A reader over rows that a test puts there, and how the database goes about a statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from query.execute import Reader, fetch, open_reader
from query.sql import Statement
from schema.connections import Connection, Duty, open_connection
from schema.settings import ApiSettings


@asynccontextmanager
async def reader_of(dsn: str, fill: Callable[[Connection], Awaitable[object]]) -> AsyncIterator[Reader]:
    """A reader of the database once ``fill`` has put rows there, and analysed them, as the tables' owner."""
    settings = ApiSettings(database_dsn=dsn)
    owner = await open_connection(settings, Duty.MAINTENANCE, command_seconds=60)
    await fill(owner)
    await owner.close(timeout=5)
    reader = await open_reader(settings)
    try:
        yield reader
    finally:
        await reader.close(5)


async def explained(reader: Reader, statement: Statement) -> str:
    """How the statement was executed, with what it touched and without what depends on the machine."""
    text = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) " + statement.text
    async with reader.snapshot() as connection:
        return "\n".join(row[0] for row in await fetch(connection, Statement(text, statement.arguments)))
