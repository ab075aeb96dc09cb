"""The far side of the client library: a real HTTP server that answers as a test tells it to.

It keeps what it acknowledged (and what it took before it broke off), so that a test can compare.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

Lines = list[bytes]
Answer = Callable[["FarGateway", web.Request, Lines], Awaitable[web.StreamResponse]]


class FarGateway:
    """Answers with what ``script`` holds, then with ``otherwise`` for ever."""

    def __init__(self) -> None:
        self.script: deque[Answer] = deque()
        self.otherwise: Answer = accepting
        self.bodies: list[bytes] = []
        self.requested_at: list[float] = []
        self.keys: list[str] = []
        self.stored: list[bytes] = []
        self.reports: list[dict[str, Any]] = []
        self.url = ""
        self.asked = asyncio.Event()

    def stored_numbers(self) -> list[int]:
        return [orjson.loads(line)["data"]["number"] for line in self.stored]

    async def events(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(body)
        self.asked.set()
        self.requested_at.append(asyncio.get_running_loop().time())
        self.keys.append(request.headers.get("X-Api-Key", ""))
        answer = self.script.popleft() if self.script else self.otherwise
        return await answer(self, request, body.split(b"\n"))

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        reports = [orjson.loads(line) for line in (await request.read()).split(b"\n")]
        self.reports += reports
        return web.json_response({"accepted": len(reports), "rejected": [], "receipt": ""}, status=202)


async def accepting(gateway: FarGateway, _request: web.Request, lines: Lines) -> web.StreamResponse:
    gateway.stored += lines
    return web.json_response({"accepted": len(lines), "rejected": [], "receipt": "r"}, status=202)


async def resetting(_gateway: FarGateway, request: web.Request, _lines: Lines) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def storing_then_resetting(
    gateway: FarGateway, request: web.Request, lines: Lines
) -> web.StreamResponse:
    gateway.stored += lines
    return await resetting(gateway, request, lines)


async def storing_then_hanging(
    gateway: FarGateway, _request: web.Request, lines: Lines
) -> web.StreamResponse:
    gateway.stored += lines
    await asyncio.sleep(60)
    return web.Response()


def saying(
    status: int,
    body: object = None,
    *,
    content_type: str = "application/problem+json",
    headers: dict[str, str] | None = None,
) -> Answer:
    async def answer(_gateway: FarGateway, _request: web.Request, _lines: Lines) -> web.StreamResponse:
        raw = (
            body.encode() if isinstance(body, str) else orjson.dumps(body or {"detail": f"made up {status}"})
        )
        return web.Response(status=status, body=raw, content_type=content_type, headers=headers)

    return answer


def refusing(bad: Callable[[bytes], bool]) -> Answer:
    """As the gateway does: keeps the good ones of a batch, 400 when there are none."""

    async def answer(gateway: FarGateway, _request: web.Request, lines: Lines) -> web.StreamResponse:
        rejected = [
            {"index": index, "error": "made-up reason"} for index, line in enumerate(lines) if bad(line)
        ]
        good = [line for line in lines if not bad(line)]
        gateway.stored += good
        body = {"accepted": len(good), "rejected": rejected, "receipt": ""}
        return web.json_response(body, status=202 if good else 400)

    return answer


def at_most(size_bytes: int) -> Answer:
    async def answer(gateway: FarGateway, request: web.Request, lines: Lines) -> web.StreamResponse:
        if sum(map(len, lines)) + len(lines) - 1 > size_bytes:
            return web.json_response({"detail": "too large"}, status=413)
        return await accepting(gateway, request, lines)

    return answer


@asynccontextmanager
async def far_gateway() -> AsyncIterator[FarGateway]:
    gateway = FarGateway()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/events", gateway.events)
    app.router.add_post("/v1/nodes", gateway.nodes)

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gateway
    finally:
        await runner.cleanup()
