"""The canary: raw binary COPY of the same rows, prebuilt, on two connections split by bucket.

Nothing is dropped, counted or remembered: this is what PostgreSQL takes at best into a hypertable
with the same indexes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg

from schema.tables import EVENT_COLUMNS
from tests.bench.accounting import read_cpu
from tests.bench.ground import connected
from tests.bench.workload import Workload, copy_stream

CONNECTIONS = 2
# Requests of one COPY and one transaction: 10,000 rows with requests of 1,000.
BATCH_ROWS = 10_000


class Canary:
    """Two connections that copy."""

    def __init__(self, connections: list[asyncpg.Connection[asyncpg.Record]], table: str) -> None:
        self._connections = connections
        self._table = table

    @classmethod
    async def open(cls, dsn: str, table: str = "raw_events") -> Canary:
        """Connect."""
        return cls([await connected(dsn) for _ in range(CONNECTIONS)], table)

    async def close(self) -> None:
        """Disconnect."""
        for connection in self._connections:
            await connection.close(timeout=5)

    async def run(self, workload: Workload, numbers: range) -> float:
        """Copy these requests; rows a second."""
        batches = await self._made_ahead(workload, numbers)
        begun = time.monotonic()
        await self._copy_all(batches)
        return workload.events(numbers) / (time.monotonic() - begun)

    async def cost(self, workload: Workload, numbers: range, postmaster: int | None) -> float:
        """Copy these requests; CPU microseconds a row: this process and, where it is seen, the database."""
        batches = await self._made_ahead(workload, numbers)
        before = read_cpu({"copying": os.getpid()}, postmaster)
        await self._copy_all(batches)
        used = read_cpu({"copying": os.getpid()}, postmaster).since(before)
        return sum(used.values()) / workload.events(numbers) * 1e6

    async def _made_ahead(self, workload: Workload, numbers: range) -> list[list[list[bytes]]]:
        """Batches by connection, made before anything is measured: that is the database, not the bench."""
        shares = [
            [number for number in numbers if number % len(workload.templates) % CONNECTIONS == place]
            for place in range(CONNECTIONS)
        ]
        batches = [_batches(workload, share) for share in shares]
        await self._connections[0].execute("CHECKPOINT")
        return batches

    async def _copy_all(self, batches: list[list[list[bytes]]]) -> None:
        await asyncio.gather(
            *(
                self._copy(connection, some)
                for connection, some in zip(self._connections, batches, strict=True)
            )
        )

    async def _copy(self, connection: asyncpg.Connection[asyncpg.Record], batches: list[list[bytes]]) -> None:
        for batch in batches:
            await connection.copy_to_table(
                self._table, source=_source(batch), columns=EVENT_COLUMNS, format="binary"
            )


def _batches(workload: Workload, share: list[int]) -> list[list[bytes]]:
    step = max(1, BATCH_ROWS // workload.shape.events_of_request)
    return [list(_stream(workload, share[at : at + step])) for at in range(0, len(share), step)]


def _stream(workload: Workload, numbers: list[int]) -> Iterator[bytes]:
    return copy_stream(workload, numbers)


async def _source(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
