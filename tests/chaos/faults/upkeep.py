"""Maintenance without a pause, and chunks dropped, under load.

The fault takes maintenance's lock and does, with the code of Weir's own maintenance, all that it does, in a
loop instead of every few minutes; meanwhile the retention grows shorter day by day, so that chunks go under
events that still come for them. A step that meets a deadlock fails and has its turn again, as in the writer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from datetime import UTC, datetime

import asyncpg
import psycopg
from prometheus_client import CollectorRegistry

from ingest.writer import retention
from ingest.writer.maintenance import Maintenance
from schema.connections import Connection, Duty, open_connection
from schema.errors import Unavailable
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings
from schema.tables import LOCK_MAINTENANCE
from tests.chaos.content import Mixture
from tests.chaos.faults.fault import Fault
from tests.chaos.ground import TRANSACTION_SECONDS
from tests.chaos.journal import Tally
from tests.chaos.scene import Scene

ROW = "chunks dropped, policies and maintenance running under load"
MARGIN_SECONDS = TRANSACTION_SECONDS + 5
OLDEST_DAYS, YOUNGEST_DAYS = 30, 21
_LOCK_SECONDS = 20.0
_END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'weir_maintenance' AND datname = current_database() AND pid <> %s
"""
_BELOW = """
SELECT (SELECT raw_floor FROM store_state),
       (SELECT coalesce(sum(event_count), 0)::bigint FROM event_counts_day JOIN buckets USING (bucket_key)
        WHERE bucket_id = %(bucket)s AND period < (SELECT raw_floor FROM store_state)),
       (SELECT count(*) FROM dead_letters WHERE bucket_id = %(bucket)s)
"""
_STORED = """
SELECT id FROM events JOIN buckets USING (bucket_key)
WHERE bucket_id = %s AND observed_at >= (SELECT raw_floor FROM store_state)
"""


async def maintenance_without_pause(scene: Scene, seconds: float) -> None:
    """Every step in a loop; alone also the retention, a day shorter each time."""
    deadline = time.monotonic() + seconds
    old = scene.second_load(
        "old",
        clients=2,
        lenient=True,
        mixture=Mixture(late=1.0, late_days=OLDEST_DAYS + 2, stamped=0, keyed=0, spoiled=0, repeated=0),
    )
    sending = asyncio.create_task(old.run()) if scene.alone else None
    try:
        while time.monotonic() < deadline:
            try:
                await _held(scene, deadline, seconds)
            except (
                Unavailable,
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                psycopg.Error,
            ):
                # Another fault has the database just now.
                await scene.pause(0.5, 1.0)
    finally:
        if sending is not None:
            old.stop()
            await sending
    if sending is not None:
        scene.judgements.append(lambda: _judge(scene, old.tally))


async def _held(scene: Scene, deadline: float, seconds: float) -> None:
    settings = WriterSettings(
        database_dsn=scene.ground.dsn,
        maintenance_margin_seconds=MARGIN_SECONDS,
        transaction_seconds=10,
        compress_after_days=1,
    )
    connection = await open_connection(
        settings,
        Duty.MAINTENANCE,
        server_settings={
            "lock_timeout": "30s",
            "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
        },
        command_seconds=60,
    )
    try:
        if not await _locked(scene, connection):
            return
        edition = await connection.fetchval("SELECT edition FROM store_state")
        steps = Maintenance(settings, WriterMetrics(CollectorRegistry()))._steps(edition)
        while time.monotonic() < deadline:
            for step in steps:
                await _step(scene, step.name, step.work(connection))
            if scene.alone:
                left = max(0.0, deadline - time.monotonic()) / seconds
                days = YOUNGEST_DAYS + round(left * (OLDEST_DAYS - YOUNGEST_DAYS))
                await _step(scene, "retention", retention.drop(connection, edition, days, MARGIN_SECONDS))
            await asyncio.sleep(0.1)
    finally:
        connection.terminate()


async def _step(scene: Scene, name: str, work: Awaitable[None]) -> None:
    try:
        await work
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError):
        scene.strike(f"maintenance step conflicted: {name}")
    scene.injected[f"maintenance step: {name}"] += 1


async def _locked(scene: Scene, connection: Connection) -> bool:
    deadline = time.monotonic() + _LOCK_SECONDS
    ours = connection.get_server_pid()
    while time.monotonic() < deadline:
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_MAINTENANCE):
            return True
        await asyncio.to_thread(_end_holder, scene.ground.dsn, ours)
        await asyncio.sleep(0.05)
    return False


def _end_holder(dsn: str, ours: int) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        connection.execute(_END_HOLDER, [ours])


async def _judge(scene: Scene, tally: Tally) -> None:
    """Above the floor every row, once; below it all counted, or a dead letter."""
    floor, counted, letters, ids = await asyncio.to_thread(_asked, scene.ground.dsn, tally.bucket_id)
    stored = Counter(ids)
    below = {i for i in tally.acknowledged if datetime.fromisoformat(tally.moments[i]) < floor}
    lost = set(tally.acknowledged) - below - stored.keys()
    twice = [identifier for identifier, count in stored.items() if count > 1]
    scene.must(not lost, f"{len(lost)} late events above the floor are lost: {sorted(lost)[:3]}")
    scene.must(not twice, f"{len(twice)} late events are stored twice: {twice[:3]}")
    unknown = {i for i in tally.unknown if datetime.fromisoformat(tally.moments[i]) < floor}
    scene.must(
        counted <= len(below) + len(unknown) and counted + letters >= len(below),
        f"of {len(below)} events that were dropped, {counted} are counted and {letters} dead-lettered",
    )
    age = (datetime.now(UTC) - floor).days
    # How far it gets is a matter of speed: late rows of a month are refreshed before each step.
    scene.must(age < OLDEST_DAYS, f"the floor is {age} days old: it moved once at most")
    scene.remarks.append(
        f"{len(below)} events dropped with their chunks, {counted} counted, {letters} buried"
    )


def _asked(dsn: str, bucket_id: str) -> tuple[datetime, int, int, list[str]]:
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(_BELOW, {"bucket": bucket_id}).fetchone()
        ids = [found[0] for found in connection.execute(_STORED, [bucket_id]).fetchall()]
    assert row is not None
    return row[0], row[1], row[2], ids


FAULTS = (Fault("maintenance without pause", ROW, maintenance_without_pause, 40),)
