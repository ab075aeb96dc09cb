"""The WebSockets of agents: who gets one, when it opens, and how all of them end together.

On stopping, each agent is asked to close: what it sent before is read and published; from then on it keeps
what it has for the gateway that it finds next. A silent link is let be: an agent may hold some that it has
forgotten, and the end of one of them costs it the one that it uses (see ``settling``). The kernel finds out
whether the machine is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import time

import structlog
from aiohttp import web

from api.http.connections import Connection
from ingest.gateway.intake import Station
from ingest.gateway.keys import Keys
from ingest.gateway.pm2.link import CLOSE_SECONDS, Link
from ingest.gateway.pm2.packets import MAX_PACKET_BYTES, Packets
from ingest.gateway.pm2.pairs import granted
from ingest.gateway.pm2.settling import Settling
from ingest.gateway.pm2.sharing import Shares
from schema.errors import Invalid, Overloaded

log = structlog.get_logger(__name__)

# A machine that is gone is noticed within a minute.
_KEEP_ALIVE = {sockets.TCP_KEEPIDLE: 30, sockets.TCP_KEEPINTVL: 10, sockets.TCP_KEEPCNT: 3}
LET_GO_SECONDS = 1.0


class Links:
    """All links of one gateway."""

    def __init__(self, station: Station, pairs: Keys) -> None:
        settings, metrics = station.settings, station.metrics
        self._station = station
        self._pairs = pairs
        self._open: set[Link] = set()
        self._stopping = asyncio.Event()
        self._settling = Settling(settings.gateway_settle_seconds, time.monotonic)
        self._shares = Shares(
            settings.gateway_link_bytes, MAX_PACKET_BYTES, asyncio.get_running_loop().call_later
        )
        metrics.agent_links.set_function(lambda: len(self._open))
        metrics.agent_link_bytes.set_function(lambda: self._shares.held_bytes)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hold one link until it ends. Raises Denied (401), Invalid, Overloaded, Unavailable."""
        public_id = request.headers.get("X-KM-PUBLIC", "")
        secret_id = request.headers.get("X-KM-SECRET", "")
        await granted(self._pairs, public_id, secret_id)
        if self._stopping.is_set() or len(self._settling) >= self._station.settings.gateway_sockets:
            raise Overloaded("this gateway takes no further agent; try again")
        # aiohttp refuses a packet of as much.
        socket = web.WebSocketResponse(
            timeout=CLOSE_SECONDS,
            max_msg_size=MAX_PACKET_BYTES + 1,
            autoping=False,
            compress=False,
            decode_text=False,
        )
        if not socket.can_prepare(request):
            raise Invalid("a WebSocket is opened here, and nothing else", status=426)
        connection = request.protocol
        assert isinstance(connection, Connection)
        server = request.headers.get("X-KM-SERVER", "")
        with self._settling.place((public_id, server)) as hold_seconds:
            await self._hold(hold_seconds, request, connection)
            link = Link(self._station, self._pairs, (public_id, secret_id), socket, Packets(server))
            with link.held(connection, self._shares):
                await socket.prepare(request)
                self._open.add(link)
                try:
                    await link.run()
                finally:
                    self._open.discard(link)
        return socket

    async def _hold(self, seconds: float, request: web.Request, connection: Connection) -> None:
        """Let the agent wait for its answer. Raises Overloaded when there is nobody, or no gateway, left."""
        early = connection.behind_upgrade_bytes > 0

        def arrived(_data: bytes) -> None:
            # Nobody may send anything before the answer, and nobody would count it here.
            nonlocal early
            early = True
            connection.force_close()

        connection.listener = arrived
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if early else seconds):
                    await self._stopping.wait()
        finally:
            connection.listener = None
        gone = request.transport is None or request.transport.is_closing()
        if early or gone or self._stopping.is_set():
            raise Overloaded("this link was not opened; try again")
        assert request.transport is not None
        _keep_alive(request.transport)

    async def let_go(self) -> None:
        """Ask every agent to close, take no new one, and wait for them within ``LET_GO_SECONDS``."""
        self._stopping.set()
        ending = [asyncio.create_task(link.let_go()) for link in self._open]
        if ending:
            _, late = await asyncio.wait(ending, timeout=LET_GO_SECONDS)
            for task in late:
                task.cancel()
            log.info("agent links let go", links=len(ending), late=len(late))


def _keep_alive(transport: asyncio.Transport) -> None:
    socket = transport.get_extra_info("socket")
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        socket.setsockopt(sockets.IPPROTO_TCP, option, value)
