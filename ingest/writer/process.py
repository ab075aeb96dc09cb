"""The writer's process: consumer, lanes, maintenance, and a door for health and metrics.

A stop lets every lane finish the batch in hand within ``shutdown_seconds``; what was fetched and not
stored comes again to whoever gets the partition next. A defect in any part ends the whole process,
loudly, since the offsets make a fresh start safe.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

import structlog
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.health import Check, add_health_routes
from api.http.serving import Listening, listening, with_signals
from ingest.writer.assignment import Assignment
from ingest.writer.consumer import EventConsumer
from ingest.writer.dead_letters import DeadLetterTopic
from ingest.writer.lane import Lane
from ingest.writer.maintenance import Maintenance
from schema.connections import Duty, Pool, acquired, close_pool, open_pool
from schema.errors import Invalid, WeirError
from schema.logs import configure_logs
from schema.memory import keep_trimmed, settle_memory
from schema.metrics import WriterMetrics
from schema.migrations.migrate import newest_revision
from schema.settings import WriterSettings, settings_or_exit

log = structlog.get_logger(__name__)

# The door is for probes and for whoever collects the metrics.
_HEALTH_CONNECTIONS = 100


def main() -> int:
    """Run until SIGTERM or SIGINT; 0: stopped, 1: it could not go on, 2: a setting is wrong."""
    settings = settings_or_exit(WriterSettings, "writer")
    configure_logs(settings, "writer")
    settle_memory()
    if settings.maintenance_margin_seconds <= settings.transaction_seconds:
        told = "WEIR_MAINTENANCE_MARGIN_SECONDS must be above WEIR_TRANSACTION_SECONDS; counts would be wrong"
        log.critical("cannot start", error=told)
        return 2
    try:
        uvloop.run(run(settings))
    except Invalid as error:
        log.critical("cannot start", error=error.message)
        return 2
    except BaseExceptionGroup as failures:
        known, defects = failures.split(WeirError)
        if known is not None:
            reasons = "; ".join(str(failure) for failure in known.exceptions)
            log.error("writer stopped", error=reasons)  # noqa: TRY400 - the reason says it all
        if defects is not None:
            raise defects from None
        return 1
    return 0


async def run(settings: WriterSettings) -> None:
    """The writer until a signal.

    Raises Invalid for a setting that cannot be, and what must not go on, in an exception group.
    """
    stop = asyncio.Event()
    with_signals(stop)
    registry = CollectorRegistry()
    metrics = WriterMetrics(registry)
    pool = await open_pool(settings, Duty.WRITER)
    assignment = Assignment(settings, pool, metrics)
    letters = DeadLetterTopic(settings)
    lanes: list[Lane] = []
    consumer = EventConsumer(settings, metrics, assignment, lanes)
    lanes += [Lane(settings, metrics, letters.publish, consumer.lost) for _ in range(settings.writer_lanes)]
    metrics.newest_event_age.set_function(lambda: _age(lanes))
    app = web.Application()
    add_health_routes(app, _checks(pool, consumer), registry)
    where = Listening(settings.writer_host, settings.writer_port, 75.0, 2.0, connections=_HEALTH_CONNECTIONS)
    try:
        async with listening(app, where):
            await _work(settings, metrics, lanes, consumer, stop)
    finally:
        await asyncio.gather(letters.close(), assignment.close(), close_pool(pool, 1.0))


async def _work(
    settings: WriterSettings,
    metrics: WriterMetrics,
    lanes: list[Lane],
    consumer: EventConsumer,
    stop: asyncio.Event,
) -> None:
    """Run all parts; on ``stop`` let the lanes finish, on a defect in one of them end them all."""
    async with asyncio.TaskGroup() as group:
        storing = [group.create_task(lane.run()) for lane in lanes]
        fetching = group.create_task(consumer.run(stop))
        trimming = group.create_task(keep_trimmed())
        maintaining = (
            group.create_task(Maintenance(settings, metrics).run(stop)) if settings.maintenance else None
        )
        await stop.wait()
        log.info("stopping")
        for lane in lanes:
            lane.stop()
        _, unfinished = await asyncio.wait(storing, timeout=settings.shutdown_seconds * 0.5)
        for task in (*unfinished, trimming, *filter(None, [maintaining])):
            task.cancel()
        _, unfinished = await asyncio.wait([fetching], timeout=settings.shutdown_seconds * 0.4)
        for task in unfinished:
            task.cancel()


def _age(lanes: list[Lane]) -> float:
    newest = max((lane.newest_at for lane in lanes), default=0.0)
    return time.time() - newest if newest else float("nan")


def _checks(pool: Pool, consumer: EventConsumer) -> list[Check]:
    wanted = newest_revision()

    async def database() -> str | None:
        async with acquired(pool, 1.0) as connection:
            await connection.fetchval("SELECT 1")
        return None

    async def migrations() -> str | None:
        async with acquired(pool, 1.0) as connection:
            found = await connection.fetchval("SELECT version_num FROM alembic_version")
        return (
            None
            if found == wanted
            else f"the database is at revision {found}, not {wanted}: run weir migrate"
        )

    async def kafka() -> str | None:
        return None if consumer.connected else "no partition has been read from Kafka lately"

    return [Check("database", database), Check("migrations", migrations), Check("kafka", kafka)]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
