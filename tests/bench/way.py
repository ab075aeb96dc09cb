"""The whole way, HTTP to visible, against raw COPY and against a plain consumer.

A real gateway, a real writer, a generator with requests ready. The clock runs from the first request to the
moment at which a query sees the last event, so that a growing backlog cannot flatter. The plain consumer
finds its topic full and needs no HTTP: its clock runs from its first record to its last row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

import asyncpg
import orjson
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import RecordMetadata

from schema.connections import new_producer
from tests.bench import ground, recount
from tests.bench.accounting import by_group, read_cpu
from tests.bench.arithmetic import compared, paired, sound_count
from tests.bench.canary import Canary
from tests.bench.figures import Figure, of_comparison, say
from tests.bench.generator import Order, Result
from tests.bench.ground import Ground, Plot
from tests.bench.loads import sent
from tests.bench.processes import Running, started, weir
from tests.bench.recount import Void
from tests.bench.scale import Scale
from tests.bench.watching import Watch, topic_ends, watching
from tests.bench.workload import Numbers, Shape, Workload, made
from tests.bench.writer import RUN

CONNECTIONS = 8
_RUN_SECONDS = 240.0
# A second writer's partitions are its own after a heartbeat of the first one.
_REBALANCE_SECONDS = 6.0
# What a plain producer holds at one time.
_PUBLISHED_AT_ONCE = 20_000


@dataclass(slots=True)
class Way:
    """What the runs share."""

    plot: Plot
    workload: Workload
    made_at: datetime
    connection: asyncpg.Connection[asyncpg.Record]
    watch: Watch
    gateways: list[Running]
    writers: list[Running]
    accepted: int = 0
    # Requests of earlier runs, whose repeats are no new events.
    sent_before: Numbers = field(default_factory=Numbers)
    statuses: dict[int, int] = field(default_factory=dict)
    cpu: list[dict[str, float]] = field(default_factory=list)

    @property
    def gateway(self) -> Running:
        """The gateway, or the first of several."""
        return self.gateways[0]

    @property
    def writer(self) -> Running:
        """The writer, or the first of several."""
        return self.writers[0]

    def pids(self) -> dict[str, int]:
        """Whose CPU is counted."""
        pids = {
            f"{running.name}: {place}": running.pid
            for several in (self.gateways, self.writers)
            for place, running in enumerate(several)
        }
        broker = self.plot.ground.broker_pid
        return pids if broker is None else {**pids, "broker": broker}

    def order(
        self, numbers: range, connections: int = CONNECTIONS, rate: float = 0.0, gateway: int = 0
    ) -> Order:
        """These requests, for a generator."""
        return Order(
            url=self.gateways[gateway].url,
            shape=self.workload.shape,
            buckets=self.plot.buckets,
            partitions=ground.PARTITIONS,
            made_at=self.made_at,
            first=numbers.start,
            count=len(numbers),
            connections=connections,
            rate=rate,
        )

    def go_on(self) -> None:
        """Requests that are made from now on were observed just now, as in life: moments go on."""
        self.made_at = datetime.now(UTC)
        self.workload = made(self.workload.shape, self.plot.buckets, ground.PARTITIONS, self.made_at)

    async def run(self, numbers: range) -> float:
        """Send these requests as fast as they are taken; events a second until all are visible."""
        before = read_cpu(self.pids(), self.plot.ground.postmaster_pid)
        results = await self._sent(numbers)
        ends = await topic_ends(self.plot.kafka_settings())
        visible_at = await self.watch.wait(ends, _RUN_SECONDS)
        used = by_group(read_cpu(self.pids(), self.plot.ground.postmaster_pid).since(before))
        self.cpu.append({**used, "generator": sum(result.cpu_seconds for result in results)})
        for result in results:
            for status, count in result.statuses.items():
                self.statuses[status] = self.statuses.get(status, 0) + count
        await self.check(self.workload.new_events(numbers, self.sent_before))
        self.sent_before.ranges.append(numbers)
        accepted = sum(result.accepted for result in results)
        return accepted / (visible_at - min(result.begun_at for result in results))

    async def _sent(self, numbers: range) -> list[Result]:
        """Each gateway gets its share from a generator of its own."""
        count = len(self.gateways)
        bounds = [numbers.start + len(numbers) * place // count for place in range(count + 1)]
        return await asyncio.gather(
            *(
                sent(
                    self.order(range(*share), max(1, CONNECTIONS // count), gateway=place),
                    self.plot.ground.folder,
                    _RUN_SECONDS,
                )
                for place, share in enumerate(pairwise(bounds))
            )
        )

    async def check(self, accepted: int) -> None:
        """The oracle, after ``accepted`` more events that are none of the earlier ones. Raises Void."""
        self.accepted += accepted
        for running in (*self.gateways, *self.writers):
            running.check()
        await recount.check_sums(self.connection, self.accepted)


@asynccontextmanager
async def opened(
    plot: Plot, shape: Shape, settings: dict[str, str], *, gateways: int = 1, writers: int = 1
) -> AsyncIterator[Way]:
    """Gateways and writers, ready, and every writer with its partitions."""
    made_at = datetime.now(UTC)
    workload = made(shape, plot.buckets, ground.PARTITIONS, made_at)
    environment = {**plot.environment(), **settings}
    connection = await ground.connected(plot.dsn)
    with ExitStack() as stack:
        doors = [
            stack.enter_context(weir("gateway", plot.ground.folder, environment)) for _ in range(gateways)
        ]
        storing = [
            stack.enter_context(weir("writer", plot.ground.folder, environment)) for _ in range(writers)
        ]
        if writers > 1:
            await asyncio.sleep(_REBALANCE_SECONDS)
        async with watching(plot) as watch:
            yield Way(plot, workload, made_at, connection, watch, doors, storing)
    await connection.close(timeout=5)


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """Both ratios. Raises Void."""
    rates: list[float] = []
    plain_rates: list[float] = []
    canaries: list[float] = []
    shape = Shape()
    size = scale.way_events // shape.events_of_request
    async with ground.plot(where) as plot, opened(plot, shape, settings) as way:
        canary = await Canary.open(plot.dsn)
        warm = range(max(1, size // 10))
        await way.run(warm)
        await canary.run(way.workload, warm)
        way.cpu.clear()
        async with _plain(way) as plain:
            for turn in range(1, scale.most_rounds + 1):
                numbers = range(turn * RUN, turn * RUN + size)
                way.go_on()
                canaries.append(await canary.run(way.workload, numbers))
                rates.append(await way.run(numbers))
                plain_rates.append(await plain.run(numbers))
                say(
                    f"way: canary {canaries[-1]:,.0f}, way {rates[-1]:,.0f}, "
                    f"plain consumer {plain_rates[-1]:,.0f} events/s"
                )
                if turn >= scale.rounds and sound_count(canaries) >= scale.rounds - 1:
                    break
        last = (len(rates) + 1) * RUN
        way.go_on()
        canaries.append(await canary.run(way.workload, range(last, last + size)))
        await canary.close()
        await recount.check_every_count(plot.dsn)
    events = way.workload.events(range(size))
    cpu = {
        name: round(median(run.get(name, 0.0) for run in way.cpu) / events * 1e6, 2)
        for name in sorted({name for run in way.cpu for name in run})
    }
    facts: dict[str, object] = {
        "events": events,
        "events_of_request": shape.events_of_request,
        "connections": CONNECTIONS,
        "statuses": way.statuses,
    }
    return [
        of_comparison(
            "HTTP to visible ÷ raw COPY", compared(rates, canaries), goal="way", cpu_us=cpu, facts=facts
        ),
        of_comparison(
            "HTTP to visible ÷ plain consumer",
            paired(rates, plain_rates, canaries),
            goal="way_plain",
            facts={"events": events, "plain_batch_events": 10_000},
        ),
    ]


@dataclass(slots=True)
class Plain:
    """The plain consumer, its topic, and its table."""

    way: Way
    consumer: Running
    topic: str
    stored: int = 0

    async def run(self, numbers: range) -> float:
        """Events a second: all of these requests, so that its table and indexes grow as Weir's do."""
        self.consumer.freeze()
        try:
            last = await self._publish(numbers)
            await self.way.connection.execute("CHECKPOINT")
        finally:
            begun = time.monotonic()
            self.consumer.thaw()
        await self._wait(last)
        seconds = time.monotonic() - begun
        count = self.way.workload.events(numbers)
        self.stored += count
        found = await self.way.connection.fetchval("SELECT count(*) FROM plain_events")
        if found != self.stored:
            raise Void(f"the plain consumer stored {found} of {self.stored} events")
        return count / seconds

    async def _publish(self, numbers: range) -> list[tuple[int, str, datetime]]:
        """One record an event; the identity of the last of each partition."""
        producer = new_producer(self.way.plot.kafka_settings())
        await producer.start()
        last: dict[int, tuple[int, str, datetime]] = {}
        try:
            waiting: list[asyncio.Future[RecordMetadata]] = []
            for number in numbers:
                key = self.way.workload.template(number).bucket.bucket_key
                for place, event in enumerate(orjson.loads(self.way.workload.body(number))):
                    partition = place % ground.PARTITIONS
                    record = orjson.dumps({"bucket_key": key, **event})
                    waiting.append(await producer.send(self.topic, record, partition=partition))
                    last[partition] = (key, event["id"], datetime.fromisoformat(event["observed_at"]))
                if len(waiting) >= _PUBLISHED_AT_ONCE:
                    await _acknowledged(waiting)
            await _acknowledged(waiting)
        finally:
            await asyncio.wait_for(producer.stop(), 15)
        return list(last.values())

    async def _wait(self, last: list[tuple[int, str, datetime]]) -> None:
        deadline = time.monotonic() + _RUN_SECONDS
        keys, ids, moments = zip(*last, strict=True)
        while time.monotonic() < deadline:
            self.consumer.check()
            seen = await self.way.connection.fetchval(_SEEN, keys, ids, moments)
            if seen == len(last):
                return
            await asyncio.sleep(recount.POLL_SECONDS)
        raise Void("the plain consumer did not come to an end")


_SEEN = """
SELECT count(*) FROM unnest($1::int[], $2::text[], $3::timestamptz[]) AS last (bucket_key, id, observed_at)
JOIN plain_events USING (bucket_key, id, observed_at)
"""


async def _acknowledged(waiting: list[asyncio.Future[RecordMetadata]]) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    waiting.clear()


@asynccontextmanager
async def _plain(way: Way) -> AsyncIterator[Plain]:
    topic = f"{way.plot.prefix}.plain"
    admin = AIOKafkaAdminClient(bootstrap_servers=way.plot.ground.kafka_bootstrap, request_timeout_ms=10_000)
    await admin.start()
    await admin.create_topics([NewTopic(topic, ground.PARTITIONS, 1)])
    await admin.close()
    environment = {**way.plot.environment(), "BENCH_TOPIC": topic}
    with started(
        "plain-consumer", ["-m", "tests.bench.plain_consumer"], way.plot.ground.folder, environment
    ) as consumer:
        deadline = time.monotonic() + 30
        while "ready" not in consumer.last_words():
            consumer.check()
            if time.monotonic() > deadline:
                raise Void("the plain consumer did not start")
            await asyncio.sleep(0.05)
        yield Plain(way, consumer, topic)
