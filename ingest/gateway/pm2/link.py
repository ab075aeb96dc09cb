"""One agent's WebSocket: one task reads, one publishes, and neither waits for the other beyond a bound.

The protocol has no acknowledgements, so nothing that was read is given up lightly: while Kafka does not take
it, it is tried again with the same ids and moments, and the link is not read further, which the agent feels.
Only after ``_PATIENCE_SECONDS`` is the link dropped. What it holds is counted among all links' bytes
(``sharing``) from the moment in which it arrives until Kafka has acknowledged it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web

from api.http.connections import Connection
from ingest.gateway.admission import Admitted, admit_events, admit_node_reports
from ingest.gateway.dialects.events import Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.dialects.reading import Batch
from ingest.gateway.grants import Grant
from ingest.gateway.intake import Station, reason
from ingest.gateway.keys import Keys
from ingest.gateway.pm2.frames import MESSAGE_COST_BYTES
from ingest.gateway.pm2.packets import MAX_PACKET_BYTES, Packets
from ingest.gateway.pm2.pairs import granted
from ingest.gateway.pm2.sharing import LINK_BYTES, TURN_SECONDS, Share, Shares
from schema.errors import Invalid, Overloaded, Unavailable, WeirError

log = structlog.get_logger(__name__)

# How often a link that brings nothing is looked at again: may it still?
_CONFIRM_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_PATIENCE_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 5.0
# "Service restart", as a close frame has it.
_RESTART = (1012).to_bytes(2, "big")
_OVER = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class Link:
    """One link, from its answer to its end."""

    def __init__(
        self,
        station: Station,
        pairs: Keys,
        pair: tuple[str, str],
        socket: web.WebSocketResponse[bool],
        packets: Packets,
    ) -> None:
        self._station = station
        self._pairs = pairs
        self._pair = pair
        self._socket = socket
        self._packets = packets
        self._events: list[Event] = []
        self._reports: list[NodeReport] = []
        # Of what waits for its turn at Kafka.
        self._pending_bytes = 0
        self._patience_until = float("inf")
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._done = asyncio.Event()
        self._ended = False

    @contextmanager
    def held(self, connection: Connection, shares: Shares) -> Iterator[None]:
        """Count what arrives on the connection, and read it or let it wait, until the block ends."""
        self._connection = connection
        self._share: Share = shares.enter(self)
        connection.listener = self._share.arrived
        try:
            yield
        finally:
            connection.listener = None
            self._share.leave()

    def pause(self) -> None:
        """Read no further."""
        self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._connection.resume()

    def end_late(self) -> None:
        """End: others wait for the rest of its packet."""
        log.warning("agent link ended: the rest of a packet did not come", seconds=TURN_SECONDS)
        self._reading.cancel()

    async def run(self) -> None:
        """Read until the agent goes, or may no longer; publish what was read."""
        if self._share.paused:
            # Answering has set it going.
            self.pause()
        self._reading = asyncio.create_task(self._read())
        publishing = asyncio.create_task(self._publish_all())
        try:
            await asyncio.wait({self._reading, publishing}, return_when=asyncio.FIRST_COMPLETED)
            self._ended = True
            self._patience_until = time.monotonic() + CLOSE_SECONDS
            self._arrived.set()
            await asyncio.wait(
                {publishing}, timeout=2 * CLOSE_SECONDS + self._station.settings.publish_seconds
            )
        finally:
            for task in (self._reading, publishing):
                task.cancel()
            results = await asyncio.gather(self._reading, publishing, return_exceptions=True)
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
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
            except ConnectionError:
                return
            if message.type in _OVER:
                self._note_end(message.data)
                return
            cost = self._share.taken()
            kept = self._take(bytes(message.data), cost) if message.type is WSMsgType.TEXT else 0
            del message
            self._pending_bytes += kept
            self._share.free(cost - kept)
            if kept:
                self._arrived.set()
            while self._pending_bytes > LINK_BYTES:
                self._room.clear()
                await self._room.wait()

    def _note_end(self, why: object) -> None:
        if isinstance(why, WebSocketError) and why.code == WSCloseCode.MESSAGE_TOO_BIG:
            self._station.metrics.refused.labels("too_large").inc()
            log.warning("agent link ended: a packet is too large", most_bytes=MAX_PACKET_BYTES)

    def _take(self, text: bytes, cost: int) -> int:
        """Keep what a packet brings to publish; how many of its ``cost`` bytes that holds on to."""
        try:
            brought = self._packets.read(text, time.time(), time.monotonic())
        except Invalid as error:
            self._refused(error.message)
            return 0
        if brought is None:
            return 0
        if isinstance(brought, NodeReport):
            self._reports.append(brought)
            return MESSAGE_COST_BYTES
        if len(brought.data) > self._station.settings.max_event_bytes:
            self._refused("larger than an event may be")
            return 0
        # It holds on to the text that it was read from.
        self._events.append(brought)
        return cost

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
            held_bytes, self._pending_bytes = self._pending_bytes, 0
            events, self._events = self._events, []
            reports, self._reports = self._reports, []
            self._room.set()
            if events:
                await self._publish(events, "event")
            if reports:
                await self._publish(reports, "node_report")
            del events, reports
            self._share.free(held_bytes)
            if self._ended and not self._events and not self._reports:
                return

    async def _confirm(self) -> None:
        """Raises Denied when the pair stands no longer."""
        with contextlib.suppress(Overloaded, Unavailable):
            await granted(self._pairs, *self._pair)

    async def _publish(self, entries: list[Event] | list[NodeReport], kind: str) -> None:
        """Until it is acknowledged. Raises Denied, or what stood in the way for too long."""
        given_up_at = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                await self._publish_once(entries, kind)
                return
            except (Overloaded, Unavailable) as error:
                if time.monotonic() > min(given_up_at, self._patience_until):
                    self._station.metrics.refused.labels(reason(error)).inc(len(entries))
                    raise
                pause_seconds = min(error.retry_after_seconds, _LONGEST_PAUSE_SECONDS)
            # Not above: the error holds what was admitted, which is as much again.
            await asyncio.sleep(pause_seconds)

    async def _publish_once(self, entries: list[Event] | list[NodeReport], kind: str) -> None:
        """Raises Denied, Overloaded, Unavailable."""
        station = self._station
        grant = await granted(self._pairs, *self._pair)
        station.check()
        admitted = self._admit(entries, grant)
        count, rejections = admitted.count, admitted.rejections
        await station.publish(admitted, grant)
        for rejection in rejections:
            self._refused(rejection.error)
        station.metrics.accepted.labels(kind).inc(count)

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
