"""SIGTERM under load, to each process: what is in flight finishes, and it ends within its grace."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time

from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene
from tests.chaos.slots import Slot

ROW = "SIGTERM under load"
# The grace is 10 s; what is beyond is the busy machine's.
GRACE_SECONDS = 10.0
ROOM_SECONDS = 2.5
# A request that began less than this before the signal may still have been on its way.
_ON_ITS_WAY_SECONDS = 0.1


async def told_to_end(scene: Scene, seconds: float) -> None:
    """One process after the other, each of them at least once where there is time."""
    deadline = time.monotonic() + seconds
    slots = list(scene.ground.slots.every)
    scene.random.shuffle(slots)
    while True:
        for slot in slots:
            async with slot.lock:
                if not slot.held and slot.alive and slot.starts:
                    await scene.ground.slots.ready(slot)
                    await _ended(scene, slot)
            await scene.pause(0.3, 1.5)
            if time.monotonic() > deadline:
                return


async def _ended(scene: Scene, slot: Slot) -> None:
    process = slot.running
    slot.held = slot.ordered = True
    try:
        told_at = scene.strike(f"{slot.role} told to end", slot=slot.name)
        try:
            code = await asyncio.to_thread(process.terminate, GRACE_SECONDS + ROOM_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        took = time.monotonic() - told_at
        # Nobody but another fault sends SIGKILL: what takes longer than its grace is no end at all here.
        killed = code == -signal.SIGKILL and not scene.alone
        scene.must(
            code == 0 or killed, f"{slot.name} ended with {code} after {took:.1f} s when it was told to"
        )
    finally:
        slot.held = False
    if slot.role == "gateway" and scene.alone:
        scene.judgements.append(lambda: _judge(scene, slot.number, told_at, told_at + took))


async def _judge(scene: Scene, door: int, told_at: float, ended_at: float) -> None:
    """Whoever was being served when the signal came got an answer."""
    broken = [
        each
        for each in scene.tally.tries
        if each.door == door
        and each.status == 0
        and each.began_at < told_at - _ON_ITS_WAY_SECONDS
        and told_at < each.ended_at < ended_at + 1
    ]
    scene.must(not broken, f"{len(broken)} requests in flight got no answer: {broken[:2]}")


FAULTS = (Fault("told to end", ROW, told_to_end, 30, 5),)
