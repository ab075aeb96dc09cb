"""Writer: topic to commit, rollups kept and duplicates dropped, against raw COPY of the same rows.

The writer runs and has its partitions; it is frozen while the topic is filled, and the clock starts when
it is let go. It stops when a query sees the last record's offset, which is committed with its rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median

import asyncpg

from tests.bench import ground, recount
from tests.bench.accounting import by_group, read_cpu
from tests.bench.arithmetic import compared, sound_count
from tests.bench.canary import Canary
from tests.bench.figures import Figure, of_comparison, say
from tests.bench.ground import Ground, Plot
from tests.bench.processes import Running, weir
from tests.bench.publishing import Publishing
from tests.bench.scale import Scale
from tests.bench.workload import Numbers, Shape, Workload, made

# Requests of one run are numbered from a multiple of this.
RUN = 1 << 20
_RUN_SECONDS = 120.0
# Requests that are loaded ahead have numbers of their own; so many at once.
_PRELOADED = 1 << 40
_PORTION = 500


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of topic content. ``restarted``: by a writer that has not seen the events it gets again."""

    title: str
    goal: str | None = None
    repeats: float = 0.0
    restarted: bool = False


CASES = (
    Case("writer ÷ raw COPY", "writer"),
    Case("writer ÷ raw COPY, 1 % repeated soon after", repeats=0.01),
    Case("writer ÷ raw COPY, 10 % repeated soon after", repeats=0.10),
    Case("writer ÷ raw COPY, 1 % repeated long after", repeats=0.01, restarted=True),
    Case("writer ÷ raw COPY, 10 % repeated long after", repeats=0.10, restarted=True),
)


@dataclass(slots=True)
class Ledger:
    """What has been sent so far, and what each run took."""

    stored: int = 0
    sent: Numbers = field(default_factory=Numbers)
    cpu: list[dict[str, float]] = field(default_factory=list)
    canary_cpu: list[dict[str, float]] = field(default_factory=list)


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """All cases. Raises Void."""
    figures = []
    for case in CASES if scale.side_rounds else [case for case in CASES if case.goal]:
        async with ground.plot(where) as plot:
            figures.append(await _measure_case(plot, scale, case, settings))
    return figures


async def _measure_case(plot: Plot, scale: Scale, case: Case, settings: dict[str, str]) -> Figure:
    turns = Turns(plot, case)
    workload, unrepeated = turns.next()
    size = scale.events // workload.shape.events_of_request
    canary = await Canary.open(plot.dsn)
    rates: list[float] = []
    canaries: list[float] = []
    ledger = Ledger()
    async with _bench(plot, canary, settings) as bench:
        # What is repeated long after has to be there from the first round on.
        warm = range(size if case.restarted else max(1, size // 10))
        await _one_run(bench, workload, warm, ledger)
        await canary.run(unrepeated, warm)
        await _preload(bench, canary, workload, unrepeated, scale.preloaded_events, ledger)
        ledger.cpu.clear()
        rounds, most_rounds = (
            (scale.rounds, scale.most_rounds) if case.goal else (scale.side_rounds, scale.side_rounds)
        )
        for turn in range(1, most_rounds + 1):
            numbers = range(turn * RUN, turn * RUN + size)
            workload, unrepeated = turns.next()
            before = read_cpu({"copying": os.getpid()}, plot.ground.postmaster_pid)
            canaries.append(await canary.run(unrepeated, numbers))
            ledger.canary_cpu.append(
                by_group(read_cpu({"copying": os.getpid()}, plot.ground.postmaster_pid).since(before))
            )
            say(f"{case.title}: canary {canaries[-1]:,.0f} rows/s")
            if case.restarted:
                bench.restart_writer()
            rates.append(await _one_run(bench, workload, numbers, ledger))
            say(f"{case.title}: writer {rates[-1]:,.0f} events/s, CPU {ledger.cpu[-1]}")
            if turn >= rounds and sound_count(canaries) >= rounds - 1:
                break
        last = (len(rates) + 1) * RUN
        canaries.append(await canary.run(unrepeated, range(last, last + size)))
        await recount.check_every_count(plot.dsn)
    comparison = compared(rates, canaries)
    events = workload.events(range(size))
    cpu, canary_cpu = _microseconds(ledger.cpu, events), _microseconds(ledger.canary_cpu, events)
    return of_comparison(
        case.title,
        comparison,
        goal=case.goal,
        cpu_us=cpu,
        facts={
            "events": events,
            "repeats": case.repeats,
            "canary_cpu_us": canary_cpu,
            # Holds when the clock does not: what the ratio is where both sides have all cores to themselves.
            "cpu_ratio": round(sum(canary_cpu.values()) / sum(cpu.values()), 3),
            **bench.facts,
        },
    )


@dataclass(slots=True)
class Turns:
    """The events of one turn after the other, observed just before it: moments go on."""

    plot: Plot
    case: Case
    made_at: datetime | None = None

    def next(self) -> tuple[Workload, Workload]:
        """With repeats, for the writer; without, for the canary, since COPY cannot drop any."""
        earlier, self.made_at = self.made_at, datetime.now(UTC)
        buckets, partitions, restarted = self.plot.buckets, ground.PARTITIONS, self.case.restarted
        return (
            made(
                Shape(repeats=self.case.repeats),
                buckets,
                partitions,
                self.made_at,
                repeat_distance=RUN if restarted else None,
                earlier=earlier if restarted else None,
            ),
            made(Shape(), buckets, partitions, self.made_at),
        )


@dataclass(slots=True)
class Bench:
    """What the runs of one case share."""

    plot: Plot
    connection: asyncpg.Connection[asyncpg.Record]
    publishing: Publishing
    stack: ExitStack
    settings: dict[str, str]
    writer: Running
    facts: dict[str, object] = field(default_factory=dict)

    def restart_writer(self) -> None:
        """A new process, which remembers nothing."""
        self.stack.close()
        self.writer = start_writer(self.stack, self.plot, self.settings)


def start_writer(stack: ExitStack, plot: Plot, settings: dict[str, str]) -> Running:
    """A writer that is ready, ended with ``stack``."""
    return stack.enter_context(weir("writer", plot.ground.folder, {**plot.environment(), **settings}))


@asynccontextmanager
async def _bench(plot: Plot, canary: Canary, settings: dict[str, str]) -> AsyncIterator[Bench]:
    connection = await ground.connected(plot.dsn)
    with ExitStack() as stack:
        async with Publishing(plot.kafka_settings()) as publishing:
            writer = start_writer(stack, plot, settings)
            yield Bench(plot, connection, publishing, stack, settings, writer)
    await connection.close(timeout=5)
    await canary.close()


async def _preload(
    bench: Bench, canary: Canary, workload: Workload, unrepeated: Workload, events: int, ledger: Ledger
) -> None:
    """Load both tables alike before anything is measured, in portions that the topic's disk can take."""
    past = range(_PRELOADED, _PRELOADED + events // workload.shape.events_of_request)
    workload, unrepeated = replace(workload, past=past), replace(unrepeated, past=past)
    for place, first in enumerate(range(0, len(past), _PORTION)):
        numbers = past[first : first + _PORTION]
        await canary.run(unrepeated, numbers)
        await _one_run(bench, workload, numbers, ledger)
        say(f"loaded ahead: {ledger.stored:,} events after portion {place + 1}")


async def _one_run(bench: Bench, workload: Workload, numbers: range, ledger: Ledger) -> float:
    """Events a second."""
    ground_pids = {"writer": bench.writer.pid}
    if bench.plot.ground.broker_pid is not None:
        ground_pids["broker"] = bench.plot.ground.broker_pid
    postmaster = bench.plot.ground.postmaster_pid
    bench.writer.freeze()
    try:
        await bench.publishing.publish(workload, numbers)
        await bench.connection.execute("CHECKPOINT")
        position = await bench.connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        before = read_cpu(ground_pids, postmaster)
    finally:
        begun = time.monotonic()
        bench.writer.thaw()
    ended = await recount.wait_visible(
        bench.connection, bench.plot.events_topic, bench.publishing.records, _RUN_SECONDS
    )
    ledger.cpu.append(by_group(read_cpu(ground_pids, postmaster).since(before)))
    wal = await bench.connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", position)
    events = workload.events(numbers)
    bench.facts["wal_bytes_an_event"] = round(float(wal) / events)
    ledger.stored += workload.new_events(numbers, ledger.sent)
    ledger.sent.ranges.append(numbers)
    bench.writer.check()
    await recount.check_sums(bench.connection, ledger.stored)
    return events / (ended - begun)


def _microseconds(runs: list[dict[str, float]], events: int) -> dict[str, float]:
    """CPU microseconds an event: the median over runs."""
    return {
        name: round(median(run.get(name, 0.0) for run in runs) / events * 1e6, 2)
        for name in sorted({name for run in runs for name in run})
    }
