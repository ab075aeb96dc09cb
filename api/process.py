"""The query API's process: settings from the environment, clients, one listening socket, a bounded stop."""

from __future__ import annotations

import asyncio

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from api.app import build_app, clients
from api.http.serving import Listening, serve
from schema.errors import Invalid
from schema.logs import configure_logs
from schema.memory import keep_trimmed, settle_memory
from schema.settings import ApiSettings, settings_or_exit

log = structlog.get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; 0: stopped, 2: a setting is wrong."""
    settings = settings_or_exit(ApiSettings, "api")
    configure_logs(settings, "api")
    settle_memory()
    try:
        uvloop.run(run(settings))
    except Invalid as error:
        log.critical("cannot start", error=error.message)
        return 2
    return 0


async def run(settings: ApiSettings) -> None:
    """Serve until told to stop. Raises Invalid for a setting that cannot be."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    where = Listening(
        settings.api_host,
        settings.api_port,
        settings.keep_alive_seconds,
        settings.shutdown_seconds,
        connections=settings.max_connections,
        request_seconds=settings.request_seconds,
    )
    trimming = asyncio.create_task(keep_trimmed())
    try:
        async with clients(settings) as parts:
            await serve(build_app(settings, parts, registry), where)
    finally:
        trimming.cancel()
        await asyncio.wait([trimming])
