"""The connections of a door: how many it holds, and how long one may hold its place without asking anything.

aiohttp bounds a header's lines and a connection that idles between two requests. It does not bound how long a
header takes to arrive or how many bytes it has in all, how many connections there are, or how long an answer
waits for somebody to read it: that is done here, by a connection that keeps count and a round every second.
Guarantee: a header is complete within ``header_seconds`` of its first byte (the first one: of being
connected), else 408; an answer that nobody reads for ``unread_seconds`` is dropped; a full door closes
connections that idle, longest first, before it turns anybody away with 503. Nothing that was sent is ever
logged: malformed HTTP may be a key in the wrong place.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import resource
import struct
import termios
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

log = structlog.get_logger(__name__)

KIB = 1024
HEADER_BYTES = 64 * KIB
_INTEGER = struct.Struct("i")
ROUND_SECONDS = 1.0
# A refused sender may go on sending so long, so that it reads the answer before the connection is gone.
_LINGERING_SECONDS = 2.0
# An answer of which so little goes out in ``unread_seconds`` is not being read.
_PROGRESS_BYTES = 16 * KIB
# A full door makes room for many at once: looking for the longest idle one each time would cost too much.
_ROOM_SHARE = 16
# Open files of a process beside its connections.
_OTHER_FILES = 256

_REASONS = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """``header_bytes``: of one header; ``waiting_header_bytes``: of all headers that are not complete yet."""

    connections: int
    header_seconds: float
    unread_seconds: float
    header_bytes: int = HEADER_BYTES
    waiting_header_bytes: int = 32 * 1024 * KIB


class Connections:
    """All connections of one door. The loop's clock is theirs."""

    def __init__(self, limits: ConnectionLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.waiting_header_bytes = 0
        self.refused: Counter[str] = Counter()
        self._most = _with_files(limits.connections)
        self._loop = loop
        self._open: set[Connection] = set()
        self._next_round: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Whether there is a place, made by closing idle connections if need be."""
        if len(self._open) >= self._most:
            self._make_room()
        if len(self._open) >= self._most:
            return False
        self._open.add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)

    def watch(self) -> None:
        """Begin the rounds."""
        self._next_round = self._loop.call_later(ROUND_SECONDS, self._round)

    def stop(self) -> None:
        """End the rounds; connections are ended by whoever serves them."""
        if self._next_round is not None:
            self._next_round.cancel()

    def _round(self) -> None:
        self.watch()
        now = self._loop.time()
        for connection in tuple(self._open):
            connection.check(now)
        if self.refused:
            log.warning("connections refused or closed", held=len(self._open), **self.refused)
            self.refused.clear()

    def _make_room(self) -> None:
        idle = sorted((one for one in self._open if one.idle), key=Connection.patience)
        for connection in idle[: max(1, self._most // _ROOM_SHARE)]:
            self.refused["idle_at_a_full_door"] += 1
            self._open.discard(connection)
            connection.force_close()


class Connection(web.RequestHandler):
    """One connection, held to the limits of its door."""

    __slots__ = (
        "_door",
        "_header_bytes",
        "_header_since",
        "_refused_at",
        "_requests",
        "_socket",
        "_unread",
        "listener",
    )

    def __init__(self, manager: web.Server, *, door: Connections, **options: Any) -> None:
        super().__init__(manager, **options)
        self._door = door
        self._socket: asyncio.Transport | None = None
        # When a header began to be waited for; 0: nothing is waited for, or only a next request.
        self._header_since = 0.0
        self._header_bytes = 0
        self._requests = 0
        self._refused_at = 0.0
        # Since when an answer waits for its reader, and how many bytes did then.
        self._unread = (0.0, 0)
        # Is told of what arrives before anybody reads it: what aiohttp holds of a WebSocket, it does not say.
        self.listener: Callable[[bytes], None] | None = None

    @property
    def behind_upgrade_bytes(self) -> int:
        """What came behind a request for a WebSocket that is not answered yet."""
        return len(self._message_tail)

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    def patience(self) -> tuple[bool, float]:
        """The order in which idle connections go: those that never asked, then by how long they idle."""
        return self._request_count > 0, self._next_keepalive_close_time

    def pause(self) -> None:
        """Read no further, until ``resume``; apart from aiohttp's own flow control."""
        self._pause_reading_for_buffer()

    def resume(self) -> None:
        """Read on, unless aiohttp has a reason of its own not to."""
        self._resume_reading_for_buffer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or turn away."""
        self._socket = cast("asyncio.Transport", transport)
        if not self._door.admit(self):
            self._door.refused["door_is_full"] += 1
            self._socket.write(_answer(503))
            self._socket.close()
            return
        super().connection_made(transport)
        self._header_since = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._door.forget(self)
        self._count_header(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; those of a header that is not complete yet are counted."""
        if self.listener is not None:
            self.listener(data)
        super().data_received(data)
        if self._request_count != self._requests:
            self._requests = self._request_count
            self._header_since = 0.0
            if self._header_bytes:
                self._count_header(0)
        elif data and not self._refused_at and (self._requests == 0 or self.idle):
            self._header_since = self._header_since or self._loop.time()
            self._count_header(self._header_bytes + len(data))
            if self._header_bytes > self._door.limits.header_bytes:
                self._refuse(431, "large_header")
            elif self._door.waiting_header_bytes > self._door.limits.waiting_header_bytes:
                self._refuse(503, "too_many_headers")

    def _count_header(self, size: int) -> None:
        self._door.waiting_header_bytes += size - self._header_bytes
        self._header_bytes = size

    def check(self, now: float) -> None:
        """What the round of every second looks at."""
        limits = self._door.limits
        if self._refused_at:
            if now - self._refused_at > _LINGERING_SECONDS:
                self._abort()
        elif self._header_since and now - self._header_since > limits.header_seconds:
            if self._header_bytes:
                self._refuse(408, "slow_header")
            else:
                self.force_close()
        else:
            self._check_reader(now)

    def _check_reader(self, now: float) -> None:
        socket = self._socket
        if socket is None:
            return
        waiting = _unread_bytes(socket) if self.writing_paused or socket.is_closing() else 0
        since, waited = self._unread
        if not waiting:
            self._unread = (0.0, 0)
        elif not since or waiting < waited - _PROGRESS_BYTES:
            self._unread = (now, waiting)
        elif now - since > self._door.limits.unread_seconds:
            self._door.refused["unread_answer"] += 1
            self._abort()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer, read nothing more, and close a moment later."""
        self._door.refused[reason] += 1
        self._refused_at = self._loop.time()
        self._count_header(0)
        socket = self._socket
        if socket is not None and not socket.is_closing():
            socket.write(_answer(status))
            socket.write_eof()
        self.close()

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP is answered without its words, and not logged; anything else is a defect of ours."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self._door.refused["malformed"] += 1
        status = 431 if isinstance(exc, LineTooLong) else 400
        response = web.Response(status=status, text="This is not HTTP as it should be.\n")
        response.force_close()
        return response


def _unread_bytes(transport: asyncio.Transport) -> int:
    """What the other side has not taken yet, here and in the kernel, which takes from us in large steps."""
    waiting = transport.get_write_buffer_size()
    with contextlib.suppress(OSError, ValueError):
        descriptor = transport.get_extra_info("socket").fileno()
        waiting += _INTEGER.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    return waiting


def _answer(status: int) -> bytes:
    again = "Retry-After: 1\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n{again}Content-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()


def _with_files(connections: int) -> int:
    """As many connections as this process may open files for; its soft limit is raised as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = max(1, soft - _OTHER_FILES)
        log.warning("fewer connections than wanted: open files are limited", connections=most, files=soft)
        return most
    return connections
