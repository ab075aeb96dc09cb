"""The client library: put events, and they arrive, once.

    async with sending(gateway="http://127.0.0.1:8081", key=key, folder=Path("buffer")) as client:
        await client.put([{"name": "door.opened", "device": "door-7"}])

Above it is whoever has events (the agent, or a program of yours), below it one buffer and one sender for
events and one of each for node reports. The guarantee is the buffer's and the sender's: what ``put``
returned for survives this process, is repeated until the gateway answered for it, and is stored once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from prometheus_client import CollectorRegistry
from yarl import URL

from ingest.agent.buffer import Buffer
from ingest.agent.sender import Kind, Pace, Sender, gateway_session, gateway_url
from ingest.agent.stamps import Clock, new_event_id, stamped_event, stamped_report
from schema.errors import Unavailable
from schema.metrics import AgentMetrics

log = structlog.get_logger(__name__)

_MIB = 1024 * 1024
_SAY_AGAIN_SECONDS = 60.0
_LOOK_SECONDS = 0.02
# Node reports are few and small: an eighth of the folder holds days of them.
_REPORTS_SHARE = 8


@dataclass(slots=True)
class Lane:
    """One kind's way: a buffer and its sender."""

    kind: Kind
    buffer: Buffer
    sender: Sender
    said_at: float = float("-inf")


class Client:
    """Made by ``sending``. Its methods belong to one event loop."""

    def __init__(
        self,
        events: Lane,
        reports: Lane,
        *,
        session: aiohttp.ClientSession,
        gateway: URL,
        metrics: AgentMetrics,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._events = events
        self._reports = reports
        self._session = session
        self._gateway = gateway
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self.tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """Events' way and node reports' way."""
        return self._events, self._reports

    @property
    def dropped_events(self) -> int:
        """Events pushed out of the full buffer since it was opened."""
        return self._events.buffer.dropped_events

    @property
    def receipt(self) -> str:
        """Of the latest acknowledged batch of events: a query that carries it sees them."""
        return self._events.sender.receipt

    async def put(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Buffer events; their ids, in order. They are on disk, not yet acknowledged, when this returns.

        Raises Invalid (then none of them is buffered), or Unavailable when the disk does not take them.
        """
        stamped = [stamped_event(event, self._clock, self._new_id) for event in events]
        await self._append(self._events, [line for _, line in stamped])
        return [event_id for event_id, _ in stamped]

    async def report(self, report: Mapping[str, Any]) -> None:
        """Buffer a node report. Raises as ``put``."""
        await self._append(self._reports, [stamped_report(report, self._clock)])

    async def drained(self, timeout_seconds: float) -> bool:
        """Whether everything was answered for within that time."""
        deadline = time.monotonic() + timeout_seconds
        self._raise_what_ended_them()
        while any(lane.buffer.waiting_events for lane in self.lanes):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    @property
    def trouble(self) -> str:
        """Why the latest batch is not delivered yet; empty when all is well."""
        return self._events.sender.trouble or self._reports.sender.trouble

    async def round_trip_seconds(self, timeout_seconds: float = 1.5) -> float | None:
        """The time of a small request to the gateway and back; None if it does not answer.

        The faster of two, so that making a connection is not part of it.
        """
        taken: list[float] = []
        try:
            async with asyncio.timeout(timeout_seconds):
                for _ in range(2):
                    begin = time.perf_counter()
                    async with self._session.get(
                        self._gateway / "healthz", allow_redirects=False
                    ) as response:
                        await response.content.read(1024)
                    taken.append(time.perf_counter() - begin)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        self._metrics.round_trip_seconds.set(min(taken))
        return min(taken)

    def _raise_what_ended_them(self) -> None:
        # Nobody waits for the senders until the block ends; their error shall not wait for that.
        for task in self.tasks:
            if task.done():
                task.result()

    async def _append(self, lane: Lane, lines: list[bytes]) -> None:
        self._raise_what_ended_them()
        try:
            dropped = await asyncio.to_thread(lane.buffer.append, lines)
        except Unavailable:
            self._metrics.lost.labels(lane.kind, "disk").inc(len(lines))
            raise
        self._metrics.buffered.labels(lane.kind).inc(len(lines))
        if dropped:
            self._metrics.lost.labels(lane.kind, "buffer_full").inc(dropped)
            if time.monotonic() - lane.said_at >= _SAY_AGAIN_SECONDS:
                lane.said_at = time.monotonic()
                log.error(
                    "buffer full",
                    kind=lane.kind,
                    dropped_now=dropped,
                    dropped=lane.buffer.dropped_events,
                    hint="the oldest are gone; the gateway was away for longer than the buffer lasts",
                )
        lane.sender.wake()


@asynccontextmanager
async def sending(
    *,
    gateway: str,
    key: str,
    folder: Path,
    max_bytes: int = 64 * _MIB,
    sync_seconds: float = 1.0,
    metrics: AgentMetrics | None = None,
    pace: Pace | None = None,
    clock: Clock = time.time,
    new_id: Callable[[], str] = new_event_id,
) -> AsyncIterator[Client]:
    """A client whose buffer is ``folder``, and which sends while the block runs.

    Leaving the block stops within a few seconds; what is unsent stays for the next client with this
    folder (``drained`` waits for it). Raises Invalid: a bad address or key, a folder in use.
    """
    metrics = metrics or AgentMetrics(CollectorRegistry())
    pace = pace or Pace()
    url = gateway_url(gateway)
    async with gateway_session(key, pace) as session:
        with ExitStack() as buffers:

            def lane(kind: Kind, name: str, share_bytes: int) -> Lane:
                buffer = Buffer(folder / name, max_bytes=share_bytes, sync_seconds=sync_seconds)
                buffers.callback(buffer.close)
                _say_what_was_found(kind, buffer)
                metrics.waiting_events.labels(kind).set_function(lambda: buffer.waiting_events)
                metrics.waiting_bytes.labels(kind).set_function(lambda: buffer.size_bytes)
                return Lane(kind, buffer, Sender(buffer, session, url, kind, metrics, pace=pace, clock=clock))

            reports_bytes = max_bytes // _REPORTS_SHARE
            client = Client(
                lane("event", "events", max_bytes - reports_bytes),
                lane("node_report", "nodes", reports_bytes),
                session=session,
                gateway=url,
                metrics=metrics,
                clock=clock,
                new_id=new_id,
            )
            done = asyncio.Event()
            client.tasks = (
                *(asyncio.create_task(each.sender.run()) for each in client.lanes),
                asyncio.create_task(_keep_synced(client.lanes, sync_seconds or 1.0, done)),
            )
            # No TaskGroup: it would wrap the caller's own errors into a group.
            try:
                yield client
            finally:
                done.set()
                for each in client.lanes:
                    each.sender.stop()
                # All of them, where one has failed too: they use the buffers until they end.
                await asyncio.wait(client.tasks)
                for task in client.tasks:
                    task.result()


async def _keep_synced(lanes: tuple[Lane, ...], sync_seconds: float, done: asyncio.Event) -> None:
    while not done.is_set():
        try:
            await asyncio.wait_for(done.wait(), sync_seconds)
        except TimeoutError:
            for lane in lanes:
                try:
                    await asyncio.to_thread(lane.buffer.sync)
                except Unavailable as error:
                    log.warning("buffer unsynced", kind=lane.kind, error=error.message)


def _say_what_was_found(kind: Kind, buffer: Buffer) -> None:
    if buffer.damaged_bytes:
        log.error("buffer damaged", kind=kind, damaged_bytes=buffer.damaged_bytes)
    if buffer.waiting_events:
        log.info("buffer resumed", kind=kind, waiting_events=buffer.waiting_events)
