"""The query API's process: settings from the environment, clients, one listening socket, a bounded stop."""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector
from pydantic import ValidationError

from api.app import build_app, clients
from api.http.serving import Listening, serve
from schema.logs import configure_logs
from schema.memory import keep_trimmed, settle_memory
from schema.settings import ApiSettings, refusals

log = structlog.get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    try:
        settings = ApiSettings()
    except ValidationError as error:
        sys.stderr.write(f"settings: {'; '.join(refusals(error))}\n")
        return 2
    configure_logs(settings, "api")
    settle_memory()
    try:
        uvloop.run(run(settings))
    except OSError as error:
        # The reason says it all; a stack would hide it.
        log.error(  # noqa: TRY400
            "cannot listen", host=settings.api_host, port=settings.api_port, reason=str(error)
        )
        return 1
    return 0


async def run(settings: ApiSettings) -> None:
    """Serve until told to stop."""
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
