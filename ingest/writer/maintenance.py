"""What has to be done beside storing: by one process at a time, whichever holds the advisory lock.

Steps, each on its own clock: make the next chunks before they are needed; refresh current rollups;
refresh the hours that the late ledger names; drop what retention has outlived; purge emptied buckets;
merge the shards of closed periods; compress what is old. Every step may fail and is tried again at its
next turn; nothing that is counted depends on when a step runs. The rules that keep counts exact are in
``refresh``, ``shards`` and ``retention``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import structlog

from ingest.writer import chunks, device_days, purge, refresh, retention, shards
from schema.connections import Connection, Duty, database_errors, open_connection
from schema.errors import Unavailable
from schema.metrics import WriterMetrics
from schema.settings import WriterSettings
from schema.tables import LOCK_MAINTENANCE

log = structlog.get_logger(__name__)

# Of maintenance's session. A purge may unpack whole compressed chunks. A plan for any day, which PostgreSQL
# makes of what is asked day by day, locks all chunks: where there are thousands, no such step would be done.
SESSION = {
    "lock_timeout": "30s",
    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    "plan_cache_mode": "force_custom_plan",
}
_STATEMENT_SECONDS = 600.0
_CANDIDATE_SECONDS = 5.0
_CHUNKS_SECONDS = 300.0
_PURGE_SECONDS = 30.0
_RETENTION_SECONDS = 600.0


@dataclass(slots=True)
class Step:
    """One duty: ``work`` every ``every_seconds``."""

    name: str
    every_seconds: float
    work: Callable[[Connection], Awaitable[None]]
    due_at: float = 0.0


class Maintenance:
    """Holds the lock while it can, and works; otherwise waits to take over."""

    def __init__(self, settings: WriterSettings, metrics: WriterMetrics) -> None:
        self._settings = settings
        self._metrics = metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; survives any outage of the database."""
        while not stop.is_set():
            try:
                await self._hold(stop)
            except (Unavailable, asyncpg.PostgresError) as error:
                log.warning("maintenance interrupted, will be tried again", error=str(error))
            await _pause(stop, _CANDIDATE_SECONDS)

    async def _hold(self, stop: asyncio.Event) -> None:
        connection = await open_connection(
            self._settings,
            Duty.MAINTENANCE,
            dsn=self._settings.maintenance_dsn,
            server_settings=SESSION,
            command_seconds=_STATEMENT_SECONDS,
        )
        try:
            with database_errors():
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_MAINTENANCE):
                    return
                edition = await connection.fetchval("SELECT edition FROM store_state")
            log.info("maintenance is ours", edition=edition)
            await self._work(connection, self._steps(edition), stop)
        finally:
            connection.terminate()

    def _steps(self, edition: str) -> list[Step]:
        settings, metrics = self._settings, self._metrics
        margin = settings.maintenance_margin_seconds
        steps = [Step("chunks", _CHUNKS_SECONDS, chunks.make_ahead)]
        if edition == "community":
            steps += [
                Step("refresh", settings.refresh_seconds, lambda c: refresh.refresh_current(c, margin)),
                Step("ledger", settings.ledger_seconds, lambda c: refresh.refresh_late(c, margin)),
                Step(
                    "compress",
                    _RETENTION_SECONDS,
                    lambda c: retention.compress(c, settings.compress_after_days),
                ),
            ]
        else:
            steps += [
                Step("ledger", settings.ledger_seconds, lambda c: device_days.build(c, margin)),
                Step("shards", settings.ledger_seconds, lambda c: _merge_shards(c, margin)),
            ]
        if settings.retention_days is not None:
            days = settings.retention_days
            steps += [
                Step("retention", _RETENTION_SECONDS, lambda c: retention.drop(c, edition, days, margin))
            ]
        steps += [
            Step(
                "purge", _PURGE_SECONDS, lambda c: purge.purge(c, edition, margin, metrics.purged_events.inc)
            ),
            Step("observe", settings.refresh_seconds, self._observe),
        ]
        return steps

    async def _work(self, connection: Connection, steps: list[Step], stop: asyncio.Event) -> None:
        while not stop.is_set():
            for step in steps:
                if time.monotonic() >= step.due_at and not stop.is_set():
                    await self._run_step(connection, step)
            await _pause(stop, min(1.0, self._settings.refresh_seconds))

    async def _run_step(self, connection: Connection, step: Step) -> None:
        started = time.monotonic()
        try:
            with database_errors():
                await step.work(connection)
        except asyncpg.PostgresError as error:
            # A deadlock with a writer, a lock not had in time: the step is repeatable, its turn comes again.
            self._metrics.maintenance_failures.labels(step.name).inc()
            log.warning("maintenance step failed, will be tried again", step=step.name, error=repr(error))
        finally:
            seconds = time.monotonic() - started
            self._metrics.maintenance_seconds.labels(step.name).observe(seconds)
            step.due_at = time.monotonic() + step.every_seconds
        log.debug("maintenance step done", step=step.name, seconds=round(seconds, 3))

    async def _observe(self, connection: Connection) -> None:
        count = await connection.fetchval("SELECT count(DISTINCT hour) FROM late_hours")
        self._metrics.late_hours.set(count)


async def _merge_shards(connection: Connection, margin_seconds: float) -> None:
    await shards.merge(connection, margin_seconds)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
