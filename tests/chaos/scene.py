"""One round as its faults see it: the ground, the load, dice of its own, and where findings go."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from schema.connections import new_reader, stop_within
from tests.chaos.ground import Ground
from tests.chaos.journal import Journal, Tally
from tests.chaos.load import Load
from tests.chaos.slots import Slot
from tests.support.processes import make_bucket

QUESTION_SECONDS = 30.0


@dataclass(slots=True)
class Scene:
    """``alone``: no other fault strikes in this round, so what a fault must show can be asked of it.

    ``others``: loads beside the round's own; ``judgements`` are more questions that a fault wants asked once
    all is quiet; ``remarks`` are reported.
    """

    ground: Ground
    journal: Journal
    load: Load
    random: random.Random
    alone: bool
    others: list[Load] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    judgements: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        return self.load.tally

    def strike(self, what: str, **more: object) -> float:
        """Note that a fault strikes now; returns the moment."""
        self.injected[what] += 1
        self.journal.say(what, **more)
        return time.monotonic()

    def must(self, holds: bool, sentence: str) -> None:
        """What has to hold, or the round fails with this sentence."""
        if not holds:
            self.failures.append(sentence)

    def second_load(self, name: str, **options: object) -> Load:
        """A load of a bucket of its own, not running yet."""
        credentials = make_bucket(self.ground.dsn)
        seed = f"{self.load.seed}-{name}"
        load = Load(self.ground.doors, credentials, self.journal, seed, **options)  # type: ignore[arg-type]
        self.others.append(load)
        return load

    async def hold(self) -> None:
        """Nobody sends anything new until ``go_on``; returns once nothing is in flight."""
        await asyncio.gather(*(load.hold() for load in (self.load, *self.others)))

    def go_on(self) -> None:
        """Everybody sends again."""
        for load in (self.load, *self.others):
            load.go_on()

    async def pause(self, least: float, most: float) -> None:
        """A random while."""
        await asyncio.sleep(self.random.uniform(least, most))

    def any_of(self, role: str) -> Slot:
        """A random place of a role, of those that were there from the beginning."""
        return self.random.choice([slot for slot in self.ground.slots.of(role) if slot.lasting])


async def end_offsets(ground: Ground) -> dict[int, int]:
    """Where the events topic ends now, asked past the proxies."""
    settings = ground.topics.settings(ground.kafka.bootstrap)
    reader = new_reader(settings)
    try:
        await asyncio.wait_for(reader.start(), QUESTION_SECONDS)
        places = [TopicPartition(settings.kafka_events_topic, p) for p in range(settings.kafka_partitions)]
        ends = await asyncio.wait_for(reader.end_offsets(places), QUESTION_SECONDS)
        return {place.partition: end for place, end in ends.items()}
    finally:
        await stop_within(reader.stop(), 2, "reader")
