"""A load of events whose every answer is kept: what was acknowledged, refused, or left unknown.

Each event has an id and a moment of its own, so that a repeat is recognised. A request that was not
answered 202 is repeated as it was, as a good client would, until it is or the load ends; only then is it
unknown. The load is bounded in time and events.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
import orjson

NAMES = ("boot", "click", "error", "sale")
APPS = ("", "shop", "till")
SERVERS = ("", "s1", "s2")


@dataclass(slots=True)
class Answers:
    """What a load was told. Keys are event ids."""

    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    receipts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Load:
    """Concurrent clients that send batches to one of several gateways."""

    urls: list[str]
    key: str
    seed: int
    clients: int = 8
    batch: int = 40
    late_share: float = 0.1
    repeat_share: float = 0.05
    answers: Answers = field(default_factory=Answers)

    async def run(self, seconds: float, max_batches: int = 100_000) -> Answers:
        """Send for ``seconds``; every request is bounded, repeats end a little after the load."""
        deadline = time.monotonic() + seconds
        timeout = aiohttp.ClientTimeout(total=8)
        async with aiohttp.ClientSession(timeout=timeout, headers={"X-Api-Key": self.key}) as session:
            share = max_batches // self.clients
            await asyncio.gather(
                *(
                    self._client(session, random.Random(self.seed * 1000 + i), deadline, share)
                    for i in range(self.clients)
                )
            )
        return self.answers

    async def _client(
        self, session: aiohttp.ClientSession, source: random.Random, deadline: float, batches: int
    ) -> None:
        for _ in range(batches):
            if time.monotonic() >= deadline:
                return
            events = [self._event(source) for _ in range(self.batch)]
            body = orjson.dumps(events)
            ids = {str(event["id"]) for event in events}
            accepted = await self._send(session, source, body, ids, deadline + 20)
            if accepted and source.random() < self.repeat_share:
                await self._send(session, source, body, ids, deadline + 20)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        source: random.Random,
        body: bytes,
        ids: set[str],
        deadline: float,
    ) -> bool:
        self.answers.unknown |= ids - self.answers.acknowledged
        while time.monotonic() < deadline:
            url = source.choice(self.urls)
            try:
                async with session.post(f"{url}/v1/events", data=body, headers=_JSON) as answer:
                    self.answers.statuses[answer.status] += 1
                    if answer.status == 202:
                        told = orjson.loads(await answer.read())
                        assert told["accepted"] == len(ids), told
                        self.answers.receipts.append(told["receipt"])
                        self.answers.acknowledged |= ids
                        self.answers.unknown -= ids
                        return True
                    await answer.read()
                    if answer.status < 500 and answer.status != 429:
                        raise AssertionError(f"{answer.status}: {await answer.text()}")
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                self.answers.statuses[0] += 1
            await asyncio.sleep(source.uniform(0.05, 0.3))
        return False

    def _event(self, source: random.Random) -> dict[str, object]:
        now = datetime.now(UTC)
        late = source.random() < self.late_share
        moment = now - timedelta(seconds=source.uniform(3600, 3 * 86_400) if late else source.uniform(0, 30))
        return {
            "id": f"{source.getrandbits(96):024x}",
            "name": source.choice(NAMES),
            "app": source.choice(APPS),
            "server": source.choice(SERVERS),
            "device": f"device-{source.randrange(50)}",
            "observed_at": moment.isoformat(),
            "data": {"value": source.random(), "note": "x" * source.randrange(80)},
        }


_JSON = {"Content-Type": "application/json"}
