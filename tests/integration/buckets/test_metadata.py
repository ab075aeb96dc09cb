"""Buckets made, listed, shown and changed; their secret ids."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest

from schema.identities import secret_digest
from tests.integration.buckets.calls import KEY, ask, query
from tests.support.api_door import UNAUTHORIZED, Door, api_door, served


async def test_a_bucket_is_made_listed_and_shown_as_the_client_expects(api: Door, database_dsn: str) -> None:
    body = {"name": " Thermometers ", "comment": "in the attic", "app_url": "https://example.com/app"}
    made = await api.ask("POST", "/api/bucket/create_classic", body)
    assert made.status == 200
    bucket = made.body["bucket"]
    assert re.fullmatch("[0-9a-f]{24}", bucket["_id"])
    assert (bucket["name"], bucket["comment"], bucket["app_url"]) == (
        "Thermometers",
        "in the attic",
        "https://example.com/app",
    )
    assert bucket["configuration"] == {}
    assert bucket["plan"] == "free"
    assert bucket["credits"] == bucket["payment"] == {"offer_type": "free"}
    assert bucket["node"] == {"endpoints": {"web": api.url, "realtime": api.url}}
    assert re.fullmatch("[0-9a-f]{32}", bucket["public_id"])
    assert re.fullmatch("[0-9a-f]{32}", bucket["secret_id"])
    assert "T" in bucket["created_at"]
    shown = await ask(api, "GET", bucket=bucket["_id"])
    assert (shown.status, shown.body) == (200, bucket)
    for path in ("/api/bucket", "/api/bucket/"):
        listed = await api.ask("GET", path, {})
        assert listed.status == 200
        assert [one["name"] for one in listed.body] == ["first", "second", "Thermometers"]
        assert listed.body[-1] == bucket
    ((retention, digest, encrypted),) = query(
        database_dsn,
        "SELECT retention_days, secret_id_sha256, secret_id_encrypted FROM buckets WHERE bucket_id = %s",
        bucket["_id"],
    )
    assert retention == 30
    assert digest == secret_digest(bucket["secret_id"])
    assert bucket["secret_id"].encode() not in encrypted


async def test_where_clients_are_sent_is_a_setting(database_dsn: str) -> None:
    async with api_door(database_dsn, public_url="https://weir.example/") as api:
        endpoints = (await ask(api, "GET")).body["node"]["endpoints"]
        assert endpoints == {"web": "https://weir.example", "realtime": "https://weir.example"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "  "},
        {"name": None},
        {"name": 7},
        {"name": "x" * 201},
        {"name": "a\u0000b"},
        {"name": "a", "app_url": "javascript:alert(1)"},
        {"name": "a", "comment": ["x"]},
        {"name": "a", "workspace_id": "x"},
        [],
        b"{",
    ],
)
async def test_create_400(api: Door, body: Any) -> None:
    answer = await api.ask("POST", "/api/bucket/create_classic", body)
    assert (answer.status, list(answer.body)) == (400, ["msg"])


async def test_create_403_at_the_plans_limit_even_when_all_come_at_once(api: Door) -> None:
    # The owner has two of three already.
    asked = [api.ask("POST", "/api/bucket/create_classic", {"name": f"b{n}"}) for n in range(5)]
    statuses = sorted(answer.status for answer in await asyncio.gather(*asked))
    assert statuses == [200, 403, 403, 403, 403]


async def test_a_new_bucket_lies_in_a_workspace_of_its_owner(api: Door, database_dsn: str) -> None:
    ((theirs,),) = query(database_dsn, "SELECT workspace_id FROM workspaces WHERE name = 'theirs'")
    body = {"name": "mine", "workspace_id": theirs}
    # A member of no workspace, or a mere member of one, gets one of his own; nobody gets into another's.
    for who in ("user", "member"):
        assert (await api.ask("POST", "/api/bucket/create_classic", body, who=who)).status == 403
        made = await api.ask("POST", "/api/bucket/create_classic", {"name": "mine"}, who=who)
        assert made.status == 200
        again = await api.ask("POST", "/api/bucket/create_classic", {"name": "mine too"}, who=who)
        assert made.body["bucket"]["workspace_id"] == again.body["bucket"]["workspace_id"]
        rows = query(
            database_dsn,
            "SELECT user_id, role FROM workspace_members WHERE workspace_id = %s",
            made.body["bucket"]["workspace_id"],
        )
        assert rows == [(api.users[who], "owner")]
        other = {"name": "x", "workspace_id": made.body["bucket"]["workspace_id"]}
        assert (await api.ask("POST", "/api/bucket/create_classic", other, who="stranger")).status == 403


@pytest.mark.parametrize("who", ["first admin key", "owner's admin key", *UNAUTHORIZED])
async def test_no_key_makes_a_bucket(api: Door, who: str) -> None:
    answer = await api.ask("POST", "/api/bucket/create_classic", {"name": "x"}, who=who)
    assert answer.status == (401 if who in UNAUTHORIZED else 403)


async def test_everybody_lists_what_is_his(api: Door) -> None:
    expected = {
        "owner": ["first", "second"],
        "admin": ["first"],
        "user": ["first"],
        "member": ["first", "second"],
        "stranger": ["theirs"],
        "root": [],
        "first read key": ["first"],
        "theirs admin key": ["theirs"],
        "owner's read key": ["first", "second"],
        "user's read key": ["first"],
    }
    for who, names in expected.items():
        listed = await api.ask("GET", "/api/bucket/", {}, who=who)
        assert (listed.status, [one["name"] for one in listed.body]) == (200, names), who
    for who in UNAUTHORIZED:
        assert (await api.ask("GET", "/api/bucket", {}, who=who)).status == 401


async def test_the_secret_is_for_owner_and_admin_only_and_stays_the_same(api: Door) -> None:
    secrets = [
        (await ask(api, "GET", who=who)).body["secret_id"] for who in ("owner", "admin", "root", "owner")
    ]
    assert len(set(secrets)) == 1
    assert re.fullmatch("[0-9a-f]{32}", secrets[0])
    for who in (
        "user",
        "member",
        "first read key",
        "first admin key",
        "owner's admin key",
        "root's read key",
    ):
        assert "secret_id" not in (await ask(api, "GET", who=who)).body, who
        for one in (await api.ask("GET", "/api/bucket", {}, who=who)).body:
            assert "secret_id" not in one


async def test_a_secret_without_its_key_is_not_shown_and_not_replaced(api: Door, database_dsn: str) -> None:
    secret = (await ask(api, "GET")).body["secret_id"]
    other = base64.b64encode(bytes(32)).decode()
    for keys, shown in ((other, None), ("", None), (f"{other},{KEY}", secret)):
        async with served(database_dsn, secret_key=keys) as later:
            later.buckets, later.secrets = api.buckets, api.secrets
            assert (await ask(later, "GET")).body["secret_id"] == shown


async def test_update_changes_what_is_given(api: Door) -> None:
    before = (await ask(api, "GET")).body
    for change in (
        {"name": "Renamed"},
        {"comment": "said"},
        {"app_url": "http://example.com"},
        {"app_url": ""},
        {"configuration": {"alerts": {"cpu": 90}}},
    ):
        answer = await ask(api, "PUT", body=change, who="admin")
        before |= change
        assert answer.status == 200
        assert answer.body | {"role": "owner"} == before
    text = await ask(api, "PUT", body={"configuration": '{"a": [1]}'})
    assert text.body["configuration"] == {"a": [1]}
    assert (await ask(api, "GET")).body == text.body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"unknown": 1},
        {"name": ""},
        {"configuration": "not json"},
        {"configuration": "[1]"},
        {"configuration": 7},
        {"configuration": {"a": "\u0000"}},
        {"configuration": {"a": "x" * 70_000}},
        {"app_url": "ftp://example.com"},
    ],
)
async def test_update_400(api: Door, body: Any) -> None:
    answer = await ask(api, "PUT", body=body)
    assert (answer.status, list(answer.body)) == (400, ["msg"])
