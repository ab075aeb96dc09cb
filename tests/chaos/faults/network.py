"""A bad network between each pair: all is slow, connections are reset, or nothing passes any more.

client and gateway; gateway, writer and API with Kafka; gateway, writer and API with the database. Whatever of
it is bad, who reaches a gateway has its answer in time, and who asks the query API while its database is out
of reach does not wait for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import aiohttp

from tests.chaos.faults.brokers import ANSWER_SECONDS, ROOM_SECONDS
from tests.chaos.faults.fault import Fault, Strike
from tests.chaos.scene import Scene
from tests.support.proxy import Proxy

ROW = "a bad network"
_RESETS_SECONDS = (0.2, 1.0)
_LATENCIES_SECONDS = (0.03, 0.25)
# Beyond the gateway's and the client's deadlines, so that both come to be.
_HOLE_SECONDS = 7.0

# Two deadlines of a connection, and the busy machine's room.
_QUESTION_SECONDS = 15.0

Way = Callable[[Scene, str, Proxy, float], Awaitable[None]]


class Struck(NamedTuple):
    """A path that was bad between two moments of the monotonic clock."""

    path: str
    began_at: float
    ended_at: float


async def _latency(scene: Scene, path: str, proxy: Proxy, seconds: float) -> None:
    proxy.delay_seconds = scene.random.uniform(*_LATENCIES_SECONDS)
    scene.strike("latency", path=path, seconds=proxy.delay_seconds)
    try:
        await scene.pause(seconds, seconds)
    finally:
        proxy.delay_seconds = 0.0


async def _resets(scene: Scene, path: str, proxy: Proxy, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        proxy.cut()
        scene.strike("connections reset", path=path)
        await scene.pause(*_RESETS_SECONDS)


async def _black_hole(scene: Scene, path: str, proxy: Proxy, seconds: float) -> None:
    scene.strike("black hole", path=path)
    proxy.freeze()
    try:
        await scene.pause(seconds, seconds)
    finally:
        proxy.thaw()


def _on_every_path(way: Way, most_seconds: float) -> Strike:
    """One path after the other, in an order of chance."""

    async def strike(scene: Scene, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        struck: list[Struck] = []
        paths = list(scene.ground.paths.items())
        scene.random.shuffle(paths)
        each = min(most_seconds, max(1.0, seconds / len(paths)))
        for path, proxy in paths:
            if time.monotonic() + each > deadline + 0.5:
                break
            began_at = time.monotonic()
            asking = asyncio.create_task(_asked(scene)) if path == "api-0-database" else None
            await way(scene, path, proxy, each)
            struck.append(Struck(path, began_at, time.monotonic()))
            if asking is not None:
                waited = await asking
                scene.must(waited < _QUESTION_SECONDS, f"the query API answered after {waited:.1f} s")
        if scene.alone:
            scene.judgements.append(lambda: _judge(scene, struck))

    return strike


async def _asked(scene: Scene) -> float:
    """How long the query API takes over a question, whatever it answers."""
    began_at = time.monotonic()
    credentials = scene.load.credentials
    path = f"/api/bucket/{credentials.bucket_id}/data/eventsKeysByApp"
    timeout = aiohttp.ClientTimeout(total=_QUESTION_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers={"X-Api-Key": credentials.read_key}) as session,
            session.get(scene.ground.api_url + path) as response,
        ):
            await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        # Beside other faults there may be nobody to ask.
        return _QUESTION_SECONDS if scene.alone else 0.0
    return time.monotonic() - began_at


async def _judge(scene: Scene, struck: list[Struck]) -> None:
    """Every request was answered in time, but for those whose own way to the gateway was bad."""
    slow = [
        each
        for each in scene.tally.tries
        if each.seconds > ANSWER_SECONDS + ROOM_SECONDS
        and not any(
            path == f"client-gateway-{each.door}" and began_at < each.ended_at and each.began_at < ended_at
            for path, began_at, ended_at in struck
        )
    ]
    scene.must(not slow, f"{len(slow)} requests waited too long: {slow[:2]}")


FAULTS = (
    Fault("latency", ROW, _on_every_path(_latency, 3.0), 30, 4),
    Fault("connections reset", ROW, _on_every_path(_resets, 3.0), 30, 4),
    Fault("black hole", ROW, _on_every_path(_black_hole, _HOLE_SECONDS), 70, least_seconds=40),
)
