"""Who may make a call, of whose bucket; what is said of one that is gone, or while the database is away."""

from __future__ import annotations

import pytest

from tests.integration.buckets.calls import CALLS, UNKNOWN, ask, query
from tests.support.api_door import UNAUTHORIZED, Door, api_door

MAY = {
    "read": {"owner", "admin", "user", "member", "root", "first read key", "first admin key"}
    | {f"{who}'s {scope} key" for who in ("owner", "user", "root") for scope in ("read", "admin")},
    "belong": {"owner", "admin", "user", "member", "root"},
    "manage": {"owner", "admin", "root"},
    "own": {"owner", "root"},
}


@pytest.mark.parametrize("call", CALLS)
async def test_who_may_make_a_call(api: Door, call: str) -> None:
    method, path, body, least = CALLS[call]
    # The owner last: some calls work only once, and the last one ends the bucket.
    for who in sorted(api.secrets, key=lambda who: (who in MAY[least], who)):
        answer = await ask(api, method, path, body, who=who)
        if who in UNAUTHORIZED:
            assert answer.status == 401, (who, answer.body)
            assert list(answer.body) == ["msg"]
        elif who not in MAY[least]:
            assert (answer.status, list(answer.body)) == (403, ["msg"]), (who, answer.body)
        else:
            assert answer.status != 401, (who, answer.body)
            assert answer.status != 403 or "need" in answer.body["msg"], (who, answer.body)
            if call in ("destroy", "upgrade"):
                break


@pytest.mark.parametrize("call", CALLS)
async def test_ids_of_others_and_of_nobody(api: Door, call: str) -> None:
    method, path, body, _ = CALLS[call]
    for bucket, status in (("theirs", 403), (UNKNOWN, 404), ("0", 404), ("F" * 24, 404), ("%00", 404)):
        answer = await ask(api, method, path, body, bucket=bucket)
        assert (answer.status, list(answer.body)) == (status, ["msg"]), (bucket, answer.body)


async def test_a_deleted_bucket_takes_all_that_was_its(api: Door, database_dsn: str) -> None:
    await ask(api, "POST", "add_user", {"email": "ada@example.com"})
    await ask(api, "PUT", "user_options", {"options": {"a": 1}})
    await ask(api, "PUT", "feedback", {"feedback": "bye"})
    before = (await ask(api, "GET")).body
    answer = await ask(api, "DELETE")
    assert (answer.status, answer.body) == (200, before)
    for who in ("owner", "admin", "user", "root"):
        for method, path, body, _ in CALLS.values():
            assert (await ask(api, method, path, body, who=who)).status == 404, (who, path)
    assert (await ask(api, "GET", who="first read key")).status == 401
    assert [one["name"] for one in (await api.ask("GET", "/api/bucket")).body] == ["second"]
    for table in (
        "api_keys",
        "bucket_members",
        "bucket_invitations",
        "bucket_user_options",
        "bucket_feedback",
    ):
        rows = query(database_dsn, f"SELECT count(*) FROM {table} WHERE bucket_id = %s", api.buckets["first"])
        assert rows == [(0,)], table
    # The place on the plan is free again.
    for n in range(2):
        body = {"name": f"b{n}"}
        assert (await api.ask("POST", "/api/bucket/create_classic", body)).status == 200


async def test_without_the_database_every_call_is_500(database_dsn: str) -> None:
    away = {"database_dsn": "postgresql://127.0.0.1:9/hidden_name", "database_connect_seconds": 1}
    async with api_door(database_dsn, **away) as api:
        first = api.buckets["first"]
        calls = [(method, f"/{first}/{path}", body) for method, path, body, _ in CALLS.values()]
        for method, path, body in [*calls, ("POST", "/create_classic", {"name": "x"}), ("GET", "/", {})]:
            answer = await api.ask(method, f"/api/bucket{path.removesuffix('/')}", body)
            assert (answer.status, list(answer.body)) == (500, ["msg"]), path
            assert "hidden_name" not in answer.body["msg"]


async def test_a_database_that_fails_is_a_500_that_tells_nothing(api: Door, database_dsn: str) -> None:
    query(database_dsn, "ALTER TABLE bucket_feedback RENAME TO hidden_name")
    answer = await ask(api, "PUT", "feedback", {"feedback": "good"})
    assert (answer.status, list(answer.body)) == (500, ["msg"])
    assert "feedback" not in answer.body["msg"]
    assert "relation" not in answer.body["msg"]
