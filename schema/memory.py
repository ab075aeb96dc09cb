"""Keeps a process as small as what it holds: settings of the collector and of the C library's allocator.

Both are made for other programs than ours. The collector walks again and again over requests that only
wait; the allocator keeps what a burst has freed, so that a process stays as large as it was in its
worst moment. Where there is no glibc, the latter does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc

TRIM_SECONDS = 5.0
# Of glibc's mallopt().
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Blocks from here on are mapped and unmapped one by one. Records and requests to Kafka stay below: mapping
# those, page by page, was a fifth of the gateway's time.
_LARGE_BLOCK_BYTES = 1024 * 1024
# So much may stay free at the end of the heap until the next round of ``keep_trimmed``.
_FREE_BYTES = 32 * 1024 * 1024


def settle_memory() -> None:
    """Call once, when everything is imported and before the first request."""
    gc.collect()
    gc.freeze()
    # Full rounds stay frequent enough for cycles that hold a request's body.
    gc.set_threshold(20_000, 10, 5)
    # Without this, glibc learns from each large block that is freed to put the next ones among the small.
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)


async def keep_trimmed(every_seconds: float = TRIM_SECONDS) -> None:
    """Collect garbage and give freed pages back to the system now and then; ends by cancellation."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    while True:
        await asyncio.sleep(every_seconds)
        gc.collect()
        trim(0)
