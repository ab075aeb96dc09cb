"""Every kind of question over HTTP, asked in turns: how long it takes, and what its plans read.

A real query API process with its own credential check answers; a round asks each kind once, in an order of
its own, so that whatever else the machine does hits all of them alike. Then a few kinds are asked by eight
at a time, and last each kind's statements are explained.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiohttp

from schema.settings import ApiSettings
from tests.bench import ground
from tests.bench.arithmetic import percentile, summary
from tests.bench.explaining import Explaining, answer_of, explaining, new_session
from tests.bench.figures import Figure, say
from tests.bench.ground import Ground
from tests.bench.processes import weir
from tests.bench.questions import Kind, kinds
from tests.bench.scale import Scale
from tests.bench.stock import SEED, Stock, filled

AT_ONCE = 8
# Asked by eight at a time, too.
CROWDED = (
    "000 events, newest 100",
    "000 stats, all days by hour",
    "002 journal, a device",
    "003 10 devices, a day",
    "004 node statistics of today",
)
_WARMING_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from the request to the answer's last byte, and the bytes of the answers."""

    milliseconds: list[float]
    sizes: list[int]


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """One figure for each kind. Raises Void when a question is not answered, or a count is wrong."""
    async with ground.plot(where) as plot:
        stock = await filled(plot, scale)
        asked = kinds(stock)
        with weir("api", where.folder, {**plot.environment(), **settings}) as api:
            async with new_session() as session:
                times = await _in_turns(session, api.url, asked, scale.query_rounds)
                crowded = {
                    kind.title: await _at_once(session, api.url, kind, scale.query_rounds)
                    for kind in asked
                    if kind.title in CROWDED
                }
        given = {name.removeprefix("WEIR_").lower(): value for name, value in settings.items()}
        api_settings = ApiSettings.model_validate({**given, **_reachable(stock)})
        async with explaining(api_settings) as reader:
            return [
                await _figure(kind, times[kind.title], crowded.get(kind.title), reader, stock)
                for kind in asked
            ]


def _reachable(stock: Stock) -> dict[str, str]:
    kafka = stock.plot.kafka_settings()
    return {
        "database_dsn": stock.plot.dsn,
        "kafka_bootstrap": kafka.kafka_bootstrap,
        "kafka_events_topic": kafka.kafka_events_topic,
    }


async def _in_turns(
    session: aiohttp.ClientSession, url: str, asked: Sequence[Kind], rounds: int
) -> dict[str, Times]:
    """Each kind once a round, the first rounds for the caches."""
    found: dict[str, Times] = defaultdict(lambda: Times([], []))
    order = random.Random(SEED)
    warming = min(_WARMING_ROUNDS, rounds)
    for turn in range(-warming, rounds):
        for kind in order.sample(asked, len(asked)):
            begun = time.perf_counter()
            body = await answer_of(session, url, kind.requests[turn % len(kind.requests)])
            if turn >= 0:
                found[kind.title].milliseconds.append((time.perf_counter() - begun) * 1000)
                found[kind.title].sizes.append(len(body))
        if turn % 20 == 0:
            say(f"queries: round {turn} of {rounds}")
    return found


async def _at_once(session: aiohttp.ClientSession, url: str, kind: Kind, rounds: int) -> Times:
    """The kind asked by several at a time."""
    found = Times([], [])

    async def ask(first: int) -> None:
        for turn in range(first, max(rounds, AT_ONCE), AT_ONCE):
            begun = time.perf_counter()
            body = await answer_of(session, url, kind.requests[turn % len(kind.requests)])
            found.milliseconds.append((time.perf_counter() - begun) * 1000)
            found.sizes.append(len(body))

    async with asyncio.TaskGroup() as group:
        for first in range(AT_ONCE):
            group.create_task(ask(first))
    return found


async def _figure(
    kind: Kind, times: Times, crowded: Times | None, reader: Explaining, stock: Stock
) -> Figure:
    most = percentile(times.milliseconds, 0.99)
    reading = await reader.read(kind.requests[0])
    facts: dict[str, object] = {
        "kind": kind.title,
        "edition": stock.edition,
        "events": stock.events,
        "p50_ms": round(percentile(times.milliseconds, 0.50), 2),
        "p99_ms": round(most, 2),
        "most_ms": round(max(times.milliseconds), 2),
        "asked": len(times.milliseconds),
        "largest_bytes": max(times.sizes),
        **reading.facts(),
    }
    if crowded is not None:
        facts["p50_ms_at_eight"] = round(percentile(crowded.milliseconds, 0.50), 2)
        facts["p99_ms_at_eight"] = round(percentile(crowded.milliseconds, 0.99), 2)
    return Figure(
        f"{kind.title}: p99 (least, most: p50, slowest)",
        replace(
            summary(times.milliseconds),
            median=most,
            least=percentile(times.milliseconds, 0.50),
        ),
        "ms",
        kind.goal,
        facts=facts,
    )
