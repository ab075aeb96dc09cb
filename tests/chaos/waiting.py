"""Waiting for something, within a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.1


async def until(
    holds: Callable[[], Awaitable[bool]], seconds: float, poll_seconds: float = POLL_SECONDS
) -> bool:
    """Whether it held within the time."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_seconds)
    return True


async def until_so(holds: Callable[[], bool], seconds: float, poll_seconds: float = POLL_SECONDS) -> bool:
    """The same of what needs no asking."""

    async def asked() -> bool:
        return holds()

    return await until(asked, seconds, poll_seconds)
