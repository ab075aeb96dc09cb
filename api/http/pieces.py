"""A body that is sent while it is made: what does not fit into one piece is never held as a whole.

A short answer goes out like any other, with its length. A long one is chunked; when it breaks off
half-way, the connection is cut without the last chunk, so that no client takes the half for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import structlog
from aiohttp import web

from api.http.problems import REQUEST_ID
from schema.errors import WeirError

log = structlog.get_logger(__name__)

_WHOLE_BYTES = 256 * 1024


async def send_pieces(
    request: web.Request,
    pieces: AsyncIterator[bytes],
    *,
    content_type: str,
    deadline_seconds: float,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """The response made of ``pieces``; what raises before the first 256 KiB are full raises here.

    ``deadline_seconds``: how long a slow reader may take for all of it.
    """
    begun: list[bytes] = []
    begun_bytes = 0
    async for piece in pieces:
        begun.append(piece)
        begun_bytes += len(piece)
        if begun_bytes > _WHOLE_BYTES:
            break
    else:
        return web.Response(body=b"".join(begun), content_type=content_type, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    try:
        async with asyncio.timeout(deadline_seconds):
            await response.prepare(request)
            await response.write(b"".join(begun))
            begun.clear()
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
    except (WeirError, TimeoutError, ConnectionError) as error:
        log.warning("answer broken off", path=request.path, reason=repr(error))
        _cut(request)
    except BaseException:
        _cut(request)
        raise
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
