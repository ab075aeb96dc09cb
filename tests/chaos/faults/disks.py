"""A full disk under Kafka, and one under PostgreSQL: 503, no acknowledgement that is none, recovery.

A file takes all the room that is left on the small file system that the server's folder is; taking it away
is all the help there is, beside starting a server again that has ended of it, as a service manager would.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from deploy.local.kafka import KafkaServer
from tests.chaos.faults.fault import Fault
from tests.chaos.given import DISK, DatabaseServer
from tests.chaos.mounts import fill
from tests.chaos.scene import Scene

ROW = "disk full"
_MIXED_SECONDS = 8.0


async def kafka_disk_full(scene: Scene, seconds: float) -> None:
    """What cannot be written is not acknowledged."""
    ground = scene.ground
    async with ground.kafka_lock:
        began_at = await _filled(scene, ground.disks["kafka"], ground.kafka, seconds, "Kafka's disk full")
    if scene.alone:
        answered = {t.status for t in scene.tally.tries if t.ended_at > began_at}
        scene.must(503 in answered, "a full disk under Kafka was never answered with 503")


async def database_disk_full(scene: Scene, seconds: float) -> None:
    """Ingest goes on acknowledging; what could not be stored is, later."""
    ground = scene.ground
    async with ground.database_lock:
        began_at = await _filled(
            scene, ground.disks["database"], ground.database, seconds, "PostgreSQL's disk full"
        )
    if scene.alone:
        accepted = sum(t.status == 202 for t in scene.tally.between(began_at, time.monotonic()))
        scene.must(accepted > 0, "nothing was acknowledged while the database's disk was full")


async def _filled(
    scene: Scene, disk: Path, server: KafkaServer | DatabaseServer, seconds: float, what: str
) -> float:
    await scene.pause(0.5, 2)
    ballast = await asyncio.to_thread(fill, disk)
    try:
        began_at = scene.strike(what)
        await asyncio.sleep(seconds if scene.alone else min(seconds, _MIXED_SECONDS))
    finally:
        ballast.unlink()
        await asyncio.to_thread(_begun_again, server)
    return began_at


def _begun_again(server: KafkaServer | DatabaseServer) -> None:
    """A server that found no room may be in the middle of ending: that is waited for."""
    deadline = time.monotonic() + 5
    while server.pid is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    if server.pid is None:
        server.kill()
        server.start()


FAULTS = (
    Fault("Kafka's disk full", ROW, kafka_disk_full, 15, needs="disks"),
    Fault("PostgreSQL's disk full", ROW, database_disk_full, 15, needs=DISK),
)
