"""An HTTP/1.1 client that costs little: one prebuilt request out, one answer in, on connections kept open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: the connection broke, or no answer came in time."""

    status: int
    body: bytes


def request_head(path: str, key: str, length: int) -> bytes:
    """The head of a POST of JSON."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-Api-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


class HttpConnection:
    """One connection; it is made anew when it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    async def ask(self, *parts: bytes) -> Answer:
        """Send the parts as one request and read its answer."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._ask(parts)
        except (OSError, EOFError, TimeoutError):
            self._drop()
            return Answer(0, b"")

    async def _ask(self, parts: tuple[bytes, ...]) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.writelines(parts)
        await writer.drain()
        head = (await reader.readuntil(_HEAD_END)).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        answer = Answer(int(head[9:12]), await reader.readexactly(length))
        if b"connection: close" in head:
            self._drop()
        return answer

    def _drop(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
