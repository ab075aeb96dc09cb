"""The log recreated, and a log that lost its tail: said loudly, a new epoch, and nothing is skipped.

What is lost of a log that nobody has stored is lost for good, and no writer can change that: so all loads are
held and all is stored before the log goes. From then on every event that is acknowledged has to be stored,
although the new log gives out offsets that the writers have already seen.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import psycopg

from schema.topics import ensure_topics
from tests.chaos import oracle
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene, end_offsets
from tests.chaos.waiting import until
from tests.support.topics import delete_topics

ROW = "the log recreated"
# A fence of an earlier log goes by the moments at which gateways received: these must be right.
_APART_FROM = ("clock an hour off",)
_DRAIN_SECONDS = 60.0
_YOUNG_SECONDS = (0.3, 4.0)
_NOTICED_SECONDS = 60.0
_OUTGROWN_SECONDS = 6.0
LOUD = "a new epoch begins"
_STANDS = "SELECT partition, next_offset FROM partition_offsets WHERE topic = %s"
_EPOCHS = "SELECT partition, epoch FROM partition_offsets WHERE topic = %s"


async def log_recreated(scene: Scene, seconds: float) -> None:
    """The topic deleted and made again, while it is young too."""
    deadline = time.monotonic() + seconds
    ground = scene.ground
    while True:
        await scene.pause(*_YOUNG_SECONDS)
        async with ground.kafka_lock:
            try:
                before = await _stilled(scene)
                await delete_topics(ground.kafka.bootstrap, ground.topics.events)
                scene.strike("events topic deleted")
                await ensure_topics(ground.topics.settings(ground.kafka.bootstrap))
            finally:
                scene.go_on()
        await _noticed(scene, before)
        if time.monotonic() > deadline:
            return


async def tail_lost(scene: Scene, seconds: float) -> None:
    """Kafka's folder put back to what it was a moment ago, and events waiting for it to come back.

    A short tail is the worse one: the log may have outgrown it before any writer looks again.
    """
    deadline = time.monotonic() + seconds
    ground = scene.ground
    log = ground.kafka.data_directory / "log"
    kept = Path(f"{log.parent}-kept")
    while True:
        async with ground.kafka_lock:
            await asyncio.to_thread(ground.kafka.stop)
            await asyncio.to_thread(_copied, log, kept)
            await asyncio.to_thread(ground.kafka.start)
            stood = await end_offsets(ground)
        await scene.pause(0.5, 3)
        async with ground.kafka_lock:
            try:
                before = await _stilled(scene)
                ends = await end_offsets(ground)
                scene.strike("tail of the log lost")
                await asyncio.to_thread(ground.kafka.kill)
                await asyncio.to_thread(_copied, kept, log)
                await _outgrown(scene)
            finally:
                scene.go_on()
        # Beside other faults a partition may have had no tail to lose.
        await _noticed(scene, {place: epoch for place, epoch in before.items() if ends[place] > stood[place]})
        if time.monotonic() + 30 > deadline:
            return


async def _outgrown(scene: Scene) -> None:
    """Start Kafka, and let no writer see it before its log is as long as it was."""
    ground = scene.ground
    path = ground.paths["writer-kafka"]
    stands = await asyncio.to_thread(_stands, ground.dsn, ground.topics.events)
    path.freeze()
    try:
        scene.go_on()
        await asyncio.to_thread(ground.kafka.start)

        async def outgrown() -> bool:
            return all(end > stands.get(place, 0) for place, end in (await end_offsets(ground)).items())

        await until(outgrown, _OUTGROWN_SECONDS)
    finally:
        path.thaw()


async def _stilled(scene: Scene) -> dict[int, int]:
    """Hold the loads until all is stored; the epoch of every partition that has been stored from."""
    ground = scene.ground
    await scene.hold()
    ends = await end_offsets(ground)
    left = await asyncio.to_thread(
        oracle.wait_drained, ground.dsn, ground.topics.events, ends, _DRAIN_SECONDS
    )
    assert not left, left
    epochs = await asyncio.to_thread(_epochs, ground.dsn, ground.topics.events)
    return {partition: epochs[partition] for partition, end in ends.items() if end}


async def _noticed(scene: Scene, before: dict[int, int]) -> None:
    """Until each of these partitions has a new epoch, and somebody said so."""
    ground = scene.ground
    deadline = time.monotonic() + _NOTICED_SECONDS
    while True:
        epochs = await asyncio.to_thread(_epochs, ground.dsn, ground.topics.events)
        behind = {p for p, epoch in before.items() if epochs.get(p, 0) <= epoch}
        if not behind:
            break
        if time.monotonic() > deadline:
            scene.failures.append(f"nobody noticed within {_NOTICED_SECONDS:g} s: partitions {behind}")
            return
        await asyncio.sleep(0.2)
    said = any(LOUD in each.log() for each in ground.slots.weir.processes if each.role == "writer")
    scene.must(said, "a new epoch began in silence")


def _stands(dsn: str, topic: str) -> dict[int, int]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return dict(connection.execute(_STANDS, [topic]).fetchall())


def _epochs(dsn: str, topic: str) -> dict[int, int]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        return dict(connection.execute(_EPOCHS, [topic]).fetchall())


def _copied(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


FAULTS = (
    Fault("log recreated", ROW, log_recreated, 40, apart_from=_APART_FROM),
    Fault("tail of the log lost", ROW, tail_lost, 10, apart_from=_APART_FROM),
)
