"""Run an application of aiohttp from its start to the end of its last request.

SIGTERM and SIGINT close the listening socket; then whoever holds connections open (WebSockets) is told to
let go of them, while what arrives is still read; requests in flight get ``shutdown_seconds`` to be
answered, then the application's own cleanup runs. A connection that idles between two requests is closed
after ``keep_alive_seconds``; ``connections`` bounds all that comes before a request is complete, bodies have
their own deadline (``bodies``).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.connections import Connection, ConnectionLimits, Connections
from schema.errors import Invalid

log = structlog.get_logger(__name__)

# What is left of a refused request's body is read and dropped this long, so that its sender sees the answer.
_LINGERING_SECONDS = 5.0
_MAX_HEADER_BYTES = 16 * 1024
_MAX_HEADERS = 100
# For the application's cleanup after the last request, which has bounds of its own.
_CLEANUP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and how long to listen; port 0 takes any free one.

    ``connections``: how many there may be; ``request_seconds``: how long a header may take to arrive, and an
    answer may wait to be read.
    """

    host: str
    port: int
    keep_alive_seconds: float
    shutdown_seconds: float
    backlog: int = 1024
    connections: int = 10_000
    request_seconds: float = 30.0


class _Server(web.Server):
    """Makes connections that keep to the door's limits."""

    def __init__(self, plain: web.Server, door: Connections, options: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(plain.request_handler, request_factory=plain.request_factory, loop=loop)
        self._door = door
        self._options = {"loop": loop, **options}

    def __call__(self) -> Connection:
        return Connection(self, door=self._door, **self._options)


class _Runner(web.AppRunner):
    """Looks at the few direct routes first; everything else goes the application's way."""

    __slots__ = ("direct", "door", "options")

    direct: Mapping[tuple[str, str], Handler]
    door: Connections
    options: dict[str, Any]

    async def _make_server(self) -> web.Server:
        server = _Server(await super()._make_server(), self.door, self.options)
        direct, routed = self.direct, server.request_handler

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            handler = direct.get((request.method, request.raw_path))
            if handler is None:
                return await routed(request)
            assert isinstance(request, web.Request)
            return await handler(request)

        if direct:
            server.request_handler = handle
        return server


@asynccontextmanager
async def listening(
    app: web.Application,
    where: Listening,
    direct: Mapping[tuple[str, str], Handler] | None = None,
    let_go: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs; gives the bound port. Leaving it drains.

    Raises Invalid when it cannot listen there.

    ``let_go``: ends long connections, within a bound of its own. aiohttp's own signal for that comes too
    late: by then it drops whatever else arrives on a connection.

    ``direct``: handlers by method and path that are called without routing and middleware, for the one
    route of a door where that would be felt; ``problems.direct_door`` makes them answer errors. The
    application needs the same routes, for what is not exactly so written.
    """
    options = {
        "access_log": None,
        "auto_decompress": False,
        "keepalive_timeout": where.keep_alive_seconds,
        "lingering_time": _LINGERING_SECONDS,
        "max_line_size": _MAX_HEADER_BYTES,
        "max_field_size": _MAX_HEADER_BYTES,
        "max_headers": _MAX_HEADERS,
    }
    limits = ConnectionLimits(where.connections, where.request_seconds, where.request_seconds)
    runner = _Runner(app, shutdown_timeout=where.shutdown_seconds)
    runner.direct = direct or {}
    runner.door = door = Connections(limits, asyncio.get_running_loop())
    runner.options = options
    await runner.setup()
    door.watch()
    try:
        site = web.TCPSite(runner, where.host, where.port, backlog=where.backlog)
        try:
            await site.start()
        except OSError as error:
            raise Invalid(f"cannot listen on {where.host}:{where.port}: {error.strerror or error}") from error
        port: int = runner.addresses[0][1]
        log.info("listening", host=where.host, port=port)
        yield port
        log.info("draining", requests_served=runner.server.requests_count if runner.server else 0)
        await site.stop()
        if let_go is not None:
            await let_go()
    finally:
        door.stop()
        try:
            async with asyncio.timeout(where.shutdown_seconds + _CLEANUP_SECONDS):
                await runner.cleanup()
        except TimeoutError:
            log.warning(
                "cleanup did not end in time", grace_seconds=where.shutdown_seconds + _CLEANUP_SECONDS
            )
        log.info("stopped")


async def serve(
    app: web.Application,
    where: Listening,
    *,
    direct: Mapping[tuple[str, str], Handler] | None = None,
    started: Callable[[int], None] | None = None,
    let_go: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises Invalid when it cannot listen there.

    ``direct``, ``let_go``: see ``listening``; ``started``: is told the port.
    """
    stop = asyncio.Event()
    with_signals(stop)
    async with listening(app, where, direct, let_go) as port:
        if started is not None:
            started(port)
        await stop.wait()


def with_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` on SIGTERM and SIGINT of this process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
