"""Mail for tests: a folder's mails, waited for; an SMTP server that takes mail, dawdles, refuses or hangs."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0


async def mails(folder: Path, count: int) -> list[tuple[str, str]]:
    """Address and text of each mail in a folder, in the order in which they left; fails where others come."""
    deadline = time.monotonic() + SECONDS
    while len(paths := _laid_down(folder)) < count:
        assert time.monotonic() < deadline, f"{len(paths)} of {count} mails after {SECONDS} s"
        await asyncio.sleep(0.02)
    assert len(paths) == count
    found = []
    for path in paths:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert path.stat().st_mode & 0o077 == 0, "a mail with a secret in it is readable by others"
        found.append((str(message["To"]), message.get_content()))
    return found


def _laid_down(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.eml"))


def secret_in(text: str) -> str:
    (secret,) = re.findall(r"weir_mail_[A-Za-z0-9_-]{43}", text)
    return str(secret)


@dataclass(slots=True)
class SmtpServer:
    """``taken``: the mails, as they were sent. ``connected``: how many came, served or not."""

    hangs: bool
    refusals: int
    answer_seconds: float
    port: int = 0
    taken: list[bytes] = field(default_factory=list)
    connected: int = 0

    async def until_connected(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while self.connected < count:
            assert time.monotonic() < deadline, f"{self.connected} of {count} connections after {SECONDS} s"
            await asyncio.sleep(0.02)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        try:
            if self.hangs:
                await reader.read()
            elif self.connected <= self.refusals:
                writer.write(b"421 later\r\n")
                await writer.drain()
            else:
                await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.answer_seconds)
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                self.taken.append(await reader.readuntil(b"\r\n.\r\n"))
            elif line.upper().startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")
                return
            writer.write(b"250 fine\r\n")


@asynccontextmanager
async def smtp_server(
    *, hangs: bool = False, refusals: int = 0, answer_seconds: float = 0.0
) -> AsyncIterator[SmtpServer]:
    """A server on loopback: it hangs, or refuses so many connections, or greets after so many seconds."""
    made = SmtpServer(hangs, refusals, answer_seconds)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
