"""API keys by HTTP, through real sockets: made, shown once, listed, revoked; and by whom not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from schema.identities import looks_like_secret, secret_digest
from tests.support.api_door import UNAUTHORIZED, Answer, Door, api_door
from tests.support.bounds import AT_AND_ABOVE

UNKNOWN = "f" * 24
SHOWN = ["id", "prefix", "name", "scope", "bucket_id", "created_at", "revoked_at"]


@pytest.fixture
async def api(database_dsn: str) -> AsyncIterator[Door]:
    async with api_door(database_dsn, keys_per_minute=1000) as made:
        yield made


def path_of(api: Door, bucket: str | None) -> str:
    return "/v1/keys" if bucket is None else f"/v1/buckets/{api.buckets.get(bucket, bucket)}/keys"


async def make(api: Door, bucket: str | None = "first", who: str = "owner", **body: Any) -> Answer:
    return await api.ask("POST", path_of(api, bucket), {"scope": "read", **body}, who=who)


def is_problem(answer: Answer, status: int) -> bool:
    return (
        answer.status == answer.body["status"] == status
        and answer.headers["Content-Type"] == "application/problem+json"
    )


@pytest.mark.parametrize("bucket", ["first", None])
@pytest.mark.parametrize("scope", ["ingest", "read", "admin"])
async def test_a_key_is_shown_once_and_opens_what_it_should(
    api: Door, database_dsn: str, bucket: str | None, scope: str
) -> None:
    made = await make(api, bucket, scope=scope, name="of the greenhouse")
    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.body["secret"]
    assert list(made.body) == [*SHOWN, "secret"]
    assert looks_like_secret(secret)
    assert secret.startswith(f"weir_{scope}_")
    assert secret.startswith(made.body["prefix"])
    assert (made.body["name"], made.body["scope"]) == ("of the greenhouse", scope)
    assert made.body["bucket_id"] == (None if bucket is None else api.buckets[bucket])
    api.secrets["fresh"] = {"X-Api-Key": secret}
    shown = await api.ask("GET", f"/api/bucket/{api.buckets['first']}", {}, who="fresh")
    assert shown.status == (403 if scope == "ingest" else 200)
    with psycopg.connect(database_dsn) as connection:
        kept = connection.execute(
            "SELECT secret_sha256 FROM api_keys WHERE key_id = %s", [made.body["id"]]
        ).fetchone()
        assert kept == (secret_digest(secret),)

    listed = await api.ask("GET", path_of(api, bucket))
    assert listed.status == 200
    assert {**made.body, "secret": None} == {**listed.body["keys"][-1], "secret": None}
    assert secret not in str(listed.body)
    assert all(list(key) == SHOWN for key in listed.body["keys"])

    revoked = await api.ask("DELETE", f"{path_of(api, bucket)}/{made.body['id']}")
    assert revoked.status == 200
    assert revoked.body["revoked_at"] is not None
    assert (await api.ask("GET", f"/api/bucket/{api.buckets['first']}", {}, who="fresh")).status == 401
    again = await api.ask("DELETE", f"{path_of(api, bucket)}/{made.body['id']}")
    assert (again.status, again.body) == (200, revoked.body)
    assert (await api.ask("GET", path_of(api, bucket))).body["keys"][-1] == revoked.body


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        b"{",
        {"scope": "root"},
        {"scope": None},
        {"scope": ["read"]},
        {"scope": "read", "name": 1},
        {"scope": "read", "name": "x" * 201},
        {"scope": "read", "name": "a\u0000b"},
        {"scope": "read", "bucket_id": UNKNOWN},
        {"scope": "read", "secret": "weir_read_of_my_own"},
    ],
)
async def test_what_makes_no_key(api: Door, body: Any) -> None:
    for path in ("/v1/keys", path_of(api, "first")):
        assert is_problem(await api.ask("POST", path, body), 400)


async def test_a_key_can_do_nothing_to_keys(api: Door) -> None:
    key = (await make(api, scope="admin")).body
    own = (await make(api, None, scope="admin")).body
    grant = {"grant_type": "client_credentials", "client_id": key["id"], "client_secret": key["secret"]}
    token = (await api.ask("POST", "/api/oauth/token", grant, who="nobody")).body["access_token"]
    api.secrets |= {
        "its token": {"Authorization": f"Bearer {token}"},
        "key": {"X-Api-Key": key["secret"]},
        "own key": {"X-Api-Key": own["secret"]},
    }
    for who in ("key", "own key", "its token", "root's admin key", *UNAUTHORIZED):
        refused = 401 if who in UNAUTHORIZED else 403
        for path, key_id in ((path_of(api, "first"), key["id"]), ("/v1/keys", own["id"])):
            assert is_problem(await api.ask("POST", path, {"scope": "admin"}, who=who), refused), who
            assert is_problem(await api.ask("GET", path, who=who), refused), who
            assert is_problem(await api.ask("DELETE", f"{path}/{key_id}", who=who), refused), who


async def test_keys_are_out_of_reach_by_any_other_way(api: Door) -> None:
    """A key is found under its own holder only; elsewhere it is as unknown as one that is not there."""
    first, own = (await make(api)).body["id"], (await make(api, None)).body["id"]
    theirs = (await make(api, "theirs", who="stranger")).body["id"]
    his = (await make(api, None, who="stranger")).body["id"]
    unknown = await api.ask("DELETE", f"{path_of(api, 'first')}/{UNKNOWN}")
    assert is_problem(unknown, 404)
    for bucket, key_ids in (("first", (own, theirs, his, "x", "%00")), (None, (first, theirs, his, "x"))):
        for key_id in key_ids:
            answer = await api.ask("DELETE", f"{path_of(api, bucket)}/{key_id}")
            assert is_problem(answer, 404), key_id
            assert answer.body["detail"] == unknown.body["detail"]
            page = await api.ask("GET", f"{path_of(api, bucket)}?after={key_id}")
            assert is_problem(page, 400), key_id
    for bucket, status in (("theirs", 403), (UNKNOWN, 404), ("x", 404)):
        for method, rest in (("POST", ""), ("GET", ""), ("DELETE", f"/{theirs}")):
            answer = await api.ask(method, path_of(api, bucket) + rest, {"scope": "read"})
            assert is_problem(answer, status), (bucket, method)
    for bucket, who in (("theirs", "stranger"), (None, "stranger")):
        keys = (await api.ask("GET", path_of(api, bucket), who=who)).body["keys"]
        assert [key["revoked_at"] for key in keys if key["id"] in (theirs, his)] == [None]


async def test_pages_follow_one_another(api: Door) -> None:
    made = [(await make(api, None, who="admin", name=str(n))).body["id"] for n in range(5)]
    await api.ask("DELETE", f"/v1/keys/{made[2]}", who="admin")
    found: list[str] = []
    after = ""
    while True:
        page = (await api.ask("GET", f"/v1/keys?limit=2{after}", who="admin")).body
        found += [key["id"] for key in page["keys"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == made
    for wrong in ("limit=0", "limit=1001", "limit=x", "after=", "after=x"):
        assert is_problem(await api.ask("GET", f"/v1/keys?{wrong}", who="admin"), 400), wrong


@AT_AND_ABOVE
async def test_a_holder_has_so_many_keys_and_no_more(api: Door, database_dsn: str, beyond: int) -> None:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, user_id)"
            " SELECT lpad(to_hex(n), 24, '0'), 'p', sha256(n::text::bytea), 'read', %s"
            " FROM generate_series(1, %s) AS n",
            [api.users["admin"], 99 + beyond],
        )
    answer = await make(api, None, who="admin")
    if not beyond:
        assert answer.status == 201
        return
    assert is_problem(answer, 400)
    assert (await api.ask("DELETE", f"/v1/keys/{1:024x}", who="admin")).status == 200
    assert (await make(api, None, who="admin")).status == 201


async def test_one_user_makes_so_many_keys_a_minute(database_dsn: str) -> None:
    async with api_door(database_dsn, keys_per_minute=2) as api:
        statuses = [(await make(api, bucket)).status for bucket in ("first", None, "second")]
        assert statuses == [201, 201, 429]
        assert (await make(api, None, who="user")).status == 201


async def test_a_deleted_bucket_has_no_keys(api: Door) -> None:
    key = (await make(api)).body
    api.secrets["fresh"] = {"X-Api-Key": key["secret"]}
    await api.ask("DELETE", f"/api/bucket/{api.buckets['first']}", {})
    assert is_problem(await make(api), 404)
    assert is_problem(await api.ask("DELETE", f"{path_of(api, 'first')}/{key['id']}"), 404)
    assert (await api.ask("GET", "/api/bucket", {}, who="fresh")).status == 401
