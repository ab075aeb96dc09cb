"""A subscriber of the live feed as a test thinks of one: follow, and see what comes, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import psycopg

from tests.support.api_door import Door

# Long enough for a busy machine; what has to be quick is measured by its test.
PATIENCE_SECONDS = 15.0


class Follower:
    """One connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def follow(self, public_id: str, filters: Sequence[str] = (), action: str = "sub") -> None:
        """Say what the client library says."""
        await self.socket.send_json({"action": action, "public_id": public_id, "filters": list(filters)})

    async def settled(self) -> None:
        """Until all that was said before was heard: a ping is answered in its turn."""
        await self.socket.ping()
        await asyncio.sleep(0.3)

    async def packet(self) -> dict[str, Any]:
        """The next frame's second element."""
        said = await self.socket.receive(timeout=PATIENCE_SECONDS)
        assert said.type is aiohttp.WSMsgType.TEXT, said
        frame = orjson.loads(said.data)
        assert list(frame) == ["data"]
        assert len(frame["data"]) == 2
        packet: dict[str, Any] = frame["data"][1]
        return packet

    async def event(self) -> dict[str, Any]:
        """The next event."""
        event: dict[str, Any] = (await self.packet())["human:event"]
        return event

    async def ids(self, count: int) -> list[str]:
        """The ids of the next events."""
        return [(await self.event())["_id"] for _ in range(count)]

    async def ending(self) -> tuple[int | None, str]:
        """The code of the close frame with its reason, or (1006, "") for a connection that was dropped."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = await self.socket.receive(timeout=deadline - time.monotonic())
            if said.type is aiohttp.WSMsgType.CLOSE:
                return said.data, said.extra or ""
            if said.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return 1006, ""


@asynccontextmanager
async def following(
    session: aiohttp.ClientSession,
    url: str,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[Follower]:
    """A connection to /primus. ``options``: of aiohttp's client."""
    query = "" if token is None else f"?token={token}"
    options = {"autoclose": False, **options}
    async with session.ws_connect(f"{url}/primus{query}", headers=headers, **options) as socket:
        yield Follower(socket)


def token_of(door: Door, who: str) -> str:
    """The access token of one of the door's people."""
    return door.secrets[who]["Authorization"].removeprefix("Bearer ")


def public_ids(dsn: str) -> dict[str, str]:
    """Public ids by bucket id."""
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT bucket_id, public_id FROM buckets").fetchall())
