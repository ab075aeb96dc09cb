"""/healthz (the process runs), /readyz (it can do its work, or what it lacks) and /metrics.

A check answers None when all is well, or a sentence that names what is missing. It gets a bound, so
that a frozen server behind it reads as missing and not as a probe that hangs. A check that is not
required is reported as degraded, and leaves the process ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from schema.errors import WeirError

CHECK_SECONDS = 2.0

Probe = Callable[[], Awaitable[str | None]]
Facts = Callable[[], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a process needs: ``probe`` answers None, or what is missing."""

    name: str
    probe: Probe
    required: bool = True


def add_health_routes(
    app: web.Application,
    checks: Sequence[Check],
    registry: CollectorRegistry,
    *,
    facts: Facts | None = None,
    check_seconds: float = CHECK_SECONDS,
) -> None:
    """Serve the three paths on ``app``. ``facts``: short texts that /readyz shows beside its verdict."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(_request: web.Request) -> web.Response:
        findings = await asyncio.gather(*(_run(check, check_seconds) for check in checks))
        found = [(check, missing) for check, missing in zip(checks, findings, strict=True) if missing]
        missing = {check.name: sentence for check, sentence in found if check.required}
        degraded = {check.name: sentence for check, sentence in found if not check.required}
        body = {"ready": not missing, "missing": missing, "degraded": degraded, **(facts() if facts else {})}
        return web.Response(
            body=orjson.dumps(body), status=503 if missing else 200, content_type="application/json"
        )

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


async def _run(check: Check, bound_seconds: float) -> str | None:
    try:
        async with asyncio.timeout(bound_seconds):
            return await check.probe()
    except TimeoutError:
        return f"no answer within {bound_seconds:g} s"
    except WeirError as error:
        return error.message
