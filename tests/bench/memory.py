"""Resident memory of each process: at the start, after many events, and with the broker or the database
frozen.

Whatever is frozen stays frozen for a while under load from many connections, and is let go again; then every
request has to come to its end and every count has to be right.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import psutil

from tests.bench import ground, recount
from tests.bench.arithmetic import summary
from tests.bench.figures import Figure, say
from tests.bench.goals import MIB
from tests.bench.ground import Ground
from tests.bench.loads import result_of, sending, sent
from tests.bench.processes import Running, weir
from tests.bench.scale import Scale
from tests.bench.watching import topic_ends
from tests.bench.way import Way, opened
from tests.bench.workload import Shape
from tests.bench.writer import RUN

FROZEN_CONNECTIONS = 64
_SAMPLE_SECONDS = 0.1
_QUESTION_SECONDS = 0.5
_LOAD_SECONDS = 2400.0
_RECOVERY_SECONDS = 30.0
_REQUESTS_BEFORE = 0.25
_ANSWER_SECONDS = aiohttp.ClientTimeout(total=25)


@dataclass(slots=True)
class Residents:
    """Most resident bytes by process and phase."""

    processes: list[Running]
    phase: str = "start"
    most: dict[str, dict[str, int]] = field(default_factory=dict)

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_SAMPLE_SECONDS)

    def look(self) -> None:
        """One sample of each."""
        for running in self.processes:
            phases = self.most.setdefault(running.name, {})
            phases[self.phase] = max(phases.get(self.phase, 0), running.resident_bytes())


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """One figure for each process. Raises Void."""
    shape = Shape()
    async with ground.plot(where) as plot, opened(plot, shape, settings) as way:
        with weir("api", where.folder, {**plot.environment(), **settings}) as api:
            residents = Residents([way.gateway, way.writer, api])
            async with _in_background(residents.sample()), _in_background(_ask(way, api)):
                await asyncio.sleep(1.0)
                residents.phase = "events"
                count = max(1, scale.memory_events // shape.events_of_request)
                result = await sent(way.order(range(count)), where.folder, _LOAD_SECONDS)
                await _settled(way, result.accepted)
                say(f"memory after {result.accepted:,} events: {_shown(residents)}")
                for place, (phase, pids) in enumerate(_freezable(where)):
                    residents.phase = phase
                    await _frozen(way, scale, pids, first=(place + 1) * RUN)
                    say(f"memory with {phase}: {_shown(residents)}")
                await recount.check_every_count(plot.dsn)
    return [_figure(name, phases, scale) for name, phases in residents.most.items()]


def _freezable(where: Ground) -> list[tuple[str, list[int]]]:
    """What can be frozen: servers of our own only."""
    found = []
    if where.broker_pid is not None:
        found.append(("broker frozen", [where.broker_pid]))
    if where.postmaster_pid is not None:
        found.append(("database frozen", [where.postmaster_pid]))
    return found


async def _frozen(way: Way, scale: Scale, pids: list[int], first: int) -> None:
    """Freeze a server under load; afterwards everything that was sent is accepted and stored."""
    # Enough for the whole time at any rate: what is left over is not sent.
    size = max(8, scale.events // way.workload.shape.events_of_request)
    numbers = range(first, first + size)
    order = replace(
        way.order(numbers, connections=FROZEN_CONNECTIONS, rate=size / (scale.frozen_seconds + 2)),
        # As long as the server is frozen nobody gives up.
        give_up_seconds=scale.frozen_seconds + _RECOVERY_SECONDS,
    )
    with sending(order, way.plot.ground.folder) as (running, result_file):
        await asyncio.sleep(1.0 + _REQUESTS_BEFORE)
        everything = [family for pid in pids for family in _family(pid)]
        _signal(everything, signal.SIGSTOP)
        try:
            await asyncio.sleep(scale.frozen_seconds)
        finally:
            _signal(everything, signal.SIGCONT)
        await asyncio.to_thread(running.finished, 240.0)
        result = result_of(result_file)
    await _settled(way, result.accepted)


async def _settled(way: Way, accepted: int) -> None:
    await way.watch.wait(await topic_ends(way.plot.kafka_settings()), 240.0)
    await way.check(accepted)


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


async def _ask(way: Way, api: Running) -> None:
    """Questions to the query API all the while, whatever it answers while a server is frozen."""
    bucket = way.plot.buckets[0]
    url = f"{api.url}/api/bucket/{bucket.bucket_id}/data/events"
    headers = {"X-Api-Key": bucket.read_key}
    async with aiohttp.ClientSession(timeout=_ANSWER_SECONDS, headers=headers) as session:
        while True:
            for path, body in (("/stats", {"interval": "minute", "days": 1}), ("", {"limit": 1000})):
                try:
                    async with session.post(url + path, json=body) as answer:
                        await answer.read()
                except (aiohttp.ClientError, TimeoutError):
                    pass
            await asyncio.sleep(_QUESTION_SECONDS)


@asynccontextmanager
async def _in_background(work: object) -> AsyncIterator[None]:
    task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
    try:
        yield
    finally:
        failed = task.done() and not task.cancelled() and task.exception() is not None
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        if failed:
            task.result()


def _figure(name: str, phases: dict[str, int], scale: Scale) -> Figure:
    return Figure(
        f"{name}: most resident MiB",
        # The goal is for the worst moment.
        summary([max(phases.values()) / MIB]),
        "MiB",
        f"memory_{name}",
        facts={
            "events": scale.memory_events,
            "frozen_seconds": scale.frozen_seconds,
            **{f"{phase}_mib": round(most / MIB, 1) for phase, most in phases.items()},
        },
    )


def _shown(residents: Residents) -> str:
    return ", ".join(
        f"{name} {phases.get(residents.phase, 0) / MIB:.0f} MiB" for name, phases in residents.most.items()
    )
