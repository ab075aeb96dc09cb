"""Every error has one answer, in the form of the surface that was asked, with the request's id."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from api.http.health import Check, add_health_routes
from api.http.problems import bucket_form, door, message_form
from api.http.serving import Listening, listening
from schema.errors import Denied, Invalid, Overloaded, TooLarge, Unavailable
from schema.metrics import DoorMetrics

ERRORS = {
    "invalid": Invalid("limit: must be a number"),
    "large": TooLarge("too much"),
    "credential": Denied("who?", status=401),
    "right": Denied("no"),
    "rate": Overloaded("slower", status=429, retry_after_seconds=2.1),
    "full": Overloaded("later"),
    "away": Unavailable("database: at host 10.0.0.1"),
    "bug": RuntimeError("a secret"),
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async def fail(request: web.Request) -> web.Response:
        raise ERRORS[request.match_info["kind"]]

    async def slow() -> str | None:
        import asyncio

        await asyncio.sleep(5)
        return None

    async def well() -> str | None:
        return None

    registry = CollectorRegistry()
    forms = {"/api/": message_form, "/api/bucket/": bucket_form}
    app = web.Application(middlewares=[door(DoorMetrics(registry), forms)])
    app.router.add_get("/fail/{kind}", fail)
    app.router.add_get("/api/fail/{kind}", fail)
    app.router.add_get("/api/bucket/fail/{kind}", fail)
    checks = [Check("well", well), Check("slow", slow), Check("extra", slow, required=False)]
    add_health_routes(app, checks, registry, facts=lambda: {"edition": "apache"}, check_seconds=0.1)
    async with (
        listening(app, Listening("127.0.0.1", 0, 5.0, 1.0)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        yield session


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [
        ("invalid", 400, None),
        ("large", 413, None),
        ("credential", 401, None),
        ("right", 403, None),
        ("rate", 429, "3"),
        ("full", 503, "1"),
        ("away", 503, "2"),
        ("bug", 500, None),
    ],
)
async def test_errors_as_problems(
    session: aiohttp.ClientSession, kind: str, status: int, retry_after: str | None
) -> None:
    async with session.get(f"/fail/{kind}", headers={"X-Request-Id": "abc"}) as answer:
        body = await answer.json(content_type="application/problem+json")
    assert (answer.status, body["status"], body["request_id"]) == (status, status, "abc")
    assert answer.headers.get("Retry-After") == retry_after
    assert answer.headers["X-Request-Id"] == "abc"
    assert "secret" not in body["detail"]
    assert "10.0.0.1" not in body["detail"]


async def test_a_surface_has_a_form_of_its_own(session: aiohttp.ClientSession) -> None:
    async with session.get("/api/fail/invalid") as answer:
        assert (answer.status, await answer.json()) == (400, {"msg": "limit: must be a number"})
    for path, status in (("/api/fail/away", 503), ("/api/bucket/fail/away", 500)):
        async with session.get(path) as answer:
            assert (answer.status, list(await answer.json())) == (status, ["msg"])
            assert answer.headers["Retry-After"] == "2"
    async with session.get("/api/nothing") as answer:
        assert (answer.status, await answer.json()) == (404, {"msg": "Not Found"})
    async with session.get("/nothing") as answer:
        assert (answer.status, answer.content_type) == (404, "application/problem+json")
    async with session.post("/fail/bug") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("given", ["", "x" * 129, "with blank", "caf\u00e9"])
async def test_request_ids_of_strange_form_are_replaced(session: aiohttp.ClientSession, given: str) -> None:
    async with session.get("/healthz", headers={"X-Request-Id": given}) as answer:
        assert answer.headers["X-Request-Id"] not in ("", given)


async def test_readiness_names_what_is_missing(session: aiohttp.ClientSession) -> None:
    async with session.get("/readyz") as answer:
        body = await answer.json()
    assert answer.status == 503
    assert list(body["missing"]) == ["slow"]
    assert list(body["degraded"]) == ["extra"]
    assert body["edition"] == "apache"
    async with session.get("/metrics") as answer:
        assert 'weir_http_requests_total{route="/readyz",status="503"} 1.0' in await answer.text()
