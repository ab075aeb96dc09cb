"""Connections that ask for nothing, ask slowly or never read: each ends within its bound, and makes room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.connections import ConnectionLimits
from api.http.problems import door
from api.http.serving import Listening, listening
from schema.metrics import DoorMetrics
from tests.support.bounds import AT_AND_ABOVE

MOST = 16
SECONDS = 1.0
HEADER_BYTES = ConnectionLimits(1, 1, 1).header_bytes
LARGE = 40 * 1024 * 1024
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Talk:
    """Connections to one door, all closed at the end of a test."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, receive_bytes: int | None = None) -> Pair:
        """``receive_bytes``: a small buffer, so that what is read is soon asked for again."""
        plain = socket.socket()
        if receive_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=plain)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, pair: Pair, path: str = "/") -> bytes:
        """One request on a connection that stays; the first line of its answer."""
        reader, writer = pair
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        await reader.readexactly(length)
        return head.split(b"\r\n")[0]


async def ended(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """All that still came, if the connection ends in time."""
    found = b""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                found += piece
    return found


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    """A door with few places and little patience."""
    release = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="well")

    async def wait(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="at last")

    async def much(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    app = web.Application(middlewares=[door(DoorMetrics(CollectorRegistry()))])
    app.router.add_get("/", answer)
    app.router.add_get("/wait", wait)
    app.router.add_get("/much", much)
    where = Listening("127.0.0.1", 0, 60.0, 1.0, connections=MOST, request_seconds=SECONDS)
    async with listening(app, where) as port:
        talk = Talk(port)
        yield talk
        release.set()
        for writer in talk.writers:
            writer.close()


async def dribble(writer: asyncio.StreamWriter, text: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        for byte in text * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)


async def test_a_connection_that_never_asks_is_closed(talk: Talk) -> None:
    before = time.monotonic()
    reader, _ = await talk.connect()
    assert await ended(reader, SECONDS + 5) == b""
    assert time.monotonic() - before > 0.8 * SECONDS


@AT_AND_ABOVE
async def test_a_header_has_its_seconds(talk: Talk, beyond: int) -> None:
    reader, writer = await talk.connect()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    await writer.drain()
    await asyncio.sleep(0.3 * SECONDS + beyond * (SECONDS + 1.5))
    with contextlib.suppress(ConnectionError):
        writer.write(b"\r\n")
        await writer.drain()
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert head.split()[1] == (b"408" if beyond else b"200")


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_slow_header_is_given_up(talk: Talk, asked_before: bool) -> None:
    reader, writer = pair = await talk.connect()
    if asked_before:
        await talk.ask(pair)
        # Between two requests there is more time.
        await asyncio.sleep(SECONDS + 2)
        assert await talk.ask(pair) == b"HTTP/1.1 200 OK"
    dribbling = asyncio.create_task(dribble(writer, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "))
    try:
        assert (await ended(reader, SECONDS + 7)).startswith(b"HTTP/1.1 408 ")
    finally:
        dribbling.cancel()


@AT_AND_ABOVE
async def test_headers_are_bounded_in_all(talk: Talk, beyond: int) -> None:
    reader, writer = await talk.connect()
    start = b"GET / HTTP/1.1\r\nHost: x\r\n"
    fields = b"".join(b"X-%02d: %b\r\n" % (n, b"v" * 1000) for n in range(64))
    left = HEADER_BYTES + beyond - len(start) - len(fields) - len(b"X: \r\n")
    writer.write(start + fields + b"X: " + b"v" * left + b"\r\n")
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.write(b"\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert head.split()[1] == (b"431" if beyond else b"200")


@AT_AND_ABOVE
async def test_fields_and_lines_are_bounded(talk: Talk, beyond: int) -> None:
    async def status(fields: bytes, path: bytes = b"/") -> bytes:
        reader, writer = await talk.connect()
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
        return (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).split()[1]

    # Beside the host.
    fields = b"".join(b"X-%d: a\r\n" % n for n in range(99 + beyond))
    assert await status(fields) == (b"400" if beyond else b"200")
    long = b"a" * (16 * 1024 + beyond)
    assert await status(b"X: " + long + b"\r\n") == (b"431" if beyond else b"200")
    assert await status(b"", b"/" + long[1:]) == (b"431" if beyond else b"404")


@AT_AND_ABOVE
async def test_an_answer_that_nobody_reads_is_dropped(talk: Talk, beyond: int) -> None:
    reader, writer = await talk.connect(64 * 1024)
    writer.write(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
    if beyond:
        await asyncio.sleep(SECONDS + 2.5)
        assert len(await ended(reader, 5)) < LARGE
        return
    # One that is read, however slowly, is not.
    found = 0
    for _ in range(10):
        found += len(await reader.read(1024 * 1024))
        await asyncio.sleep(0.25)
    while found < LARGE:
        piece = await asyncio.wait_for(reader.read(1024 * 1024), 5)
        assert piece
        found += len(piece)


@AT_AND_ABOVE
async def test_a_full_door_closes_the_longest_idle_before_it_turns_anybody_away(
    talk: Talk, beyond: int
) -> None:
    pairs = [await talk.connect() for _ in range(MOST)]
    for pair in pairs:
        assert await talk.ask(pair) == b"HTTP/1.1 200 OK"
    if beyond:
        assert await talk.ask(await talk.connect()) == b"HTTP/1.1 200 OK"
        assert await ended(pairs[0][0], 5) == b""
    else:
        assert await talk.ask(pairs[0]) == b"HTTP/1.1 200 OK"
    assert await talk.ask(pairs[-1]) == b"HTTP/1.1 200 OK"


@AT_AND_ABOVE
async def test_a_door_full_of_requests_says_so(talk: Talk, beyond: int) -> None:
    for _ in range(MOST - 1 + beyond):
        _, writer = await talk.connect()
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.3)
    if not beyond:
        assert await talk.ask(await talk.connect()) == b"HTTP/1.1 200 OK"
        return
    reader, _ = await talk.connect()
    answer = await ended(reader, 5)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    talk.writers.pop().close()
    talk.writers.pop().close()
    await asyncio.sleep(0.2)
    assert await talk.ask(await talk.connect()) == b"HTTP/1.1 200 OK"


async def test_what_was_sent_instead_of_http_is_neither_logged_nor_sent_back(
    talk: Talk, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in (
        b"X-Km-Secret hunter2: a",
        b"X: \x00hunter2",
        b" folded: hunter2",
        b"Content-Length: hunter2",
    ):
        reader, writer = await talk.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + wrong + b"\r\n\r\n")
        answer = await ended(reader, 5)
        assert answer.split()[1] == b"400", wrong
        assert b"hunter2" not in answer
    await asyncio.sleep(1.5)
    written = capfd.readouterr()
    assert "hunter2" not in written.out + written.err + caplog.text
    assert "malformed" in written.out + written.err + caplog.text


@AT_AND_ABOVE
async def test_an_idle_connection_is_closed(beyond: int) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application()
    app.router.add_get("/", answer)
    async with listening(app, Listening("127.0.0.1", 0, 1.0, 1.0)) as port:
        talk = Talk(port)
        pair = await talk.connect()
        for _ in range(3):
            await asyncio.sleep(0.4)
            assert await talk.ask(pair) == b"HTTP/1.1 200 OK"
        if beyond:
            before = time.monotonic()
            assert await ended(pair[0], 6) == b""
            assert time.monotonic() - before > 0.7
        pair[1].close()
