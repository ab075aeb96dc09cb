"""The clock of one process an hour off, both ways: no token breaks, no rollup breaks.

The process is started again with a library before it that answers questions for the time of day with another
hour; monotonic clocks stay true, as they do when an operator sets a machine's clock. The library is Debian's
libfaketime, fetched when a campaign begins; without it these faults are left out, and the report says so.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import aiohttp
import psycopg

from schema.identities import new_secret, secret_digest
from tests.chaos.faults.fault import Fault
from tests.chaos.scene import Scene
from tests.chaos.slots import Slot

ROW = "clocks"
PACKAGE = "libfaketime"
LIBRARY = "libfaketimeMT.so.1"
_FETCH_SECONDS = 60
_HOUR = 3600
_ASK_SECONDS = 20.0
_LEAST_SECONDS = 2.0


def fetched(folder: Path) -> Path | None:
    """The library, below ``folder``; None where it cannot be had."""
    try:
        subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=_FETCH_SECONDS,
        )
        for package in folder.glob(f"{PACKAGE}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True, timeout=_FETCH_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(folder.rglob(LIBRARY), None)


async def clock_off(scene: Scene, seconds: float) -> None:
    """One process after the other, an hour ahead and an hour behind."""
    library = scene.ground.library
    assert library is not None
    deadline = time.monotonic() + seconds
    wanted = [(scene.any_of(role), (1, -1)) for role in ("gateway", "writer", "api")]
    if not scene.alone:
        wanted = [scene.random.choice(wanted)]
    for slot, ways in wanted:
        async with slot.lock:
            try:
                for hours in ways:
                    if time.monotonic() > deadline:
                        return
                    await _off(scene, slot, hours, library)
            finally:
                await scene.ground.slots.again(slot)


async def _off(scene: Scene, slot: Slot, hours: int, library: Path) -> None:
    await scene.ground.slots.again(
        slot,
        LD_PRELOAD=str(library),
        FAKETIME=f"{hours * _HOUR:+d}s",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    scene.strike("clock an hour off", slot=slot.name, hours=hours)
    if slot.role == "api":
        await _tokens(scene, slot, hours)
    await scene.pause(_LEAST_SECONDS, 2 * _LEAST_SECONDS)


async def _tokens(scene: Scene, slot: Slot, hours: int) -> None:
    """A token made by the process that is off, one made elsewhere, and one that has expired."""
    credentials = scene.load.credentials
    timeout = aiohttp.ClientTimeout(total=_ASK_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def status(token: str) -> int:
            path = f"/api/bucket/{credentials.bucket_id}/data/eventsKeysByApp"
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"http://127.0.0.1:{slot.port}{path}", headers=headers) as response:
                return response.status

        asked = {
            "grant_type": "client_credentials",
            "client_id": credentials.read_key[: _prefix_length(scene)],
            "client_secret": credentials.read_key,
        }
        async with session.post(f"http://127.0.0.1:{slot.port}/api/oauth/token", json=asked) as response:
            told = await response.json()
        token = told.get("access_token", "none")
        found = {
            "made by it": await status(token),
            "made elsewhere": await status(credentials.access_token),
            "expired": await status(_expired_token(scene)),
        }
    wanted = {"made by it": 200, "made elsewhere": 200, "expired": 401}
    if scene.alone:
        scene.must(found == wanted, f"tokens of an API {hours:+d} h off: {found}, {told}")


def _prefix_length(scene: Scene) -> int:
    with psycopg.connect(scene.ground.dsn, connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT length(prefix) FROM api_keys WHERE secret_sha256 = %s",
            [secret_digest(scene.load.credentials.read_key)],
        ).fetchone()
    assert row is not None
    return int(row[0])


def _expired_token(scene: Scene) -> str:
    """One that ended ten minutes ago."""
    token = new_secret("access")
    with psycopg.connect(scene.ground.dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute(
            "INSERT INTO access_tokens (secret_sha256, user_id, expires_at)"
            " SELECT %s, user_id, now() - INTERVAL '10 minutes' FROM access_tokens WHERE secret_sha256 = %s",
            [secret_digest(token), secret_digest(scene.load.credentials.access_token)],
        )
    return token


FAULTS = (Fault("clock an hour off", ROW, clock_off, 48, least_seconds=40, needs="clock"),)
