"""PostgreSQL frozen, killed, and its backends terminated: ingest goes on, the lag grows and drains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import psutil
import psycopg

from tests.chaos.faults.fault import Fault
from tests.chaos.given import PROCESSES, START, DatabaseServer
from tests.chaos.scene import Scene

ROW = "PostgreSQL frozen, killed, a backend terminated"
_FROZEN_SECONDS = 20.0
_MIXED_SECONDS = 6.0
_END_SECONDS = 10.0
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'weir_%%' AND datname = current_database() ORDER BY random() LIMIT %s
"""


async def postgres_frozen(scene: Scene, seconds: float) -> None:
    """SIGSTOP of all its processes, SIGCONT."""
    await scene.pause(0.5, 2)
    async with scene.ground.database_lock:
        pid = scene.ground.database.pid
        if pid is None:
            return
        server = psutil.Process(pid)
        # The postmaster first: what it cannot fork while it stands cannot be missed.
        os.kill(pid, signal.SIGSTOP)
        stopped = [server, *server.children(recursive=True)]
        began_at = scene.strike("PostgreSQL frozen")
        try:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            await asyncio.sleep(min(seconds, _FROZEN_SECONDS if scene.alone else _MIXED_SECONDS))
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
    _acknowledged_meanwhile(scene, began_at)


async def postgres_killed(scene: Scene, seconds: float) -> None:
    """SIGQUIT: every backend goes at once, and the next start has to recover."""
    database = scene.ground.database
    deadline = time.monotonic() + seconds
    while True:
        await scene.pause(0.5, 3)
        async with scene.ground.database_lock:
            pid = database.pid
            if pid is None:
                return
            began_at = scene.strike("PostgreSQL killed")
            os.kill(pid, signal.SIGQUIT)
            try:
                await asyncio.sleep(scene.random.uniform(1.5, 4))
                _acknowledged_meanwhile(scene, began_at)
            finally:
                # It ends by itself; killing makes sure of it, and of what it leaves behind.
                await asyncio.to_thread(_end, database)
                await asyncio.to_thread(database.start)
        if time.monotonic() + 8 > deadline:
            return


def _end(database: DatabaseServer) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while database.pid is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    database.kill()


def _acknowledged_meanwhile(scene: Scene, began_at: float) -> None:
    if not scene.alone:
        return
    accepted = sum(each.status == 202 for each in scene.tally.between(began_at, time.monotonic()))
    scene.must(accepted > 0, "nothing was acknowledged while the database was away")


async def backends_terminated(scene: Scene, seconds: float) -> None:
    """pg_terminate_backend of Weir's connections, a few at a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await scene.pause(0.2, 1.0)
        ended = await asyncio.to_thread(_terminate, scene.ground.dsn, scene.random.randrange(1, 4))
        for _ in range(ended):
            scene.strike("backend terminated")


def _terminate(dsn: str, most: int) -> int:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as connection:
            return len(connection.execute(_TERMINATE, [most]).fetchall())
    except psycopg.Error:
        # Another fault has the whole server just now.
        return 0


FAULTS = (
    Fault("PostgreSQL frozen", ROW, postgres_frozen, _FROZEN_SECONDS, least_seconds=12, needs=PROCESSES),
    Fault("PostgreSQL killed", ROW, postgres_killed, 24, 6, needs=START),
    Fault("backend terminated", ROW, backends_terminated, 20, 4),
)
