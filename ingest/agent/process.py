"""``weir agent``: this machine's node reports and events, until SIGTERM or SIGINT.

Two loops feed one client: reports at the interval, each with the round trip to the gateway measured just
before it, and readings (processes every second, the rest at the interval). The guarantee: it stops
within five seconds, and what was not acknowledged by then is in the buffer for the next start.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.health import Check, add_health_routes
from api.http.serving import Listening, listening, with_signals
from ingest.agent.client import Client, sending
from ingest.agent.readings import (
    Event,
    Machine,
    agent_dropped,
    agent_started,
    agent_stopped,
    node_report,
    process_events,
    system_events,
)
from ingest.agent.snapshots import (
    ProcessTable,
    ProcessWatch,
    Snapshot,
    machine_address,
    storable,
    take_snapshot,
)
from ingest.agent.stamps import Clock
from schema.errors import Invalid, Unavailable
from schema.logs import configure_logs
from schema.metrics import AgentMetrics
from schema.settings import AgentSettings, settings_or_exit

log = structlog.get_logger(__name__)

STOP_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_LAST_WORDS_SECONDS = 1.0
_HANG_SECONDS = 10.0
_SAY_AGAIN_SECONDS = 60.0

_Look = tuple[ProcessTable, Snapshot | None, float]


def main() -> int:
    """Run until a signal; 0: stopped, 2: a setting is wrong."""
    settings = settings_or_exit(AgentSettings, "agent")
    configure_logs(settings, "agent")
    try:
        asyncio.run(run(settings))
    except Invalid as error:
        log.critical("cannot start", error=error.message)
        return 2
    return 0


async def run(settings: AgentSettings) -> None:
    """The agent, until a signal. Raises Invalid for a setting that cannot be."""
    stop = asyncio.Event()
    with_signals(stop)
    registry = CollectorRegistry()
    try:
        async with (
            sending(
                gateway=settings.agent_gateway,
                key=settings.agent_key,
                folder=Path(settings.agent_buffer_path),
                max_bytes=settings.agent_buffer_bytes,
                sync_seconds=settings.agent_sync_seconds,
                metrics=AgentMetrics(registry),
            ) as client,
            _door(settings, client, registry),
        ):
            agent = Agent(client, settings.agent_interval_seconds, _machine(settings), stop)
            log.info("started", gateway=settings.agent_gateway, machine=agent.machine.name)
            await agent.run()
    finally:
        log.info("stopped")


class Agent:
    """The two loops. ``stop`` ends them."""

    def __init__(
        self,
        client: Client,
        interval_seconds: int,
        machine: Machine,
        stop: asyncio.Event,
        clock: Clock = time.time,
    ) -> None:
        self.machine = machine
        self._client = client
        self._interval_seconds = interval_seconds
        self._stop = stop
        self._clock = clock
        self._version = weir_version()
        self._said_at = float("-inf")

    async def run(self) -> None:
        """Report and read until ``stop``; then give the last words a moment to go out."""
        begin = time.monotonic()
        await self._put([agent_started(self.machine, self._clock(), self._version, self._interval_seconds)])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report())
            group.create_task(self._read())
            await self._stop.wait()
            _bound_the_stop()
        await self._put([agent_stopped(self.machine, self._clock(), time.monotonic() - begin)])
        if not self._client.trouble:
            await self._client.drained(_LAST_WORDS_SECONDS)

    async def _report(self) -> None:
        ip = await asyncio.to_thread(machine_address)
        async for _ in self._ticks(self._interval_seconds):
            latency_seconds = await self._client.round_trip_seconds()
            report = node_report(
                self.machine,
                ip=ip,
                version=self._version,
                at=self._clock(),
                interval_seconds=self._interval_seconds,
                latency_seconds=latency_seconds,
            )
            try:
                await self._client.report(report)
            except Unavailable as error:
                self._say_unbuffered(error)

    async def _read(self) -> None:
        watch = ProcessWatch()
        table: ProcessTable | None = None
        snapshot: Snapshot | None = None
        dropped_events = 0
        looks_an_interval = round(self._interval_seconds / _LOOK_SECONDS)
        look = 0
        async for _ in self._ticks(_LOOK_SECONDS):
            # The second look too, so that rates are there soon after the start.
            thoroughly = look % looks_an_interval == 0 or look == 1
            look += 1
            found = await self._in_thread(partial(_look, watch, self._clock, thoroughly=thoroughly))
            if found is None:
                return
            now, current, taken_at = found
            events: list[Event] = []
            if table is not None:
                events += process_events(self.machine, table, now, taken_at)
            if current is not None:
                events += system_events(self.machine, snapshot, current)
                snapshot = current
                if self._client.dropped_events > dropped_events:
                    gap = self._client.dropped_events - dropped_events
                    dropped_events += gap
                    events.append(agent_dropped(self.machine, taken_at, gap))
            table = now
            await self._put(events)

    async def _put(self, events: list[Event]) -> None:
        if not events:
            return
        try:
            await self._client.put(events)
        except Unavailable as error:
            self._say_unbuffered(error)

    def _say_unbuffered(self, error: Unavailable) -> None:
        if time.monotonic() - self._said_at >= _SAY_AGAIN_SECONDS:
            self._said_at = time.monotonic()
            log.error("not buffered", error=error.message, hint="these events are lost")

    async def _ticks(self, seconds: float) -> AsyncIterator[None]:
        # Steady, and without catching up on what a slow machine or a suspend has missed.
        next_at = time.monotonic()
        while not self._stop.is_set():
            yield
            next_at = max(next_at + seconds, time.monotonic())
            try:
                await asyncio.wait_for(self._stop.wait(), next_at - time.monotonic())
            except TimeoutError:
                continue

    async def _in_thread(self, look: Callable[[], _Look]) -> _Look | None:
        """The look's result; None if we are to stop while it hangs (a disk that does not answer can)."""
        looking = asyncio.get_running_loop().run_in_executor(None, look)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            while True:
                await asyncio.wait(
                    (looking, stop), timeout=_HANG_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if looking.done():
                    return looking.result()
                if stop.done():
                    return None
                log.warning("readings hang", hint="a disk or a sensor does not answer; reports go on")
        finally:
            stop.cancel()


def weir_version() -> str:
    """The installed distribution's version."""
    try:
        return version("weir")
    except PackageNotFoundError:
        return "unknown"


def _look(watch: ProcessWatch, clock: Clock, *, thoroughly: bool) -> _Look:
    table = watch.look(thoroughly=thoroughly)
    return table, take_snapshot(clock) if thoroughly else None, clock()


def _machine(settings: AgentSettings) -> Machine:
    return Machine(storable(settings.agent_server_name or socket.gethostname()) or "unnamed")


def _bound_the_stop() -> None:
    # A thread that hangs in the kernel would hold up the interpreter's end; the buffer needs no farewell.
    timer = threading.Timer(STOP_SECONDS - 0.5, os._exit, (1,))
    timer.daemon = True
    timer.start()


@asynccontextmanager
async def _door(settings: AgentSettings, client: Client, registry: CollectorRegistry) -> AsyncIterator[None]:
    """/healthz, /readyz and /metrics, if a port is set."""

    async def gateway() -> str | None:
        return client.trouble or None

    async with AsyncExitStack() as stack:
        if settings.agent_port is not None:
            app = web.Application()
            add_health_routes(app, [Check("gateway", gateway)], registry)
            where = Listening(settings.agent_host, settings.agent_port, 75.0, 1.0, connections=100)
            await stack.enter_async_context(listening(app, where))
        yield


if __name__ == "__main__":
    sys.exit(main())
