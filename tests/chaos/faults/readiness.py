"""What a process says of itself on /readyz, and how soon."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from tests.chaos.slots import Slot

_ASK_SECONDS = 4.0


async def readiness(slot: Slot) -> tuple[int, str]:
    """(status, body) of /readyz, asked past the proxies; 0 where nobody answers."""
    timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://127.0.0.1:{slot.port}/readyz") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return 0, repr(error)


async def says_unready(slot: Slot, word: str, seconds: float) -> float | None:
    """After how long /readyz was 503 and named ``word``; None: not within the time."""
    began_at = time.monotonic()
    while time.monotonic() < began_at + seconds:
        status, body = await readiness(slot)
        if status == 503 and word in body:
            return time.monotonic() - began_at
        await asyncio.sleep(0.2)
    return None
