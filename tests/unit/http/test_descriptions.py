"""Both doors describe what they serve: every route, and nothing else, in documents that are OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from api.http.openapi.document import About, document
from api.http.openapi.operations import Operation, json_of
from api.http.openapi.schemas import Schema
from tests.support import doors

ABOUT = About("a door", "1", "", {"calls": "its calls"})


@pytest.fixture(params=["query API", "gateway"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with doors.query_api() as api:
        app = api if request.param == "query API" else doors.gateway()
        async with TestClient(TestServer(app)) as client:
            yield client


Client = TestClient[web.Request, web.Application]


async def described(client: Client) -> Schema:
    async with client.get("/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        found: Schema = await answer.json()
        return found


def served(app: web.Application) -> set[tuple[str, str]]:
    """Method and path of every route. HEAD is there with GET: it says the same without a body."""
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


async def test_every_route_is_described_and_every_described_call_is_served(client: Client) -> None:
    """Whoever adds a route describes it: for the query API in `api/surfaces/described/`, for the gateway in
    `ingest/gateway/described.py`, for both in `api/http/openapi/fittings.py`."""
    assert client.app is not None
    paths = (await described(client))["paths"]
    calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert served(client.app) - calls == set(), "served, and not described"
    assert calls - served(client.app) == set(), "described, and not served"


async def test_a_description_is_openapi(client: Client) -> None:
    OpenAPIV31SpecValidator(await described(client)).validate()


async def test_a_path_and_its_parameters_agree(client: Client) -> None:
    for path, methods in (await described(client))["paths"].items():
        for method, call in methods.items():
            named = [part["name"] for part in call.get("parameters", []) if part["in"] == "path"]
            assert [f"{{{name}}}" for name in named] == [
                part for part in path.split("/") if part.startswith("{")
            ], f"{method} {path}"


async def test_everything_a_reader_sees_says_what_it_is(client: Client) -> None:
    for path, methods in (await described(client))["paths"].items():
        for call in methods.values():
            assert call["summary"]
            assert all(parameter["description"] for parameter in call.get("parameters", [])), path
            assert all(answer["description"] for answer in call["responses"].values()), path


async def test_the_page_takes_everything_from_this_door(client: Client) -> None:
    async with client.get("/docs") as answer:
        page = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in page + policy
    for name, begins in (
        ("swagger-ui.css", ".swagger-ui"),
        ("swagger-ui-bundle.js", "/*!"),
        ("page.css", "body"),
        ("start.js", '"use strict"'),
    ):
        assert f'"docs/{name}"' in page
        async with client.get(f"/docs/{name}") as answer:
            assert answer.status == 200
            assert (await answer.text()).startswith(begins)
            tag = answer.headers["ETag"]
        async with client.get(f"/docs/{name}", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


@pytest.mark.parametrize("name", ["page.html", "..%2fdocument.py", "__init__.py", "%2fetc%2fpasswd", "%00"])
async def test_the_pages_folder_has_no_other_files(client: Client, name: str) -> None:
    async with client.get(f"/docs/{name}") as answer:
        assert answer.status == 404


class Same(BaseModel):
    one: int


class Other(BaseModel):
    other: str


Other.__name__ = "Same"


def call(path: str, of: object, tag: str = "calls") -> Operation:
    return Operation("GET", path, tag, "a call", {200: json_of("yes", of)})


def test_two_schemas_of_one_name_are_refused() -> None:
    assert orjson.dumps(document(ABOUT, [call("/a", Same), call("/b", list[Same])]))
    with pytest.raises(ValueError, match="two schemas are called Same"):
        document(ABOUT, [call("/a", Same), call("/b", Other)])


def test_a_call_is_described_once_and_under_a_known_tag() -> None:
    with pytest.raises(ValueError, match="GET /a: described twice"):
        document(ABOUT, [call("/a", Same), call("/a", Same)])
    with pytest.raises(ValueError, match="no known tag"):
        document(ABOUT, [call("/a", Same, "elsewhere")])
