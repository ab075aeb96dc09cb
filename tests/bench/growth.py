"""What an event costs, HTTP to visible, and how that grows: one axis after the other, all else as it was.

Axes: events stored before, devices, buckets, share of repeated events, gateways, writers. Each point has a
database, topics and processes of its own. Compared is CPU by process, which holds when the clock does not;
rates and resident memory stand beside it. Before and after each round a canary copies the same rows, so that
a machine that was slower at one point than at another is told from a cost that has grown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from statistics import median

from tests.bench import ground
from tests.bench.arithmetic import compared, summary
from tests.bench.canary import Canary
from tests.bench.figures import Figure, say
from tests.bench.goals import MIB
from tests.bench.ground import Ground
from tests.bench.publishing import Publishing
from tests.bench.scale import Scale
from tests.bench.watching import topic_ends
from tests.bench.way import Way, opened
from tests.bench.workload import Shape, made
from tests.bench.writer import RUN

# Requests that are stored ahead have numbers of their own; so many at once.
_PRELOADED = 1 << 40
_PORTION = 250
_PRELOAD_SECONDS = 600.0
_STORED = 10_000
# A request of a bucket's axis is what one device has gathered, so that a thousand buckets have one each.
_OF_ONE_DEVICE = replace(Shape(), events_of_request=100, devices_of_request=1)


@dataclass(frozen=True, slots=True)
class Point:
    """One place on an axis."""

    axis: str
    place: float
    shape: Shape = field(default_factory=Shape)
    stored: int = _STORED
    gateways: int = 1
    writers: int = 1


def points(scale: Scale) -> list[Point]:
    """All of them; where only a glance is wanted, the last one."""
    many_devices = replace(Shape(), devices=100_000, devices_of_request=1000, templates=100)
    some_devices = replace(Shape(), devices=1000, devices_of_request=1000, templates=100)
    few_devices = replace(some_devices, devices=10)
    found = [Point("stored", stored, stored=stored) for stored in scale.growth_stored]
    if not scale.growth_axes:
        return found
    found += [Point("repeats", share, replace(Shape(), repeats=share)) for share in (0.01, 0.1)]
    found += [Point("devices", shape.devices, shape) for shape in (few_devices, some_devices, many_devices)]
    found += [
        Point("buckets", count, replace(_OF_ONE_DEVICE, buckets=count, templates=max(64, count)))
        for count in (1, 30, 1000)
    ]
    found += [Point("gateways", 2, gateways=2), Point("writers", 2, writers=2)]
    found += [Point("gateways and writers", 2, gateways=2, writers=2)]
    return found if scale.side_rounds else found[-1:]


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """One figure for each point. Raises Void."""
    return [await _measure(where, scale, point, settings) for point in points(scale)]


async def _measure(where: Ground, scale: Scale, point: Point, settings: dict[str, str]) -> Figure:
    size = max(1, scale.growth_events // point.shape.events_of_request)
    async with (
        ground.plot(where, buckets=point.shape.buckets) as plot,
        opened(plot, point.shape, settings, gateways=point.gateways, writers=point.writers) as way,
    ):
        await _preload(way, point.stored)
        await way.run(range(max(1, size // 10)))
        way.cpu.clear()
        canary = await Canary.open(plot.dsn)
        await _copied(canary, way, range(max(1, size // 10)))
        rates: list[float] = []
        copied: list[float] = []
        for turn in range(1, scale.growth_rounds + 1):
            numbers = range(turn * RUN, turn * RUN + size)
            way.go_on()
            copied.append(await _copied(canary, way, numbers))
            rates.append(await way.run(numbers))
        last = (len(rates) + 1) * RUN
        way.go_on()
        copied.append(await _copied(canary, way, range(last, last + size)))
        await canary.close()
        resident = {
            f"{name}_mib": round(sum(running.resident_bytes() for running in several) / MIB, 1)
            for name, several in (("gateway", way.gateways), ("writer", way.writers))
        }
        events = way.workload.events(range(size))
        cpu = _microseconds(way.cpu, events)
        costs = [sum(run.values()) / events * 1e6 for run in map(_without_generator, way.cpu)]
        figure = Figure(
            f"growth: {point.axis} {point.place:{',.0f' if point.place >= 1 else 'g'}}",
            summary(costs),
            "CPU µs an event",
            rate=summary(rates),
            rate_unit="events/s",
            cpu_us=cpu,
            facts={
                "axis": point.axis,
                "place": point.place,
                "stored": way.accepted,
                "events": events,
                "gateways": point.gateways,
                "writers": point.writers,
                **point.shape.facts(),
                **resident,
                **_beside(costs, copied),
            },
        )
    say(
        f"{figure.title}: {figure.value.median:.2f} CPU µs an event, {cpu}, {max(rates):,.0f} events/s; "
        f"raw COPY {[round(cost, 2) for cost in copied]}"
    )
    return figure


async def _copied(canary: Canary, way: Way, numbers: range) -> float:
    """CPU microseconds a row of raw COPY: the database's, and this process's, which copies; 0: not seen."""
    if way.plot.ground.postmaster_pid is None:
        return 0.0
    workload = way.workload
    if workload.shape.repeats:
        # COPY cannot drop what comes twice.
        unrepeated = replace(workload.shape, repeats=0)
        workload = made(unrepeated, way.plot.buckets, ground.PARTITIONS, way.made_at)
    return await canary.cost(workload, numbers, way.plot.ground.postmaster_pid)


def _beside(costs: list[float], copied: list[float]) -> dict[str, object]:
    """What raw COPY took in the same minutes, and the cost of an event by that of its row.

    Nothing where a copy was too short for the clock of the kernel, or its database is not seen.
    """
    if not all(copied):
        return {}
    comparison = compared(costs, copied)
    return {
        "raw_us": comparison.other_rate.median,
        "ratio_to_raw": asdict(comparison.ratio),
        "thrown_away": comparison.thrown_away,
        "noisy": comparison.noisy,
    }


async def _preload(way: Way, events: int) -> None:
    """Store so many events of the hours before by the writer, in portions that the topic's disk can take."""
    past = range(_PRELOADED, _PRELOADED + events // way.workload.shape.events_of_request)
    workload = replace(way.workload, past=past)
    async with Publishing(way.plot.kafka_settings()) as publishing:
        for first in range(0, len(past), _PORTION):
            numbers = past[first : first + _PORTION]
            await publishing.publish(workload, numbers)
            await way.watch.wait(await topic_ends(way.plot.kafka_settings()), _PRELOAD_SECONDS)
            way.accepted += workload.new_events(numbers, way.sent_before)
            way.sent_before.ranges.append(numbers)
            if first % (_PORTION * 20) == 0 and first:
                say(f"growth: {way.accepted:,} events stored ahead")
    await way.check(0)


def _without_generator(used: dict[str, float]) -> dict[str, float]:
    return {name: seconds for name, seconds in used.items() if name != "generator"}


def _microseconds(runs: list[dict[str, float]], events: int) -> dict[str, float]:
    names = sorted({name for run in runs for name in run})
    return {name: round(median(run.get(name, 0.0) for run in runs) / events * 1e6, 2) for name in names}
