"""Writers that come and go, and writers that wake up believing what is no longer so.

A zombie is made in the open: its way to the database is frozen, so that it has a batch in hand, then the
whole process; its session at Kafka ends and another writer takes its partitions over; then all is let go. Its
transactions may last longer than that, so that it still believes in the one that it had begun.
"""

from __future__ import annotations

import asyncio
import time

from tests.chaos.faults.fault import Fault
from tests.chaos.ground import SESSION_SECONDS
from tests.chaos.scene import Scene
from tests.chaos.slots import Slot

STORM_ROW = "rebalance storm"
ZOMBIE_ROW = "a zombie writer"
_EVERY_SECONDS = 5.0
_FREEZE_FIRST_SECONDS = 0.5
_BEYOND_SECONDS = 4.0
_SETTLE_SECONDS = 6.0
# What a writer says whose compare-and-set found its partition elsewhere; no other trouble is told so.
REFUSAL = "offsets moved by another writer"


async def rebalance_storm(scene: Scene, seconds: float) -> None:
    """A writer more and a writer killed every 5 s."""
    slots = scene.ground.slots
    deadline = time.monotonic() + seconds
    extra: list[Slot] = []
    try:
        while True:
            slot = Slot("writer", 10 + len(extra), dict(slots.of("writer")[0].settings), lasting=False)
            extra.append(slot)
            slots.every.append(slot)
            await slots.begin(slot)
            scene.strike("writer started", slot=slot.name)
            await asyncio.sleep(_EVERY_SECONDS / 2)
            victim = scene.random.choice(slots.of("writer"))
            if not victim.held and victim.kill():
                scene.strike("writer killed", slot=victim.name)
            # An extra place that was emptied stays empty: writers come, and go for good.
            gone = [each for each in extra if not each.alive]
            for each in gone:
                if each in slots.every:
                    each.held = True
                    slots.every.remove(each)
            if time.monotonic() + _EVERY_SECONDS > deadline:
                return
            await asyncio.sleep(_EVERY_SECONDS / 2)
    finally:
        for slot in extra:
            if slot in slots.every:
                slot.held = True
                slots.every.remove(slot)
            if slot.alive:
                await asyncio.to_thread(slot.running.kill)


async def zombie_writer(scene: Scene, seconds: float) -> None:
    """Frozen with a batch in hand for longer than its session, then freed: its transaction is refused."""
    deadline = time.monotonic() + seconds
    refused = 0
    while True:
        await scene.pause(0.5, 2)
        slot = scene.any_of("writer")
        async with slot.lock:
            if slot.held or not slot.alive:
                continue
            refused += await _buried_alive(scene, slot)
        if time.monotonic() + SESSION_SECONDS + _BEYOND_SECONDS + _SETTLE_SECONDS > deadline:
            break
    scene.remarks.append(f"{refused} zombies were refused")
    if scene.alone:
        scene.must(refused > 0, "no zombie's transaction was ever refused: the round proves nothing")


async def _buried_alive(scene: Scene, slot: Slot) -> bool:
    patient = {"WEIR_TRANSACTION_SECONDS": f"{SESSION_SECONDS + 2 * _BEYOND_SECONDS:g}"}
    await scene.ground.slots.again(slot, **patient)
    process = slot.running
    proxy = scene.ground.paths[f"{slot.name}-database"]
    # It takes its partitions over.
    await asyncio.sleep(_SETTLE_SECONDS)
    before = _refusals(scene)
    scene.strike("writer made a zombie", slot=slot.name)
    proxy.freeze()
    try:
        await asyncio.sleep(_FREEZE_FIRST_SECONDS)
        process.freeze()
        await asyncio.sleep(SESSION_SECONDS + _BEYOND_SECONDS)
    finally:
        proxy.thaw()
        if process.child.poll() is None:
            process.thaw()
    await asyncio.sleep(_SETTLE_SECONDS)
    # Of two that want to move the same offset, whichever comes second.
    refused = _refusals(scene) > before
    await scene.ground.slots.again(slot)
    return refused


def _refusals(scene: Scene) -> int:
    return sum(slot.running.log().count(REFUSAL) for slot in scene.ground.slots.of("writer") if slot.process)


FAULTS = (
    Fault("rebalance storm", STORM_ROW, rebalance_storm, 45, least_seconds=20),
    Fault("zombie writer", ZOMBIE_ROW, zombie_writer, 34, least_seconds=24),
)
