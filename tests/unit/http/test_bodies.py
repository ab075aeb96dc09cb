"""Bodies: bounded in size and time, unpacked to their end, never half."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.bodies import Allowance, BodyLimits, GzipMembers, nested_deeper, parse_json, read_body
from api.http.problems import door
from api.http.serving import Listening, listening
from schema.errors import Invalid
from schema.metrics import DoorMetrics

LIMIT = 100_000


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that answers with the length of the body that it read."""
    allowance = Allowance(4 * LIMIT)

    async def measure(request: web.Request) -> web.Response:
        body = await read_body(request, BodyLimits(LIMIT, 2.0), allowance)
        return web.json_response({"length": len(body), "held": allowance.taken_bytes})

    app = web.Application(middlewares=[door(DoorMetrics(CollectorRegistry()))])
    app.router.add_post("/", measure)
    async with listening(app, Listening("127.0.0.1", 0, 5.0, 1.0)) as port:
        yield f"http://127.0.0.1:{port}/"
    assert allowance.taken_bytes == 0


async def post(url: str, body: Any, encoding: str | None = None) -> tuple[int, Any]:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


PACKED = gzip.compress(bytes(range(256)) * 100)


@pytest.mark.parametrize(
    ("body", "encoding", "status", "length"),
    [
        (b"x" * LIMIT, None, 200, LIMIT),
        (b"x" * (LIMIT + 1), None, 413, None),
        (b"x" * LIMIT, "identity", 200, LIMIT),
        (gzip.compress(b"x" * LIMIT), "gzip", 200, LIMIT),
        (gzip.compress(b"x" * LIMIT), "GZIP", 200, LIMIT),
        (gzip.compress(b"x" * (LIMIT + 1)), "gzip", 413, None),
        (gzip.compress(b"x" * 50_000_000, 1)[:90_000], "gzip", 413, None),
        (gzip.compress(b"a" * 50) + gzip.compress(b"b" * 60), "gzip", 200, 110),
        (gzip.compress(b"a") * 65, "gzip", 400, None),
        (PACKED[:-1], "gzip", 400, None),
        (PACKED[:-9], "gzip", 400, None),
        (PACKED[:-8] + b"\0" * 8, "gzip", 400, None),
        (PACKED + b"more", "gzip", 400, None),
        (b"no gzip", "gzip", 400, None),
        (b"", "gzip", 400, None),
        (zlib.compress(b"x"), "deflate", 415, None),
        (b"x", "br", 415, None),
        (b"x", "gzip, gzip", 415, None),
    ],
)
async def test_bodies_are_read_whole_or_refused(
    url: str, body: bytes, encoding: str | None, status: int, length: int | None
) -> None:
    answered, answer = await post(url, body, encoding)
    assert answered == status
    if length is not None:
        assert answer["length"] == length
    else:
        assert answer["detail"]


@pytest.mark.parametrize("cut", range(0, len(PACKED), 37))
def test_no_truncation_of_a_gzip_stream_is_taken(cut: int) -> None:
    stream = GzipMembers()
    stream.feed(PACKED[:cut], LIMIT)
    with pytest.raises(Invalid):
        stream.finish()


def test_a_bomb_is_stopped_while_it_unpacks() -> None:
    stream = GzipMembers()
    assert len(stream.feed(gzip.compress(b"x" * 10_000_000), 1000)) == 1001


async def test_a_body_in_chunks_is_bounded_too(url: str) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 10_000

    assert (await post(url, pieces(10)))[1]["length"] == LIMIT
    assert (await post(url, pieces(11)))[0] == 413


async def test_a_body_that_does_not_arrive_is_given_up(url: str) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(4)
        yield b"x"

    assert (await post(url, slow()))[0] == 408


async def test_bodies_together_are_bounded(url: str) -> None:
    gate = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        yield b"x" * 90_000
        await gate.wait()

    waiting = [asyncio.create_task(post(url, held())) for _ in range(6)]
    async with asyncio.timeout(1.5):
        for answered in itertools.islice(asyncio.as_completed(waiting), 2):
            await answered
    gate.set()
    statuses = sorted(status for status, _ in await asyncio.gather(*waiting))
    assert statuses == [200] * 4 + [503] * 2


async def test_broken_framing_is_a_400(url: str) -> None:
    port = int(url.rsplit(":", 1)[1].strip("/"))
    for request in (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        async with asyncio.timeout(3):
            assert (await reader.readline()).split()[1] == b"400"
        writer.close()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"nan",
        b'{"a":NaN}',
        b'"\xff"',
        b'"\\ud800"',
        b"1e400",
        b"9" * 400,
        b"[" * 3000,
        b"[" * 65 + b"]" * 65,
    ],
)
def test_json_that_cannot_be_kept_is_invalid(text: bytes) -> None:
    with pytest.raises(Invalid):
        parse_json(text)


def test_json_within_the_limits_is_read() -> None:
    assert parse_json(b'{"a": [1, "[[[[{{{{"]}', max_nesting=2) == {"a": [1, "[[[[{{{{"]}
    assert parse_json(b"[" * 64 + b"]" * 64) is not None
    assert nested_deeper([[]], 1)
    assert not nested_deeper([[]], 2)
