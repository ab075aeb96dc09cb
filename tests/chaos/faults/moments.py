"""Late events up to the retention's edge, and future ones, out of order: counted right, or refused."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import psycopg

from tests.chaos.content import Mixture
from tests.chaos.faults.fault import Fault
from tests.chaos.journal import Try
from tests.chaos.scene import Scene

ROW = "late and future data"
LATE_DAYS = 18.0
MIXTURE = Mixture(late=0.6, late_days=LATE_DAYS, ahead=0.15, stamped=0.05, keyed=0.05)
_DAY = timedelta(days=1)
_ROOM = timedelta(minutes=10)
_ASK_SECONDS = 15.0


async def late_and_future(scene: Scene, seconds: float) -> None:
    """A load of mostly late events, and single ones on both sides of both edges."""
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        floor = await asyncio.to_thread(_raw_floor, scene.ground.dsn)
        now = datetime.now(UTC)
        # Beside other faults some gateway's clock may be an hour off.
        room = _ROOM if scene.alone else _ROOM + timedelta(hours=1)
        edges = {
            "just outside of the retention": (floor - timedelta(seconds=1), 400),
            "just within the future": (now + _DAY - room, 202),
            "too far in the future": (now + _DAY + room, 400),
        }
        if now - floor < timedelta(days=60):
            # Where nothing was ever dropped the edge is 1970, and a histogram from there has too many points.
            edges["just inside the retention"] = (floor + timedelta(seconds=1), 202)
        for what, (moment, wanted) in edges.items():
            number += 1
            async with scene.load.sending():
                await _at_the_edge(scene, f"{scene.load.seed}-edge-{number}", what, moment, wanted)
        await scene.pause(0.3, 1.0)


async def _at_the_edge(scene: Scene, identifier: str, what: str, moment: datetime, wanted: int) -> None:
    event = {"id": identifier, "name": "boot", "observed_at": moment.isoformat(), "device": "device-0"}
    headers = {"X-Api-Key": scene.load.credentials.ingest_key}
    timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
    began_at = time.monotonic()
    (scene.tally.unknown if wanted == 202 else scene.tally.refused).add(identifier)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(f"{scene.random.choice(scene.ground.doors)}/v1/events", json=event) as response,
        ):
            status, told = response.status, await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return
    if status == 202:
        scene.tally.acknowledged[identifier] = Try(0, began_at, time.monotonic(), status)
        scene.tally.unknown.discard(identifier)
    if status in (202, 400):
        scene.strike(f"event {what}", answer=told)
        scene.must(status == wanted, f"an event {what} ({moment}) was answered {status}: {told}")
    if status == 400:
        reasons = [each.get("error") for each in told.get("rejected", [])]
        scene.must(bool(reasons) and all(reasons), f"an event {what} was refused without a reason: {told}")


def _raw_floor(dsn: str) -> datetime:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute("SELECT raw_floor FROM store_state").fetchone()
    assert row is not None
    floor: datetime = row[0]
    return floor


FAULTS = (Fault("late and future", ROW, late_and_future, 24, 3, mixture=MIXTURE),)
