"""Read your own writes: wait until what a receipt names is stored where we are about to look."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from query import sql
from query.execute import Reader
from schema.errors import Invalid, Overloaded

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.1


class NotStoredYet(Overloaded):
    """The writer has not stored what the receipt names within the time given."""


async def wait_until_stored(
    reader: Reader, topic: str, positions: Mapping[int, tuple[int, int]], timeout_seconds: float
) -> None:
    """Return once every position (partition → (epoch, last offset)) is stored.

    Looks at least once. Raises NotStoredYet, Invalid (a receipt of an earlier log, which nobody reads any
    more), Unavailable (the database is away).
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    waiting = dict(positions)
    while True:
        waiting = await _still_waiting(reader, topic, waiting)
        if not waiting:
            return
        if (left := deadline - loop.time()) <= 0:
            raise NotStoredYet(
                f"X-Weir-Receipt: not stored within {timeout_seconds:g} s; the writer is behind, ask again",
                retry_after_seconds=1.0,
            )
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


async def _still_waiting(
    reader: Reader, topic: str, positions: Mapping[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    rows = await reader.look(sql.Statement(sql.STORED_OFFSETS, (topic, list(positions))))
    stored = {row["partition"]: (row["epoch"], row["next_offset"]) for row in rows}
    return still_waiting(positions, stored)


def still_waiting(
    positions: Mapping[int, tuple[int, int]], stored: Mapping[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Positions that are not stored. ``stored``: partition → (epoch, next offset). Raises Invalid. Pure."""
    waiting = {}
    for partition, (epoch, offset) in positions.items():
        now_epoch, next_offset = stored.get(partition, (epoch, 0))
        if epoch < now_epoch:
            raise Invalid(
                "X-Weir-Receipt: of an earlier log than the one being read now "
                "(the topic was recreated or cut); ask without it"
            )
        if (epoch, offset) >= (now_epoch, next_offset):
            waiting[partition] = (epoch, offset)
    return waiting
