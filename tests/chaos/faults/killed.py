"""kill -9 of gateways and writers at random moments, also while they are only just starting."""

from __future__ import annotations

import time

from tests.chaos.faults.fault import Fault
from tests.chaos.faults.readiness import readiness
from tests.chaos.scene import Scene
from tests.chaos.slots import Slot
from tests.chaos.waiting import until

ROW = "gateway or writer killed"
_LEAST_SECONDS = 0.4
_MOST_SECONDS = 1.6
_AT_WORK_SHARE = 0.25
_READY_SECONDS = 6.0
# Of each role in a whole campaign, even if that takes somewhat longer.
_KILLS = 50
_MORE_SECONDS = 40.0


async def _ready(slot: Slot) -> bool:
    return (await readiness(slot))[0] == 200


async def _killed(scene: Scene, seconds: float, role: str) -> None:
    deadline = time.monotonic() + seconds
    last = deadline + (_MORE_SECONDS if scene.alone and seconds > _MORE_SECONDS else 0)
    count = 0
    while (now := time.monotonic()) < deadline or (count < _KILLS and now < last):
        await scene.pause(_LEAST_SECONDS, _MOST_SECONDS)
        slot = scene.any_of(role)
        if slot.held:
            continue
        if scene.random.random() < _AT_WORK_SHARE:
            # On a busy machine a start takes longer than a life, and nothing would ever be under way.
            await until(lambda: _ready(slot), _READY_SECONDS)  # noqa: B023 - awaited in this very turn
        if slot.kill():
            count += 1
            scene.strike(f"{role} killed", slot=slot.name)


async def gateway_killed(scene: Scene, seconds: float) -> None:
    """A request in flight is left without an answer, never with a wrong one."""
    await _killed(scene, seconds, "gateway")
    if scene.alone:
        broken = scene.tally.statuses[0]
        scene.must(broken > 0, "no request ever met a killed gateway: the round proves nothing")


async def writer_killed(scene: Scene, seconds: float) -> None:
    """A batch in hand is undone, or stored and recognised."""
    await _killed(scene, seconds, "writer")


FAULTS = (
    Fault("gateway killed", ROW, gateway_killed, 72, 6),
    Fault("writer killed", ROW, writer_killed, 72, 6),
)
