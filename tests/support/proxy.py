"""A TCP proxy before a server that is to be slow, frozen, or cut off at the worst moment.

It runs in a thread of its own, so that a test may block while it works. What it does to the connections is
switched from the test: `lead_to` (another server from now on), `freeze` (nothing passes either way,
connections stay open), `thaw`, `delay_seconds` (everything takes that much longer, each way), `cut` (all of
them end), and `lose_answer_to` (the next message with these bytes reaches the server; its answer is lost with
the connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 64 * 1024
ANSWER_SECONDS = 0.3


class Proxy:
    """One listening port; ``host`` and ``port`` are the server's."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._server_port = host, port
        self._loop = asyncio.new_event_loop()
        self._open: asyncio.Event
        self._writers: set[asyncio.StreamWriter] = set()
        self._watched: bytes | None = None
        self._started = threading.Event()
        self._ended: asyncio.Event
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0
        self.answers_cut = 0
        self.answers_lost = 0
        self.delay_seconds = 0.0

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)
        assert not self._thread.is_alive()

    def freeze(self) -> None:
        self._loop.call_soon_threadsafe(self._open.clear)

    def thaw(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def lead_to(self, port: int) -> None:
        """Where connections from now on go."""
        self._server_port = port

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._cut)

    def lose_answer_to(self, message: bytes | None) -> None:
        """``answers_cut`` grows at once, ``answers_lost`` once the server has the message. None: no more."""
        self._watched = message

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._open, self._ended = asyncio.Event(), asyncio.Event()
        self._open.set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        server.close()
        self._open.set()
        self._cut()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=2)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._open.wait()
            try:
                far_reader, far_writer = await asyncio.open_connection(self._host, self._server_port)
            except OSError:
                # As the server itself would have refused; left open, it would look like one that is frozen.
                writer.transport.abort()
                return
            self._writers |= {writer, far_writer}
            try:
                done, rest = await asyncio.wait(
                    {
                        asyncio.ensure_future(self._pump(reader, far_writer, writer)),
                        asyncio.ensure_future(self._pump(far_reader, writer, None)),
                    },
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in rest:
                    task.cancel()
                for task in done:
                    task.exception()
            finally:
                for end in (writer, far_writer):
                    end.transport.abort()
                    self._writers.discard(end)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sender: asyncio.StreamWriter | None
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await self._open.wait()
            watched = self._watched
            if sender is not None and watched is not None and watched in chunk:
                self._watched = None
                sender.transport.abort()
                writer.write(chunk)
                self.answers_cut += 1
                await writer.drain()
                self.answers_lost += 1
                # For the server to take it in, and to answer into the void.
                await asyncio.sleep(ANSWER_SECONDS)
                return
            writer.write(chunk)
            await writer.drain()


@contextlib.contextmanager
def proxy_before(dsn: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the database at ``dsn``, and the DSN that leads through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    proxy.start()
    try:
        credentials = parts.netloc.rpartition("@")[0]
        yield proxy, urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}"))
    finally:
        proxy.stop()
