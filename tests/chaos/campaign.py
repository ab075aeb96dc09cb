"""A campaign: round after round, faults under load, then quiet, then the oracle.

A round begins with a bucket of its own and a load on it; the faults strike and mend what they broke. The
time from then until every gateway has acknowledged something, and all that was sent by then is stored, is the
recovery. Then the load ends and everything is judged. A round that fails does not end the campaign.
"""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import aiohttp
import psycopg
from aiokafka.errors import KafkaError

from schema.errors import Unavailable
from tests.chaos import oracle, surfaces
from tests.chaos.faults.fault import Fault
from tests.chaos.ground import Ground
from tests.chaos.journal import ACCEPTED, Journal
from tests.chaos.load import Load
from tests.chaos.oracle import Verdict
from tests.chaos.scene import Scene, end_offsets
from tests.chaos.schedule import Round, shortened
from tests.chaos.waiting import until
from tests.support.processes import make_bucket

WARM_SECONDS = 1.0
RECOVERY_SECONDS = 60.0
DRAIN_SECONDS = 60.0
# A round that hangs is a failure too, and must not take the others with it.
OVERTIME_SECONDS = 180.0


@dataclass(slots=True)
class Result:
    """How a round went."""

    round: Round
    injected: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    repeated: int = 0
    refused: int = 0
    verdict: Verdict = field(default_factory=lambda: Verdict(0, 0, 0, 0, 0, 0))
    recovery_seconds: float = 0.0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


async def run(
    ground: Ground,
    journal: Journal,
    rounds: list[Round],
    seed: int,
    deadline: float,
    told: Callable[[Result], None],
) -> list[Result]:
    """All rounds that the time allows. ``told`` hears of each when it is over."""
    results: list[Result] = []
    for place, planned in enumerate(rounds):
        overhead = sum(r.seconds - r.round.seconds for r in results) / len(results) if results else 12.0
        left = deadline - time.monotonic()
        each = replace(planned, seconds=shortened(rounds[place:], left, overhead))
        if each.seconds + overhead > left and results:
            break
        result = await _round(ground, journal, each, seed)
        results.append(result)
        told(result)
    return results


async def _round(ground: Ground, journal: Journal, this: Round, seed: int) -> Result:
    began_at = time.monotonic()
    journal.round = this.number
    journal.say("round", faults=this.title)
    result = Result(this)
    try:
        async with asyncio.timeout(this.seconds + OVERTIME_SECONDS):
            await _played(ground, journal, this, seed, result)
    except Exception as error:  # noqa: BLE001 - whatever it was, the next rounds are played, and this one failed
        result.failures.append("".join(traceback.format_exception(error))[-3000:])
    result.failures += ground.slots.surprises
    ground.slots.surprises.clear()
    result.seconds = time.monotonic() - began_at
    journal.say("judged", failures=result.failures)
    return result


async def _played(ground: Ground, journal: Journal, this: Round, seed: int, result: Result) -> None:
    await asyncio.to_thread(ground.stand_up)
    credentials = await asyncio.to_thread(make_bucket, ground.dsn)
    name = f"{seed}-{this.number}"
    load = Load(ground.doors, credentials, journal, name, mixture=this.mixture)
    scene = Scene(ground, journal, load, random.Random(name), this.alone)
    sending = asyncio.create_task(load.run())
    try:
        await asyncio.sleep(WARM_SECONDS)
        async with asyncio.TaskGroup() as group:
            for fault in this.faults:
                group.create_task(_struck(fault, scene, this.seconds))
        ground.heal_paths()
        result.recovery_seconds = await _recovery(scene)
    finally:
        load.stop()
        await sending
        result.injected = dict(scene.injected)
        result.requests = load.tally.requests
        result.statuses = dict(load.tally.statuses)
        result.repeated = load.tally.repeated
        result.refused = len(load.tally.refused)
        result.failures = scene.failures
        result.remarks = scene.remarks
    await _judge(scene, result)


async def _struck(fault: Fault, scene: Scene, seconds: float) -> None:
    """One fault. Beside others its own questions may meet what they broke: that is no fault of Weir's."""
    try:
        await fault.strike(scene, seconds)
    except (psycopg.Error, aiohttp.ClientError, KafkaError, OSError, TimeoutError, Unavailable) as error:
        if scene.alone:
            raise
        scene.remarks.append(f"{fault.name} was cut short by another fault: {type(error).__name__}")


async def _recovery(scene: Scene) -> float:
    """Seconds until every gateway has acknowledged, and what was in the topic by now is stored."""
    ground, healed_at = scene.ground, time.monotonic()
    ends = await end_offsets(ground)

    async def acknowledging() -> bool:
        recent = [t for t in reversed(scene.tally.tries[-500:]) if t.ended_at > healed_at]
        return {t.door for t in recent if t.status == ACCEPTED} == set(range(len(ground.doors)))

    async def stored() -> bool:
        left = await asyncio.to_thread(oracle.behind, ground.dsn, ground.topics.events, ends)
        return all(records <= 0 for records in left.values())

    for holds, sentence in ((acknowledging, "every gateway acknowledges again"), (stored, "all is stored")):
        fine = await until(holds, RECOVERY_SECONDS)
        scene.must(fine, f"it took over {RECOVERY_SECONDS:g} s until {sentence}, unaided")
    return time.monotonic() - healed_at


async def _judge(scene: Scene, result: Result) -> None:
    ground, tally = scene.ground, scene.tally
    await ground.slots.all_ready()
    ends = await end_offsets(ground)
    topic = ground.topics.events
    left = await asyncio.to_thread(oracle.wait_drained, ground.dsn, topic, ends, DRAIN_SECONDS)
    scene.must(not left, left)
    scene.must(bool(tally.acknowledged), f"nothing was acknowledged at all: {tally.statuses}")
    scene.failures += tally.wrong_answers[:5]
    for judgement in scene.judgements:
        await judgement()
    result.verdict = await asyncio.to_thread(oracle.judged, ground.dsn, tally)
    scene.must(not result.verdict.sentence, result.verdict.sentence)
    wrong = await asyncio.to_thread(oracle.wrong_rollups, ground.dsn, tally.bucket_id)
    scene.must(not wrong, wrong)
    scene.failures += await surfaces.disagreements(ground.api_url, ground.dsn, scene.load.credentials)
