"""The query API as an application: its clients, its surfaces, its health.

Two pools: the primary (credentials, tenancy, deletions) and the one that questions run on, which may be
a replica. A receipt is waited for where the question will run. /readyz needs the database and its
migrations; Kafka is needed for deletions only, so without it the process is ready, and degraded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.accounts import add_account_routes
from api.front import add_front_routes
from api.http.bodies import Allowance
from api.http.health import Check, add_health_routes
from api.http.openapi.pages import add_description_routes
from api.http.problems import bucket_form, door, message_form, response_status_form, success_form
from api.live.feeds import Feeds
from api.surfaces.bucket_events import BucketEvents
from api.surfaces.described.whole import ABOUT, OPERATIONS
from api.surfaces.device_data import DeviceData
from api.surfaces.devices import DeviceEvents
from api.surfaces.node_stats import NodeStats
from api.surfaces.primus import Primus
from api.surfaces.registrations import Registrations
from api.surfaces.requests import Inbox
from api.tenancy.log_ends import LogEnds
from api.watch import add_watch_routes
from query.execute import Reader, open_reader, pool_options
from query.sql import Statement
from schema.connections import Duty, Pool, acquired, close_pool, open_pool
from schema.metrics import ApiMetrics, DoorMetrics, LiveMetrics
from schema.migrations.migrate import newest_revision
from schema.settings import ApiSettings

# Bodies held at one time, in requests of the largest size.
_BODIES = 16
_POOL_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Clients:
    """What lives as long as the process."""

    primary: Pool
    reader: Reader
    log_ends: LogEnds


@asynccontextmanager
async def clients(settings: ApiSettings) -> AsyncIterator[Clients]:
    """Both pools and the Kafka client. None of them connects before it is needed."""
    primary = await open_pool(settings, Duty.API, server_settings=pool_options(settings), clean_sessions=True)
    reader = await open_reader(settings)
    log_ends = LogEnds(settings)
    try:
        yield Clients(primary, reader, log_ends)
    finally:
        await log_ends.close()
        await reader.close(_POOL_GRACE_SECONDS)
        await close_pool(primary, _POOL_GRACE_SECONDS)


def build_app(settings: ApiSettings, parts: Clients, registry: CollectorRegistry) -> web.Application:
    """The application, ready to be served."""
    forms = {
        "/api/bucket": bucket_form,
        "/api/oauth": message_form,
        "/devices": response_status_form,
        "/laas/api/v1": response_status_form,
        "/bucket": success_form,
    }
    metrics = ApiMetrics(registry)
    inbox = Inbox(settings, Allowance(settings.request_bytes * _BODIES))
    app = web.Application(
        middlewares=[door(DoorMetrics(registry), forms)], client_max_size=settings.request_bytes
    )
    BucketEvents(settings, parts.primary, parts.reader, parts.log_ends, inbox, metrics).add_routes(app)
    add_account_routes(app, settings, parts.primary, parts.reader, inbox, metrics)
    DeviceEvents(settings, parts.primary, parts.reader, metrics).add_routes(app)
    NodeStats(settings, parts.primary, parts.reader, inbox, metrics).add_routes(app)
    Registrations(settings, parts.primary, parts.reader, inbox, metrics).add_routes(app)
    DeviceData(settings, parts.primary, parts.reader, inbox, metrics).add_routes(app)
    feeds = Feeds(settings, parts.primary, LiveMetrics(registry))
    Primus(settings, feeds).add_routes(app)
    app.on_shutdown.append(lambda _app: feeds.let_go())
    app.cleanup_ctx.append(lambda _app: feeds.lifetime())
    add_front_routes(app)
    add_watch_routes(app)
    add_description_routes(app, ABOUT, OPERATIONS)
    health = Health(parts, settings)
    checks = [*health.checks(), Check("live_feed", feeds.trouble, required=False)]
    add_health_routes(app, checks, registry, facts=health.facts)
    return app


class Health:
    """What /readyz asks, and the facts that it shows: edition and revision, as last seen."""

    def __init__(self, parts: Clients, settings: ApiSettings) -> None:
        self._parts = parts
        self._connect_seconds = settings.database_connect_seconds
        self._wanted = newest_revision()
        self._separate_reader = settings.database_read_dsn is not None
        self._facts = {"edition": "unknown", "revision": "unknown"}

    def checks(self) -> list[Check]:
        """What /readyz asks, in order."""
        found = [Check("database", self._database), Check("migrations", self._migrations)]
        if self._separate_reader:
            found.append(Check("read_database", self._read_database))
        return [*found, Check("kafka", self._kafka, required=False)]

    def facts(self) -> Mapping[str, str]:
        """What it found."""
        return self._facts

    async def _database(self) -> str | None:
        async with acquired(self._parts.primary, self._connect_seconds) as connection:
            await connection.execute("SELECT")
        return None

    async def _read_database(self) -> str | None:
        await self._parts.reader.look(Statement("SELECT 1", ()))
        return None

    async def _migrations(self) -> str | None:
        try:
            async with acquired(self._parts.primary, self._connect_seconds) as connection:
                row = await connection.fetchrow(
                    "SELECT edition, version_num FROM store_state CROSS JOIN alembic_version"
                )
        except asyncpg.UndefinedTableError:
            row = None
        if row is None:
            return "not migrated; run weir migrate"
        self._facts = {"edition": row["edition"], "revision": row["version_num"]}
        if row["version_num"] != self._wanted:
            return f"at revision {row['version_num']}, this code wants {self._wanted}; run weir migrate"
        return None

    async def _kafka(self) -> str | None:
        await self._parts.log_ends.end_offsets()
        return None
