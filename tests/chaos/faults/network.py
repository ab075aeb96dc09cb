"""A bad network between each pair: everything takes long, connections are reset, or nothing passes any more.

client and gateway; gateway, writer and API with Kafka; gateway, writer and API with the database.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from tests.chaos.faults.fault import Fault, Strike
from tests.chaos.scene import Scene
from tests.support.proxy import Proxy

ROW = "a bad network"
_RESETS_SECONDS = (0.2, 1.0)
_LATENCIES_SECONDS = (0.03, 0.25)
# Beyond the gateway's and the client's deadlines, so that both come to be.
_HOLE_SECONDS = 7.0

Way = Callable[[Scene, str, Proxy, float], Awaitable[None]]


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
        paths = list(scene.ground.paths.items())
        scene.random.shuffle(paths)
        each = min(most_seconds, max(1.0, seconds / len(paths)))
        for path, proxy in paths:
            if time.monotonic() + each > deadline + 0.5:
                break
            await way(scene, path, proxy, each)

    return strike


FAULTS = (
    Fault("latency", ROW, _on_every_path(_latency, 3.0), 30, 4),
    Fault("connections reset", ROW, _on_every_path(_resets, 3.0), 30, 4),
    Fault("black hole", ROW, _on_every_path(_black_hole, _HOLE_SECONDS), 70, least_seconds=40),
)
