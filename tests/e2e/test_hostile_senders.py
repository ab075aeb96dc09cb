"""Whoever speaks no honest HTTP to a door: refused or closed in time, at no cost to the others or to memory.

Raw sockets against real processes. The bound for a request is made small, so that nobody has to wait for it;
what holds of it holds of the 30 seconds that are its default.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import resource
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from schema.settings import ApiSettings, GatewaySettings
from tests.support.databases import clone_of
from tests.support.processes import Process, Weir, deployed
from tests.support.topics import TopicNames, unique_prefix

REQUEST_SECONDS = 2
# A round of every second, lingering, and a busy machine.
PATIENCE_SECONDS = 14.0
MANY = 10_000
GROWTH_BYTES = 60 * 1024 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Door:
    process: Process
    path: str
    key: str
    honest: bytes

    def head(self, *fields: str) -> bytes:
        """A request's header with a good key, not ended yet."""
        lines = [f"POST {self.path} HTTP/1.1", "Host: x", f"X-Api-Key: {self.key}", *fields]
        return ("\r\n".join(lines) + "\r\n").encode()

    def request(self, body: bytes, *fields: str) -> bytes:
        return self.head(f"Content-Length: {len(body)}", *fields) + b"\r\n" + body


@pytest.fixture(scope="module")
def weir(
    kafka_bootstrap: str,
    database_server: str,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Weir]:
    """One deployment for all of these tests: what they do must not matter to the next."""
    names = TopicNames(unique_prefix())
    folder: Path = tmp_path_factory.mktemp("hostile")
    with (
        clone_of(database_server, template_database) as dsn,
        deployed(
            kafka_bootstrap,
            dsn,
            names,
            folder,
            WEIR_REQUEST_SECONDS=str(REQUEST_SECONDS),
            WEIR_KEEP_ALIVE_SECONDS="20",
        ) as found,
    ):
        found.start("gateway")
        found.start("api")
        yield found


@pytest.fixture
def doors(weir: Weir) -> dict[str, Door]:
    """Where one may write, and where one may ask."""
    gateway, api = weir.processes
    path = f"/api/bucket/{weir.credentials.bucket_id}/data/events"
    return {
        "gateway": Door(gateway, "/v1/events", weir.credentials.ingest_key, b'{"name":"a"}'),
        "api": Door(api, path, weir.credentials.read_key, b'{"event_name":"a"}'),
    }


@pytest.fixture(params=["gateway", "api"])
def door(doors: dict[str, Door], request: pytest.FixtureRequest) -> Door:
    return doors[str(request.param)]


async def connected(door: Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", door.process.port)


async def heard(reader: asyncio.StreamReader, seconds: float = PATIENCE_SECONDS) -> bytes:
    """All that comes until the connection is closed. Fails when it is not."""
    found = b""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                found += piece
    return found


async def said(door: Door, pieces: AsyncIterator[bytes]) -> bytes:
    """What comes back for pieces that are sent until nobody takes them."""
    reader, writer = await connected(door)

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            async for piece in pieces:
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        return await heard(reader)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()


async def once(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def again_and_again(start: bytes, piece: bytes, pause_seconds: float = 0.0) -> AsyncIterator[bytes]:
    yield start
    while True:
        yield piece
        await asyncio.sleep(pause_seconds)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


async def check_honest(door: Door) -> None:
    """An honest request is answered, soon."""
    before = time.monotonic()
    answer = await said(door, once(door.request(door.honest, "Connection: close")))
    assert statuses(answer)[0] in (200, 202), answer[:300]
    assert time.monotonic() - before < 5


async def check_memory(door: Door, before: int) -> None:
    """Back to where it was, soon after."""
    deadline = time.monotonic() + 20
    while (now := door.process.resident_bytes) > before + GROWTH_BYTES:
        assert time.monotonic() < deadline, f"{before / MIB:.0f} MiB before, {now / MIB:.0f} MiB now"
        await asyncio.sleep(0.5)


NESTED = b'{"name":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BOMBS = {
    "gzip": (gzip.compress(bytes(200 * MIB), 9), "Content-Encoding: gzip", {413}),
    "deflate": (zlib.compress(bytes(200 * MIB), 9), "Content-Encoding: deflate", {413}),
    "zstd": (zstandard.compress(bytes(500 * MIB)), "Content-Encoding: zstd", {413}),
    "a bomb in a bomb": (
        gzip.compress(gzip.compress(bytes(200 * MIB), 9)),
        "Content-Encoding: gzip, gzip",
        {415},
    ),
    "nested arrays": (NESTED, "X: 1", {400}),
    "nested arrays alone": (b"[" * 1_000_000, "X: 1", {400}),
    "a huge key": (b'{"name":"a","data":{"' + b"k" * 900_000 + b'":1}}', "X: 1", {200, 400, 413}),
    "a huge field": (b'{"' + b"k" * 900_000 + b'":1}', "X: 1", {200, 400, 413}),
    "1e400": (b'{"name":"a","data":{"x":1e400},"limit":1e400}', "X: 1", {400}),
    "an integer of 500000 digits": (
        b'{"name":"a","data":{"x":' + b"9" * 500_000 + b'},"limit":' + b"9" * 400_000 + b"}",
        "X: 1",
        {400, 413},
    ),
    "a moment of 500000 digits": (
        b'{"name":"a","observed_at":' + b"9" * 500_000 + b',"start":' + b"9" * 400_000 + b"}",
        "X: 1",
        {400, 413},
    ),
}


async def test_bombs_are_refused_and_memory_returns(door: Door) -> None:
    await check_honest(door)
    before = door.process.resident_bytes
    for kind, (body, field, allowed) in BOMBS.items():
        answer = await said(door, once(door.request(body, field, "Connection: close")))
        # A refusal may come before all of the body was sent; then the connection may end without its words.
        assert not answer or statuses(answer)[0] in allowed, (kind, answer[:300])
    await check_honest(door)
    await check_memory(door, before)


BODY_BYTES = 10 * MIB
RESIDENT_BYTES = 250 * MIB
JSON_TYPE = "application/json"


def filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    """As many pieces as a body of the largest size has room for; the last without its comma."""
    count = (BODY_BYTES - len(start) - len(end)) // len(piece)
    return start + (piece * count).rstrip(b",") + end


# Of the largest size, with millions of elements each: what is sent, its media type.
COUNTED = {
    "ones": (filled(b"[", b"1,", b"]"), JSON_TYPE),
    "objects": (filled(b"[", b"{},", b"]"), JSON_TYPE),
    "an envelope": (filled(b'{"events":[', b"{},", b"]}"), JSON_TYPE),
    "an escaped envelope": (filled(b'{"\\u0065vents":[', b"1,", b"]}"), JSON_TYPE),
    "an envelope twice": (filled(b'{"events":[],"events":[', b"1,", b"]}"), JSON_TYPE),
    "a batch": (filled(b"[", b"{},", b"]"), "application/cloudevents-batch+json"),
    "empty lines": (b"\n" * BODY_BYTES, "application/x-ndjson"),
    "lines": (b"1\n" * (BODY_BYTES // 2), "application/x-ndjson"),
}


@pytest.mark.parametrize("kind", COUNTED)
async def test_millions_of_elements_are_refused_within_memory(doors: dict[str, Door], kind: str) -> None:
    """Packed, so that all of it is there at once; others are answered meanwhile."""
    door = doors["gateway"]
    body, media_type = COUNTED[kind]
    packed = gzip.compress(body, 1)
    fields = ("Content-Encoding: gzip", f"Content-Type: {media_type}", "Connection: close")
    hostile = asyncio.create_task(said(door, once(door.request(packed, *fields))))
    most = 0
    before = time.monotonic()
    honest = asyncio.create_task(said(door, once(door.request(door.honest, "Connection: close"))))
    waited_seconds = 0.0
    while not (hostile.done() and honest.done()):
        most = max(most, door.process.resident_bytes)
        if not honest.done():
            waited_seconds = time.monotonic() - before
        await asyncio.sleep(0.01)
    # Blank lines are no entries: none is refused, and none accepted.
    assert statuses(hostile.result()) == [202 if kind == "empty lines" else 400], hostile.result()[:300]
    assert statuses(honest.result()) == [202], honest.result()[:300]
    assert waited_seconds < 4
    assert most < RESIDENT_BYTES, f"{most / MIB:.0f} MiB"


Slow = Callable[[Door], AsyncIterator[bytes]]
SLOW: dict[str, tuple[Slow, set[int]]] = {
    "nothing": (lambda _door: once(), set()),
    "half a line": (lambda _door: once(b"POST /v1/ev"), {408}),
    "a slow header": (lambda door: again_and_again(door.head() + b"X-Slow: ", b"a", 0.1), {408}),
    "slow fields": (lambda door: again_and_again(door.head(), b"X: a\r\n", 0.3), {408}),
    "a slow body": (
        lambda door: again_and_again(door.head("Content-Length: 1000") + b"\r\n", b"[", 0.1),
        {408},
    ),
    "a slow body in chunks": (
        lambda door: again_and_again(door.head("Transfer-Encoding: chunked") + b"\r\n", b"1\r\n[\r\n", 0.1),
        {408},
    ),
    "half a body": (lambda door: once(door.head("Content-Length: 1000") + b"\r\n[{"), {408}),
    "a slow packed body": (
        lambda door: again_and_again(
            door.head("Content-Length: 1000", "Content-Encoding: gzip") + b"\r\n", b"\x1f", 1.0
        ),
        {400, 408},
    ),
    "an endless body": (
        lambda door: again_and_again(
            door.head("Transfer-Encoding: chunked") + b"\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"
        ),
        {413},
    ),
    "an endless chunk extension": (
        lambda door: again_and_again(door.head("Transfer-Encoding: chunked") + b"\r\n1;", b"e" * 4096, 0.01),
        {400, 408},
    ),
    "endless trailers": (
        lambda door: again_and_again(
            door.head("Transfer-Encoding: chunked") + b"\r\n1\r\n[\r\n0\r\n", b"X: a\r\n", 0.01
        ),
        {400, 408},
    ),
    "an endless body to nowhere": (
        lambda _door: again_and_again(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b" " * 65536 + b"\r\n",
        ),
        {404},
    ),
    "an endless body without a key": (
        lambda door: again_and_again(
            f"POST {door.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
            b"10000\r\n" + b" " * 65536 + b"\r\n",
        ),
        {401},
    ),
    "many fields": (
        lambda door: once(door.head() + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n"),
        {400, 431},
    ),
    "endless fields": (lambda door: again_and_again(door.head(), b"X: " + b"a" * 1000 + b"\r\n"), {400, 431}),
    "an endless field": (lambda door: again_and_again(door.head() + b"X: ", b"a" * 4096), {400, 431}),
    "an endless line": (lambda _door: again_and_again(b"POST /", b"a" * 4096), {400, 431}),
}


async def test_slow_and_endless_requests_end_in_time_and_memory_returns(doors: dict[str, Door]) -> None:
    """Several of each kind side by side, and honest requests between them."""
    await asyncio.gather(*map(_endure, doors.values()))


async def _endure(door: Door) -> None:
    await check_honest(door)
    before = door.process.resident_bytes
    kinds = [*SLOW] * 3
    talks = [asyncio.create_task(said(door, SLOW[kind][0](door))) for kind in kinds]
    for _ in range(3):
        await asyncio.sleep(REQUEST_SECONDS / 2)
        await check_honest(door)
    for kind, talk in zip(kinds, talks, strict=True):
        try:
            answer = await talk
        except TimeoutError:
            raise AssertionError(f"{kind}: not ended within {PATIENCE_SECONDS} s") from None
        allowed = SLOW[kind][1]
        assert not answer or statuses(answer)[0] in allowed, (kind, answer[:300])
        assert answer or kind not in ("half a line", "a slow header", "a slow body", "half a body"), kind
    await check_honest(door)
    await check_memory(door, before)


async def test_answers_that_nobody_reads_hold_nothing(doors: dict[str, Door]) -> None:
    """Requests one behind the other on connections that are written to and never read."""
    await asyncio.gather(*map(_unread, doors.values()))


async def _unread(door: Door) -> None:
    before = door.process.resident_bytes
    writers = []

    async def send() -> None:
        _, writer = await connected(door)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writers.append(writer)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(REQUEST_SECONDS + 2):
                while True:
                    writer.write(door.request(door.honest) * 50)
                    await writer.drain()

    await asyncio.gather(*(send() for _ in range(8)))
    await check_honest(door)
    for writer in writers:
        writer.transport.abort()
    await check_memory(door, before)


INNER = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
# Header fields, and what follows them. The request behind it must never be taken for one.
SMUGGLED = {
    "a length beside chunks": (("Content-Length: 4", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + INNER),
    "chunks beside a length": (("Transfer-Encoding: chunked", "Content-Length: 5"), b"0\r\n\r\n" + INNER),
    "two lengths": (("Content-Length: 0", "Content-Length: 36"), INNER),
    "two equal lengths": (("Content-Length: 2", "Content-Length: 2"), b"{}" + INNER),
    "two lengths in a field": (("Content-Length: 0, 36",), INNER),
    "a signed length": (("Content-Length: +2",), b"{}" + INNER),
    "a length below nothing": (("Content-Length: -1",), INNER),
    "a length in hex": (("Content-Length: 0x2",), b"{}" + INNER),
    "a length with an underscore": (("Content-Length: 0_2",), b"{}" + INNER),
    "a length beyond numbers": (("Content-Length: 99999999999999999999999",), INNER),
    "a length before a blank": (("Content-Length : 2",), b"{}" + INNER),
    "a folded field": (("Content-Length: 2\r\n 3",), b"{}" + INNER),
    "a folded encoding": (("Transfer-Encoding:\r\n chunked",), b"0\r\n\r\n" + INNER),
    "an unknown encoding": (("Transfer-Encoding: xchunked",), b"0\r\n\r\n" + INNER),
    "chunked and identity": (("Transfer-Encoding: chunked, identity",), b"0\r\n\r\n" + INNER),
    "identity, then chunked": (
        ("Transfer-Encoding: identity", "Transfer-Encoding: chunked", "Content-Length: 3"),
        b"0\r\n\r\n" + INNER,
    ),
    "chunked twice": (("Transfer-Encoding: chunked, chunked",), b"0\r\n\r\n" + INNER),
    "an encoding behind a blank": (("Transfer-Encoding : chunked",), b"0\r\n\r\n" + INNER),
    "an encoding behind a tab": (("\tTransfer-Encoding: chunked",), b"0\r\n\r\n" + INNER),
    "an encoding with a strange byte": (("Transfer-Encoding: \x0bchunked",), b"0\r\n\r\n" + INNER),
    "bare line feeds": (("Content-Length: 2\nTransfer-Encoding: chunked",), b"{}" + INNER),
    "a bare carriage return": (("X: a\rTransfer-Encoding: chunked", "Content-Length: 2"), b"{}" + INNER),
    "a NUL": (("X: a\x00b", "Content-Length: 2"), b"{}" + INNER),
    "a field without a name": ((": a", "Content-Length: 2"), b"{}" + INNER),
    "a chunk size with a sign": (("Transfer-Encoding: chunked",), b"+2\r\n{}\r\n0\r\n\r\n" + INNER),
    "a chunk size in 0x": (("Transfer-Encoding: chunked",), b"0x2\r\n{}\r\n0\r\n\r\n" + INNER),
    "a chunk size beyond numbers": (("Transfer-Encoding: chunked",), b"fffffffffffffffff2\r\n{}" + INNER),
    "a chunk without its end": (("Transfer-Encoding: chunked",), b"2\r\n{}XX0\r\n\r\n" + INNER),
    "a chunk ended by a line feed": (("Transfer-Encoding: chunked",), b"2\n{}\n0\n\n" + INNER),
    "an extension with a line feed": (("Transfer-Encoding: chunked",), b"2;a\n{}\r\n0\r\n\r\n" + INNER),
}


@pytest.mark.parametrize("kind", SMUGGLED)
async def test_no_request_is_smuggled(door: Door, kind: str) -> None:
    """400, closed, and nothing behind it is looked at; where it is left open, it is waiting for a body."""
    fields, rest = SMUGGLED[kind]
    answer = await said(door, once(door.head(*fields) + b"\r\n" + rest))
    assert statuses(answer)[:1] == [400], answer[:300]
    assert len(statuses(answer)) == 1, answer
    assert b"404" not in answer


async def test_an_honest_chunked_request_with_an_extension_is_one_request(door: Door) -> None:
    head = door.head("Transfer-Encoding: chunked", "Connection: close")
    answer = await said(
        door,
        once(head + b'\r\n%x;name="a"\r\n%b\r\n0\r\nTrailer: x\r\n\r\n' % (len(door.honest), door.honest)),
    )
    assert statuses(answer)[0] in (200, 202), answer


async def test_ten_thousand_idle_connections_cost_nobody_anything(door: Door) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, MANY + 2_000)), hard))
    before = door.process.resident_bytes
    readers: list[asyncio.StreamReader] = []
    writers: list[asyncio.StreamWriter] = []
    for _ in range(MANY // 250):
        for reader, writer in await asyncio.gather(*(connected(door) for _ in range(250))):
            readers.append(reader)
            writers.append(writer)
        if len(writers) % 2_500 == 0:
            await check_honest(door)
    most = door.process.resident_bytes
    await check_honest(door)
    assert most < 250 * MIB, f"{most / MIB:.0f} MiB"
    # Each is closed by the door, in time.
    await asyncio.gather(*(heard(reader, REQUEST_SECONDS + PATIENCE_SECONDS) for reader in readers))
    for writer in writers:
        writer.close()
    await check_honest(door)
    await check_memory(door, before)


def test_the_bounds_that_are_the_default() -> None:
    for settings in (GatewaySettings(), ApiSettings()):
        assert settings.request_seconds <= 30
        assert settings.max_connections >= MANY
