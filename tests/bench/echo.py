"""The least that an aiohttp server can do: ``python -m tests.bench.echo PORT`` reads a body and answers
202."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from aiohttp import web

# As long as a gateway's answer.
_BODY = b'{"accepted":1,"rejected":[],"receipt":"' + b"A" * 20 + b'"}'


async def _echo(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=_BODY, status=202, content_type="application/json")


async def _health(_request: web.Request) -> web.Response:
    return web.Response()


async def _serve(port: int) -> None:
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/events", _echo)
    app.router.add_get("/readyz", _health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
