"""The WebSockets of agents: one reads, one publishes, and neither waits for the other beyond a bound.

The protocol has no acknowledgements, so nothing that was read is given up lightly: while Kafka does not take
it, it is tried again with the same ids and moments, and the link is not read further, which the agent feels.
Only after ``_PATIENCE_SECONDS`` is the link dropped. On stopping, each agent is asked to close: what it sent
before is read and published; from then on it keeps what it has for the gateway that it finds next.

A silent link is let be: an agent may hold some that it has forgotten, and the end of one of them costs it the
one that it uses (see ``settling``). The kernel finds out whether the machine is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import time

import structlog
from aiohttp import WSMsgType, web

from ingest.gateway.admission import Admitted, admit_events, admit_node_reports
from ingest.gateway.dialects.events import Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.dialects.reading import Batch
from ingest.gateway.grants import Grant
from ingest.gateway.intake import Station, reason
from ingest.gateway.keys import Keys
from ingest.gateway.pm2.packets import Packets
from ingest.gateway.pm2.pairs import granted
from ingest.gateway.pm2.settling import Settling
from schema.errors import Invalid, Overloaded, Unavailable, WeirError

log = structlog.get_logger(__name__)

# A status lists all processes of a machine, each with its actions and metrics.
_MAX_PACKET_BYTES = 2 * 1024 * 1024
# What one link holds that is not published; beyond it, it is not read.
_PENDING_BYTES = 64 * 1024
# How often a link that brings nothing is looked at again: may it still?
_CONFIRM_SECONDS = 10.0
# A machine that is gone is noticed within a minute.
_KEEP_ALIVE = {sockets.TCP_KEEPIDLE: 30, sockets.TCP_KEEPINTVL: 10, sockets.TCP_KEEPCNT: 3}
_CLOSE_SECONDS = 2.0
LET_GO_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 5.0
# "Service restart", as a close frame has it.
_RESTART = (1012).to_bytes(2, "big")


class Links:
    """All links of one gateway."""

    def __init__(self, station: Station, pairs: Keys) -> None:
        self._station = station
        self._pairs = pairs
        self._open: set[_Link] = set()
        self._stopping = asyncio.Event()
        self._settling = Settling(station.settings.gateway_settle_seconds, time.monotonic)
        station.metrics.agent_links.set_function(lambda: len(self._open))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Hold one link until it ends. Raises Denied (401), Invalid, Overloaded, Unavailable."""
        public_id = request.headers.get("X-KM-PUBLIC", "")
        secret_id = request.headers.get("X-KM-SECRET", "")
        await granted(self._pairs, public_id, secret_id)
        if self._stopping.is_set() or len(self._settling) >= self._station.settings.gateway_sockets:
            raise Overloaded("this gateway takes no further agent; try again")
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, max_msg_size=_MAX_PACKET_BYTES, compress=False, decode_text=False
        )
        if not socket.can_prepare(request):
            raise Invalid("a WebSocket is opened here, and nothing else", status=426)
        server = request.headers.get("X-KM-SERVER", "")
        with self._settling.place((public_id, server)) as hold_seconds:
            await self._hold(hold_seconds, request)
            await socket.prepare(request)
            link = _Link(self._station, self._pairs, (public_id, secret_id), socket, Packets(server))
            self._open.add(link)
            try:
                await link.run()
            finally:
                self._open.discard(link)
        return socket

    async def _hold(self, seconds: float, request: web.Request) -> None:
        """Let the agent wait for its answer. Raises Overloaded when there is nobody, or no gateway, left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        if self._stopping.is_set() or request.transport is None or request.transport.is_closing():
            raise Overloaded("this link was not opened; try again")
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


class _Link:
    def __init__(
        self,
        station: Station,
        pairs: Keys,
        pair: tuple[str, str],
        socket: web.WebSocketResponse,
        packets: Packets,
    ) -> None:
        self._station = station
        self._pairs = pairs
        self._pair = pair
        self._socket = socket
        self._packets = packets
        self._events: list[Event] = []
        self._reports: list[NodeReport] = []
        self._pending_bytes = 0
        self._patience_until = float("inf")
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._done = asyncio.Event()
        self._ended = False

    async def run(self) -> None:
        """Read until the agent goes, or may no longer; publish what was read."""
        reading = asyncio.create_task(self._read())
        publishing = asyncio.create_task(self._publish_all())
        try:
            await asyncio.wait({reading, publishing}, return_when=asyncio.FIRST_COMPLETED)
            self._ended = True
            self._patience_until = time.monotonic() + _CLOSE_SECONDS
            self._arrived.set()
            await asyncio.wait(
                {publishing}, timeout=2 * _CLOSE_SECONDS + self._station.settings.publish_seconds
            )
        finally:
            for task in (reading, publishing):
                task.cancel()
            results = await asyncio.gather(reading, publishing, return_exceptions=True)
            self._done.set()
        for error in results:
            if isinstance(error, WeirError):
                log.info("agent link ended", reason=error.message)
            elif isinstance(error, Exception):
                log.error("agent link failed", exc_info=error)
        await self._socket.close()

    async def let_go(self) -> None:
        """Ask the agent to close, and wait until what it sent before is published."""
        with contextlib.suppress(ConnectionError):
            await self._socket.send_frame(_RESTART, WSMsgType.CLOSE)
        await self._done.wait()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._socket.receive()
            except ConnectionError:
                return
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            if message.type is WSMsgType.TEXT:
                self._take(bytes(message.data))
            while self._pending_bytes > _PENDING_BYTES:
                self._room.clear()
                await self._room.wait()

    def _take(self, text: bytes) -> None:
        try:
            brought = self._packets.read(text, time.time(), time.monotonic())
        except Invalid as error:
            self._refused(error.message)
            return
        if brought is None:
            return
        if isinstance(brought, NodeReport):
            self._reports.append(brought)
        elif len(bytes(brought.data)) > self._station.settings.max_event_bytes:
            self._refused("larger than an event may be")
            return
        else:
            self._events.append(brought)
        # The event holds on to the text that it was read from.
        self._pending_bytes += len(text)
        self._arrived.set()

    async def _publish_all(self) -> None:
        confirm_seconds = min(_CONFIRM_SECONDS, self._station.settings.key_refresh_seconds)
        while True:
            try:
                async with asyncio.timeout(confirm_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                await self._confirm()
                continue
            self._arrived.clear()
            events, self._events = self._events, []
            reports, self._reports = self._reports, []
            self._pending_bytes = 0
            self._room.set()
            if events:
                await self._publish(events, "event")
            if reports:
                await self._publish(reports, "node_report")
            if self._ended and not self._events and not self._reports:
                return

    async def _confirm(self) -> None:
        """Raises Denied when the pair stands no longer."""
        with contextlib.suppress(Overloaded, Unavailable):
            await granted(self._pairs, *self._pair)

    async def _publish(self, entries: list[Event] | list[NodeReport], kind: str) -> None:
        """Until it is acknowledged. Raises Denied, or what stood in the way for too long."""
        station = self._station
        given_up_at = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                grant = await granted(self._pairs, *self._pair)
                station.check()
                admitted = self._admit(entries, grant)
                count, rejections = admitted.count, admitted.rejections
                await station.publish(admitted, grant)
            except (Overloaded, Unavailable) as error:
                if time.monotonic() > min(given_up_at, self._patience_until):
                    station.metrics.refused.labels(reason(error)).inc(len(entries))
                    raise
                await asyncio.sleep(min(error.retry_after_seconds, _LONGEST_PAUSE_SECONDS))
                continue
            for rejection in rejections:
                self._refused(rejection.error)
            station.metrics.accepted.labels(kind).inc(count)
            return

    def _admit(self, entries: list[Event] | list[NodeReport], grant: Grant) -> Admitted:
        terms, partitions = self._station.terms(grant), self._station.producing.partitions
        events = [entry for entry in entries if isinstance(entry, Event)]
        if events:
            return admit_events(Batch(events, doubtful=True), terms, grant.bucket, partitions)
        reports = [entry for entry in entries if isinstance(entry, NodeReport)]
        return admit_node_reports(Batch(reports), terms, grant.bucket, partitions)

    def _refused(self, why: str) -> None:
        self._station.metrics.refused.labels("invalid").inc()
        log.debug("packet of an agent refused", reason=why)


def _keep_alive(transport: asyncio.Transport) -> None:
    socket = transport.get_extra_info("socket")
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        socket.setsockopt(sockets.IPPROTO_TCP, option, value)
