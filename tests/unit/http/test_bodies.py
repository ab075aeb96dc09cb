"""Bodies: bounded in size and time, unpacked to their end, never half."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import zstandard
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.bodies import Allowance, BodyLimits, nested_deeper, parse_json, read_body
from api.http.encodings import Decompressor, decompressor_of
from api.http.problems import door
from api.http.serving import Listening, listening
from schema.errors import Invalid
from schema.metrics import DoorMetrics
from tests.support.bounds import AT_AND_ABOVE

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


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def reader(encoding: str) -> Decompressor:
    found = decompressor_of(encoding)
    assert found is not None
    return found


PLAIN = bytes(range(256)) * 100 + random.Random(1).randbytes(3000)
PACKED = gzip.compress(PLAIN)
STREAMS = {
    "gzip": ("gzip", PACKED),
    "deflate": ("deflate", zlib.compress(PLAIN)),
    "raw deflate": ("deflate", raw_deflate(PLAIN)),
    "zstd": ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN)),
}
# A frame that asks for a window of 128 MiB.
_wide = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
).compressobj()
WIDE = _wide.compress(b"x") + _wide.flush()


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
        (zlib.compress(b"x" * LIMIT), "deflate", 200, LIMIT),
        (zlib.compress(b"x" * (LIMIT + 1)), "deflate", 413, None),
        (zlib.compress(b"x" * 50_000_000), "deflate", 413, None),
        (raw_deflate(b"x" * LIMIT), "Deflate", 200, LIMIT),
        (raw_deflate(b"x" * (LIMIT + 1)), "deflate", 413, None),
        (zlib.compress(b"x") + b"more", "deflate", 400, None),
        (zlib.compress(b"x") * 2, "deflate", 400, None),
        (zlib.compress(b"x")[:-4] + b"\0" * 4, "deflate", 400, None),
        (b"\xffno deflate", "deflate", 400, None),
        (b"", "deflate", 400, None),
        (zstandard.compress(b"x" * LIMIT), "zstd", 200, LIMIT),
        (zstandard.compress(b"x" * (LIMIT + 1)), "zstd", 413, None),
        (zstandard.compress(bytes(500_000_000)), "zstd", 413, None),
        (zstandard.compress(b"a" * 50) + zstandard.compress(b"b" * 60), "zstd", 200, 110),
        (zstandard.compress(b"a") * 65, "zstd", 400, None),
        (zstandard.compress(b"x") + b"more", "zstd", 400, None),
        (WIDE, "zstd", 400, None),
        (b"no zstd", "zstd", 400, None),
        (b"", "zstd", 400, None),
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


@AT_AND_ABOVE
async def test_a_body_has_its_seconds(url: str, beyond: int) -> None:
    async def dawdling() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(0.5 + beyond * 3)
        yield b"x"

    assert (await post(url, dawdling()))[0] == (408 if beyond else 200)


@pytest.mark.parametrize("encoding", sorted(STREAMS))
def test_no_truncation_is_taken(encoding: str) -> None:
    name, packed = STREAMS[encoding]
    for cut in range(0, len(packed), max(1, len(packed) // 60)):
        stream = reader(name)
        stream.feed(packed[:cut], LIMIT)
        with pytest.raises(Invalid, match="breaks off"):
            stream.finish()


@pytest.mark.parametrize("encoding", sorted(STREAMS))
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_stream_in_pieces_is_the_same(encoding: str, step: int) -> None:
    name, packed = STREAMS[encoding]
    stream = reader(name)
    pieces = [stream.feed(packed[start : start + step], LIMIT) for start in range(0, len(packed), step)]
    stream.finish()
    assert b"".join(pieces) == PLAIN


def test_a_bomb_is_stopped_while_it_unpacks() -> None:
    bomb = bytes(100_000_000)
    assert len(reader("gzip").feed(gzip.compress(bomb, 1), 1000)) == 1001
    assert len(reader("deflate").feed(zlib.compress(bomb, 1), 1000)) == 1001
    assert len(reader("deflate").feed(raw_deflate(bomb), 1000)) == 1001
    # Where the library has no bound of its own, one small step of the packed bytes is the bound.
    assert 1000 < len(reader("zstd").feed(zstandard.compress(bomb), 1000)) < 10_000_000


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
