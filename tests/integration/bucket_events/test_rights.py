"""Who may make the calls, and what is said while the database or Kafka is away."""

from __future__ import annotations

import psycopg
import pytest

from schema.migrations.migrate import newest_revision
from tests.integration.bucket_events.calls import CALLS, UNKNOWN, ask
from tests.support.api_door import UNAUTHORIZED, Door, api_door, served

READERS = {"owner", "admin", "user", "member", "root", "first read key", "first admin key"} | {
    f"{who}'s {scope} key" for who in ("owner", "user", "root") for scope in ("read", "admin")
}
DELETERS = {"owner", "admin", "root", "first admin key", "owner's admin key", "root's admin key"}


async def test_who_may_call_what(api: Door) -> None:
    for call, (method, path, body) in CALLS.items():
        allowed = DELETERS if call == "delete" else READERS
        for who in api.secrets:
            answer = await ask(api, method, path, body, who=who)
            if who in UNAUTHORIZED:
                assert answer.status == 401, (call, who)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            elif who not in allowed:
                assert answer.status == 403, (call, who)
            else:
                # A deletion needs Kafka, which is away here: it is refused further on.
                assert answer.status == (500 if call == "delete" else 200), (call, who)
            if answer.status != 200:
                assert list(answer.body) == ["msg"]
                assert answer.body["msg"]
    assert set(UNAUTHORIZED) | READERS < set(api.secrets)


@pytest.mark.parametrize("bucket", [UNKNOWN, "nonsense", "F" * 24, "%00", "' OR 1=1 --"])
async def test_an_unknown_bucket_is_404_to_everybody_who_is_somebody(api: Door, bucket: str) -> None:
    for call, (method, path, body) in CALLS.items():
        for who in ("owner", "root", "first read key"):
            answer = await ask(api, method, path, body, who=who, bucket=bucket)
            assert (answer.status, list(answer.body)) == (404, ["msg"]), call
        assert (await ask(api, method, path, body, who="nobody", bucket=bucket)).status == 401


async def test_a_deleted_bucket_is_gone(api: Door, database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "UPDATE buckets SET deleted_at = now() WHERE bucket_id = %s", [api.buckets["first"]]
        )
    for method, path, body in CALLS.values():
        assert (await ask(api, method, path, body, who="owner")).status == 404
        assert (await ask(api, method, path, body, who="first admin key")).status == 404


async def test_without_the_database_every_call_is_500_as_the_document_says(database_dsn: str) -> None:
    away = {"database_dsn": "postgresql://127.0.0.1:9/weir", "database_connect_seconds": 1}
    async with api_door(database_dsn, **away) as api:
        for method, path, body in CALLS.values():
            answer = await ask(api, method, path, body)
            assert (answer.status, list(answer.body)) == (500, ["msg"])
            assert "127.0.0.1" not in answer.body["msg"]
        async with api.session.get(f"{api.url}/readyz") as response:
            assert response.status == 503
            assert "database" in (await response.json())["missing"]


async def test_ready_without_kafka_but_degraded_and_never_without_migrations(
    api: Door, empty_database_dsn: str
) -> None:
    async with api.session.get(f"{api.url}/readyz") as response:
        found = await response.json()
        assert (response.status, found["ready"], list(found["degraded"])) == (200, True, ["kafka"])
        assert found["edition"] in ("apache", "community")
        assert found["revision"] == newest_revision()
    async with (
        served(empty_database_dsn) as unmigrated,
        unmigrated.session.get(f"{unmigrated.url}/readyz") as response,
    ):
        assert response.status == 503
        assert (await response.json())["missing"]


async def test_a_browser_finds_its_way(api: Door) -> None:
    async with api.session.get(f"{api.url}/") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        page = await response.text()
        assert "<h1>Weir</h1>" in page
        assert '<a href="docs">' in page
    async with api.session.get(f"{api.url}/metrics") as response:
        assert "weir_query_seconds" in await response.text()
