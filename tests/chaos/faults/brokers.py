"""Kafka frozen, and Kafka killed: 503 in time, /readyz says so, and nobody has to help afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.chaos.faults.fault import Fault
from tests.chaos.faults.readiness import says_unready
from tests.chaos.scene import Scene

ROW = "Kafka frozen, killed"
FROZEN_SECONDS = 30.0
# The gateway's own deadline is 5 s; what is beyond is the busy machine's.
ANSWER_SECONDS = 5.0
ROOM_SECONDS = 2.0
# Of a gateway that has seen it, on a machine that is busy with others.
READY_SECONDS = 15.0
_MIXED_SECONDS = 8.0


async def kafka_frozen(scene: Scene, seconds: float) -> None:
    """SIGSTOP, SIGCONT."""
    kafka = scene.ground.kafka
    await scene.pause(0.5, 2)
    async with scene.ground.kafka_lock:
        pid = kafka.pid
        if pid is None:
            return
        began_at = scene.strike("Kafka frozen")
        os.kill(pid, signal.SIGSTOP)
        try:
            frozen = min(seconds, FROZEN_SECONDS) if scene.alone else min(seconds, _MIXED_SECONDS)
            await _watch(scene, began_at, frozen)
        finally:
            os.kill(pid, signal.SIGCONT)
        _judge_later(scene, began_at, time.monotonic(), time.monotonic())


async def kafka_killed(scene: Scene, seconds: float) -> None:
    """SIGKILL, and a start some seconds later."""
    kafka = scene.ground.kafka
    deadline = time.monotonic() + seconds
    while True:
        await scene.pause(0.5, 3)
        async with scene.ground.kafka_lock:
            began_at = scene.strike("Kafka killed")
            await asyncio.to_thread(kafka.kill)
            try:
                await _watch(scene, began_at, scene.random.uniform(3, 6))
            finally:
                ended_at = time.monotonic()
                await asyncio.to_thread(kafka.start)
        _judge_later(scene, began_at, ended_at, time.monotonic())
        if time.monotonic() + 15 > deadline:
            return


async def _watch(scene: Scene, began_at: float, seconds: float) -> None:
    """Let it be broken for that long, and look at how the gateways take it."""
    ended_at = began_at + seconds
    if not scene.alone:
        await asyncio.sleep(max(0.0, ended_at - time.monotonic()))
        return
    limit = max(seconds, READY_SECONDS)
    said = await asyncio.gather(
        *(says_unready(slot, "kafka", limit) for slot in scene.ground.slots.of("gateway"))
    )
    scene.must(None not in said, f"/readyz of a gateway did not say within {limit:g} s that Kafka is away")
    await asyncio.sleep(max(0.0, ended_at - time.monotonic()))


def _judge_later(scene: Scene, began_at: float, ended_at: float, back_at: float) -> None:
    """Nobody mended anything before ``ended_at``; by ``back_at`` Kafka served again."""
    if scene.alone:
        scene.judgements.append(lambda: _judge(scene, began_at, ended_at, back_at))


async def _judge(scene: Scene, began_at: float, ended_at: float, back_at: float) -> None:
    """Every request of that time was answered in time, and with 503."""
    tries = scene.tally.between(began_at + 0.5, ended_at)
    early = {each.status for each in tries if each.ended_at < ended_at}
    scene.must(
        202 not in early, "a request that began when Kafka was away was acknowledged before it was back"
    )
    answered = {each.status for each in scene.tally.tries if began_at < each.ended_at < back_at}
    if back_at - began_at > ANSWER_SECONDS + ROOM_SECONDS:
        scene.must(503 in answered, f"an outage of {back_at - began_at:.0f} s was never answered with 503")
    waited = (
        each.ended_at - max(each.began_at, began_at)
        for each in scene.tally.tries
        if each.began_at < ended_at and each.ended_at > began_at
    )
    slowest = max(waited, default=0.0)
    scene.remarks.append(f"slowest answer {slowest:.1f} s")
    scene.must(
        slowest <= ANSWER_SECONDS + ROOM_SECONDS, f"an answer took {slowest:.1f} s while Kafka was away"
    )


FAULTS = (
    Fault("Kafka frozen", ROW, kafka_frozen, FROZEN_SECONDS, least_seconds=FROZEN_SECONDS),
    Fault("Kafka killed", ROW, kafka_killed, 30, 8),
)
