"""Web pages: who may call from a browser, what a preflight costs, and that refusals can be read too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from api.http.origins import Origins
from api.http.problems import direct_door, door
from api.http.serving import Listening, listening
from schema.errors import Denied
from schema.metrics import DoorMetrics
from schema.settings import GatewaySettings

PAGE = "https://app.example.com"
OTHER = "https://other.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,ce-id"}


@asynccontextmanager
async def served(allowed: str) -> AsyncIterator[str]:
    async def handler(request: web.Request) -> web.Response:
        if "X-Api-Key" not in request.headers:
            raise Denied("no key", status=401)
        return web.Response(text="taken")

    origins = Origins(allowed, "POST")
    metrics = DoorMetrics(CollectorRegistry())
    app = web.Application(middlewares=[origins.middleware, door(metrics)])
    app.router.add_post("/routed", handler)
    direct = {("POST", "/direct"): origins.around(direct_door(metrics, "/direct", handler))}
    async with listening(app, Listening("127.0.0.1", 0, 5.0, 1.0), direct) as port:
        yield f"http://127.0.0.1:{port}"


async def ask(url: str, method: str, **headers: str) -> tuple[int, CIMultiDictProxy[str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=named) as answer:
        return answer.status, answer.headers


@pytest.mark.parametrize("path", ["/routed", "/direct"])
async def test_an_allowed_page_may_read_answers_and_refusals(path: str) -> None:
    async with served(f"{PAGE}, http://localhost:3000") as url:
        for headers, status in (({"X_Api_Key": "k"}, 200), ({}, 401)):
            answered, said = await ask(url + path, "POST", Origin=PAGE, **headers)
            assert (answered, said["Access-Control-Allow-Origin"], said["Vary"]) == (status, PAGE, "Origin")
            assert "X-Request-Id" in said["Access-Control-Expose-Headers"]
            answered, said = await ask(url + path, "POST", Origin=OTHER, **headers)
            assert answered == status
            assert "Access-Control-Allow-Origin" not in said
            assert said["Vary"] == "Origin"


@pytest.mark.parametrize("path", ["/routed", "/direct"])
async def test_a_preflight_needs_no_key(path: str) -> None:
    async with served(PAGE) as url:
        status, said = await ask(url + path, "OPTIONS", Origin=PAGE, **PREFLIGHT)
        assert (status, said["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert (said["Access-Control-Allow-Methods"], said["Access-Control-Allow-Headers"]) == (
            "POST",
            "x-api-key,ce-id",
        )
        for origin in (OTHER, f"{PAGE}.evil.example", "null", "*"):
            status, said = await ask(url + path, "OPTIONS", Origin=origin, **PREFLIGHT)
            assert status in (404, 405)
            assert "Access-Control-Allow-Origin" not in said


async def test_any_origin_is_any() -> None:
    async with served("*") as url:
        _, said = await ask(f"{url}/direct", "POST", Origin=OTHER)
        assert said["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in said


def test_nothing_is_allowed_by_default() -> None:
    assert not Origins(GatewaySettings().gateway_origins, "POST")


@pytest.mark.parametrize("bad", ["app.example.com", f"{PAGE}/", f"{PAGE},*", f"{PAGE} {OTHER}", f"{PAGE},"])
def test_what_is_no_origin_stops_the_start(bad: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(gateway_origins=bad)
