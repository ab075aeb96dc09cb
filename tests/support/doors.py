"""Both doors as applications, without any server behind them: for tests of what they serve."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from api.app import build_app, clients
from api.http.health import add_health_routes
from ingest.gateway.app import new_app
from ingest.gateway.backlog import Backlog
from ingest.gateway.grants import Asked, Outcome
from ingest.gateway.intake import Station
from ingest.gateway.keys import Keys
from ingest.gateway.pm2.links import Links
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import Publisher
from ingest.gateway.quota import Quota
from schema.errors import Unavailable
from schema.metrics import DoorMetrics, GatewayMetrics
from schema.settings import ApiSettings, GatewaySettings


@asynccontextmanager
async def query_api() -> AsyncIterator[web.Application]:
    """The query API; nothing connects before it is asked."""
    settings = ApiSettings(database_dsn="postgresql://127.0.0.1:9/none", kafka_bootstrap="127.0.0.1:9")
    async with clients(settings) as parts:
        yield build_app(settings, parts, CollectorRegistry())


def gateway() -> web.Application:
    """The gateway; its producer is never started."""
    settings, registry = GatewaySettings(), CollectorRegistry()
    metrics = GatewayMetrics(registry)
    keys = Keys(_away, time.monotonic, outage_seconds=1, question_seconds=1)
    producing = Producing(settings, metrics)
    station = Station(
        settings,
        keys,
        Quota(time.monotonic, default_rate=0, burst_seconds=1),
        Backlog(settings, time.time),
        producing,
        Publisher(settings, producing, metrics),
        metrics,
        DoorMetrics(registry),
    )
    app, _ = new_app(station, keys, Links(station, keys))
    add_health_routes(app, [], registry)
    return app


async def _away(_asked: Sequence[Asked]) -> list[Outcome]:
    raise Unavailable("there is no database here")
