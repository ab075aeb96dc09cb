"""The gateway's process: what lives as long as it, its background rounds, its start and its end.

One round a ``key_refresh_seconds``: confirm the cached keys, read the writers' progress, judge the
backlog. A round that fails is logged and leaves what was known in force. Readiness: without Kafka, or
with an overdue backlog, the gateway is not ready; without the database it is degraded only, since
known keys are served (unknown ones get 503), and taking the gateway out of service would turn a
database outage into lost events.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from api.http.health import Check, add_health_routes
from api.http.serving import Listening, serve
from ingest.gateway.app import new_app
from ingest.gateway.backlog import Backlog
from ingest.gateway.grants import Asked, Outcome, read_grants
from ingest.gateway.intake import Station
from ingest.gateway.keys import Ask, Keys
from ingest.gateway.pm2.links import LET_GO_SECONDS, Links
from ingest.gateway.pm2.pairs import read_pairs
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import Publisher
from ingest.gateway.quota import Quota
from schema.connections import Duty, Pool, close_pool, open_pool
from schema.errors import Invalid, Unavailable
from schema.logs import configure_logs
from schema.memory import keep_trimmed, settle_memory
from schema.metrics import DoorMetrics, GatewayMetrics
from schema.settings import GatewaySettings, settings_or_exit

log = structlog.get_logger(__name__)

# Of the shutdown's grace, requests in flight get most; what comes after them has these bounds.
_FLUSH_SECONDS = 2.0
_PRODUCER_STOP_SECONDS = 2.0
_POOL_CLOSE_SECONDS = 1.0
# A missed round is made up for soon, since the keys' revocation waits for it.
_RETRY_SECONDS = 3.0


class Rounds:
    """What is read again and again from the database and Kafka, and what that last said."""

    def __init__(self, settings: GatewaySettings, pool: Pool, keys: Sequence[Keys], backlog: Backlog) -> None:
        self._settings = settings
        self._pool = pool
        self._keys = keys
        self._backlog = backlog
        self.database_trouble: str | None = "not asked yet"

    async def run(self) -> None:
        """For as long as the process lives; ends by cancellation."""
        while True:
            well = await self._read_database()
            try:
                await self._backlog.judge()
            except Unavailable as error:
                log.warning("backlog not judged", reason=error.message)
            await asyncio.sleep(
                self._settings.key_refresh_seconds
                if well
                else min(_RETRY_SECONDS, self._settings.key_refresh_seconds)
            )

    async def _read_database(self) -> bool:
        try:
            for keys in self._keys:
                await keys.confirm()
            await self._backlog.read_progress(self._pool, self._settings.database_command_seconds)
        except Unavailable as error:
            log.warning("database away, going on with what is known", reason=error.message)
            self.database_trouble = "does not answer: known keys are served, unknown ones get 503"
            return False
        self.database_trouble = None
        return True


async def run(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises Invalid for a setting that cannot be."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    pool = await open_pool(settings, Duty.GATEWAY)

    async def ask(asked: Sequence[Asked]) -> list[Outcome]:
        return await read_grants(pool, asked, settings.database_command_seconds)

    async def ask_pairs(asked: Sequence[Asked]) -> list[Outcome]:
        return await read_pairs(pool, asked, settings.database_command_seconds)

    producing = Producing(settings, metrics)
    pairs = _keys(settings, ask_pairs)
    station = Station(
        settings,
        _keys(settings, ask),
        Quota(
            time.monotonic,
            default_rate=settings.bucket_events_per_second,
            burst_seconds=settings.bucket_burst_seconds,
        ),
        Backlog(settings, time.time),
        producing,
        Publisher(settings, producing, metrics),
        metrics,
        DoorMetrics(registry),
    )
    rounds = Rounds(settings, pool, (station.keys, pairs), station.backlog)
    metrics.cached_keys.set_function(lambda: len(station.keys))
    metrics.oldest_unstored_seconds.set_function(lambda: station.backlog.overdue_seconds)
    links = Links(station, pairs)
    app, direct = new_app(station, pairs, links)
    add_health_routes(app, _checks(station, rounds), registry)
    app.cleanup_ctx.append(lambda _app: _lifetime(station, pairs, rounds, pool))
    where = Listening(
        settings.gateway_host,
        settings.gateway_port,
        settings.keep_alive_seconds,
        settings.shutdown_seconds
        - _FLUSH_SECONDS
        - _PRODUCER_STOP_SECONDS
        - _POOL_CLOSE_SECONDS
        - LET_GO_SECONDS,
        settings.gateway_backlog,
        settings.max_connections,
        settings.request_seconds,
    )
    await serve(app, where, direct=direct, let_go=links.let_go)


def _keys(settings: GatewaySettings, ask: Ask) -> Keys:
    return Keys(
        ask,
        time.monotonic,
        outage_seconds=settings.key_outage_seconds,
        question_seconds=settings.database_command_seconds,
    )


async def _lifetime(station: Station, pairs: Keys, rounds: Rounds, pool: Pool) -> AsyncIterator[None]:
    station.producing.start()
    tasks = [asyncio.create_task(rounds.run()), asyncio.create_task(keep_trimmed())]
    for task in tasks:
        task.add_done_callback(_end_process_if_failed)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await station.publisher.close(_FLUSH_SECONDS)
    await station.producing.close(_PRODUCER_STOP_SECONDS)
    await station.keys.close()
    await pairs.close()
    await station.backlog.close()
    await close_pool(pool, _POOL_CLOSE_SECONDS)


def _end_process_if_failed(task: asyncio.Task[None]) -> None:
    # They end by cancellation only; a process without them is no longer what it claims to be.
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a background task ended", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)


def _checks(station: Station, rounds: Rounds) -> list[Check]:
    async def kafka() -> str | None:
        return None if station.producing.producer is not None else station.producing.trouble

    async def database() -> str | None:
        return rounds.database_trouble

    async def backlog() -> str | None:
        overdue = station.backlog.overdue
        return f"unstored records over half of the retention old, partitions {overdue}" if overdue else None

    return [Check("kafka", kafka), Check("database", database, required=False), Check("backlog", backlog)]


def main() -> int:
    """Run until SIGTERM or SIGINT; 0: stopped, 2: a setting is wrong."""
    settings = settings_or_exit(GatewaySettings, "gateway")
    configure_logs(settings, "gateway")
    settle_memory()
    try:
        uvloop.run(run(settings))
    except Invalid as error:
        log.critical("cannot start", error=error.message)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
