"""Clients that send while faults strike, repeat what was not acknowledged, and keep every answer.

A client behaves as a good one does: what is not answered 202 is sent again as it was, until it is, or until
the load has been over for a while; only then its events are unknown. An answer that accepts or refuses other
events than it should is kept as wrong, whatever becomes of them later.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import orjson

from tests.chaos.content import Mixture, Request, request_of
from tests.chaos.journal import ACCEPTED, NO_ANSWER, Journal, Tally, Try
from tests.chaos.waiting import until_so
from tests.support.processes import Credentials

# A gateway answers within 5 s whatever happens to Kafka; beyond this there is no answer.
TRY_SECONDS = 12.0
# How long a load that was told to end goes on repeating what nobody has acknowledged yet.
PATIENCE_SECONDS = 25.0
NODES = 5


@dataclass(slots=True)
class Load:
    """One bucket's load on several doors (URLs of gateways).

    ``lenient``: some events may become too old to be accepted while they are sent.
    """

    doors: Sequence[str]
    credentials: Credentials
    journal: Journal
    seed: str
    clients: int = 6
    pause_seconds: float = 0.3
    batch: int = 40
    mixture: Mixture = field(default_factory=Mixture)
    lenient: bool = False
    tally: Tally = field(init=False)
    _going: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _in_flight: int = field(init=False, default=0)
    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _ended_at: float = field(init=False, default=float("inf"))

    def __post_init__(self) -> None:
        self.tally = Tally(self.credentials.bucket_id)
        self._going.set()

    async def hold(self) -> None:
        """Send nothing new until ``go_on``; returns once nothing is in flight."""
        self._going.clear()
        await until_so(lambda: not self._in_flight, PATIENCE_SECONDS + TRY_SECONDS)

    def go_on(self) -> None:
        """Send again."""
        self._going.set()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Something is in flight; begins when the load is not held."""
        await self._going.wait()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def stop(self) -> None:
        """Send nothing new from now on."""
        self._ended_at = time.monotonic()
        self._stop.set()
        self._going.set()

    def give_up(self) -> None:
        """The same, and repeat nothing: what was not acknowledged by now stays unknown."""
        self._ended_at = float("-inf")
        self._stop.set()
        self._going.set()

    async def run(self) -> None:
        """Until ``stop``, and until what is in flight is settled."""
        headers = {"X-Api-Key": self.credentials.ingest_key}
        timeout = aiohttp.ClientTimeout(total=TRY_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            await asyncio.gather(
                self._nodes(session), *(self._client(session, number) for number in range(self.clients))
            )

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        source = random.Random(f"{self.seed}/{number}")
        count = 0
        while not self._stop.is_set():
            count += 1
            stem = f"{self.seed}-{number}-{count}"
            size = source.randrange(1, self.batch)
            request = request_of(source, stem, self.mixture, datetime.now(UTC), size)
            await self._sent(session, source, request)
            await self._pause(source.uniform(0, self.pause_seconds))

    async def _sent(self, session: aiohttp.ClientSession, source: random.Random, request: Request) -> None:
        async with self.sending():
            accepted = await self._send(session, source, request)
            if accepted and source.random() < self.mixture.repeated:
                await self._send(session, source, request)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _send(self, session: aiohttp.ClientSession, source: random.Random, request: Request) -> bool:
        tally = self.tally
        known = request.accepted[0] in tally.acknowledged
        if not known:
            tally.unknown.update(request.accepted)
            tally.refused.update(request.refused.values())
            if self.lenient:
                tally.moments.update(request.moments)
        number = 0
        while time.monotonic() < self._ended_at + PATIENCE_SECONDS:
            number += 1
            if known or number > 1:
                tally.repeated += len(request.accepted)
            told, answer = await self._try(session, source.randrange(len(self.doors)), request)
            self.journal.note(tally, request, number, told, answer)
            if told.status == ACCEPTED:
                for identifier in self._accepted(request, answer):
                    tally.acknowledged.setdefault(identifier, told)
                    tally.unknown.discard(identifier)
                return True
            if told.status == 400 and self.lenient:
                # All of it has become too old meanwhile; what an earlier try brought may be stored.
                return False
            if told.status not in (NO_ANSWER, 429, 503):
                tally.wrong_answers.append(f"{told.status} to {request.stem}: {answer}")
            await asyncio.sleep(source.uniform(0.05, 0.4))
        return False

    async def _try(self, session: aiohttp.ClientSession, door: int, request: Request) -> tuple[Try, object]:
        began_at = time.monotonic()
        try:
            async with session.post(
                f"{self.doors[door]}/v1/events", data=request.body, headers=request.headers
            ) as response:
                raw = await response.read()
                return Try(door, began_at, time.monotonic(), response.status), _parsed(raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Try(door, began_at, time.monotonic(), NO_ANSWER, type(error).__name__), repr(error)

    def _accepted(self, request: Request, answer: object) -> list[str]:
        """The ids that a 202 acknowledges; what it refuses without cause is a wrong answer, mostly."""
        if not isinstance(answer, dict):
            self.tally.wrong_answers.append(f"202 to {request.stem} with the body {answer!r}")
            return []
        refused = {each["index"]: each["error"] for each in answer["rejected"]}
        accepted = [identifier for place, identifier in request.places.items() if place not in refused]
        if self.lenient and len(accepted) == answer["accepted"]:
            return accepted
        if answer["accepted"] != len(request.accepted) or set(refused) != set(request.refused):
            self.tally.wrong_answers.append(f"{request.stem} should refuse {request.refused}: {answer}")
        elif not all(refused.values()):
            self.tally.wrong_answers.append(f"{request.stem}: refused without a reason: {answer}")
        return accepted

    async def _nodes(self, session: aiohttp.ClientSession) -> None:
        """Node reports, a batch a second, without repeats: what 004 is judged by."""
        source = random.Random(f"{self.seed}/nodes")
        while not self._stop.is_set():
            await self._going.wait()
            now = datetime.now(UTC).isoformat()
            reports = [
                {
                    "host": f"node-{number}.example",
                    "ip": f"10.0.0.{number}",
                    "version": "1.0",
                    "observed_at": now,
                    "latency_ms": source.randrange(1, 100),
                    "interval_seconds": 10,
                }
                for number in range(NODES)
            ]
            door = source.choice(self.doors)
            try:
                async with session.post(f"{door}/v1/nodes", json=reports) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                # What is asked of reports is that all surfaces tell of the same ones.
                pass
            await self._pause(1.0)


def _parsed(raw: bytes) -> object:
    try:
        parsed: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw[:200].decode(errors="replace")
    return parsed
