"""Members, their roles, what each keeps of a bucket; and another owner."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.tenancy.administration import administration, create_user
from tests.integration.buckets.calls import ask, query
from tests.support.api_door import Door


async def test_current_role(api: Door) -> None:
    roles = {"owner": "owner", "admin": "admin", "user": "user", "member": "user", "root": "owner"}
    for who, role in roles.items():
        answer = await ask(api, "GET", "current_role", who=who)
        assert (answer.status, answer.body) == (200, {"role": role})


async def test_members_are_listed_promoted_and_removed(api: Door) -> None:
    listed = await ask(api, "GET", "users_authorized", who="user")
    assert listed.status == 200
    assert [(one["email"], one["username"], one["role"], one["roles"]) for one in listed.body] == [
        (f"{who}@example.com", who, who, [who]) for who in ("owner", "admin", "user")
    ]
    assert [one["_id"] for one in listed.body] == [api.users[who] for who in ("owner", "admin", "user")]
    promoted = await ask(api, "POST", "promote_user", {"email": "USER@example.com", "role": "admin"})
    assert promoted.status == 200
    assert [one["role"] for one in promoted.body] == ["owner", "admin", "admin"]
    assert (await ask(api, "PUT", body={"comment": "mine"}, who="user")).status == 200
    removed = await ask(api, "POST", "remove_user", {"email": "user@example.com"}, who="admin")
    assert removed.status == 200
    assert [one["role"] for one in removed.body] == ["owner", "admin"]
    # At once.
    assert (await ask(api, "GET", who="user")).status == 403
    assert (await api.ask("GET", "/api/bucket", who="user")).body == []


@pytest.mark.parametrize(
    ("call", "body", "status"),
    [
        ("promote_user", {}, 400),
        ("promote_user", {"email": "user@example.com"}, 400),
        ("promote_user", {"role": "admin"}, 400),
        ("promote_user", {"email": "user@example.com", "role": "king"}, 400),
        ("promote_user", {"email": "user@example.com", "role": "owner"}, 400),
        ("promote_user", {"email": "no address", "role": "user"}, 400),
        ("promote_user", {"email": "unknown@example.com", "role": "admin"}, 404),
        ("promote_user", {"email": "stranger@example.com", "role": "admin"}, 404),
        ("promote_user", {"email": "owner@example.com", "role": "admin"}, 403),
        ("remove_user", {}, 400),
        ("remove_user", {"email": 7}, 400),
        ("remove_user", {"email": "unknown@example.com"}, 404),
        ("remove_user", {"email": "stranger@example.com"}, 404),
        ("remove_user", {"email": "owner@example.com"}, 403),
        ("manage_notif", {}, 400),
        ("manage_notif", {"email": "user@example.com", "state": "loud"}, 400),
        ("manage_notif", {"email": "unknown@example.com", "state": "email"}, 404),
        ("manage_notif", {"email": "stranger@example.com", "state": "email"}, 404),
        ("transfer_ownership", {}, 400),
        ("transfer_ownership", {"new_owner": "no address"}, 400),
        ("transfer_ownership", {"new_owner": "owner@example.com"}, 400),
        ("transfer_ownership", {"new_owner": "unknown@example.com"}, 404),
        ("add_user", {}, 400),
        ("add_user", {"email": "no address"}, 400),
        ("add_user", {"email": "a\n@example.com"}, 400),
        ("upgrade", {}, 400),
        ("upgrade", {"plan": "unknown"}, 400),
        ("upgrade", {"plan": "paid"}, 403),
        ("upgrade", {"plan": "paid", "stripe_token": "tok_1", "coupon_id": "c"}, 403),
        ("upgrade", {"plan": "free"}, 403),
        ("upgrade", {"plan": "narrow"}, 403),
        ("upgrade", {"plan": "single"}, 403),
    ],
)
async def test_refusals_change_nothing(api: Door, call: str, body: Any, status: int) -> None:
    before = (await ask(api, "GET")).body, (await ask(api, "GET", "users_authorized")).body
    answer = await ask(api, "POST", call, body)
    assert (answer.status, list(answer.body)) == (status, ["msg"]), answer.body
    assert ((await ask(api, "GET")).body, (await ask(api, "GET", "users_authorized")).body) == before


async def test_notifications(api: Door) -> None:
    # One's own, spelled as the document has it; the others' is for admins.
    own = await ask(api, "POST", "manage_notif", {"email": "user@example.com", "state": "nonde"}, who="user")
    assert own.status == 200
    assert own.body == [
        {"email": "owner@example.com", "state": "email"},
        {"email": "admin@example.com", "state": "email"},
        {"email": "user@example.com", "state": "none"},
    ]
    others = {"email": "admin@example.com", "state": "none"}
    assert (await ask(api, "POST", "manage_notif", others, who="user")).status == 403
    assert (await ask(api, "POST", "manage_notif", others, who="admin")).body[1]["state"] == "none"


async def test_options_are_the_callers_own(api: Door) -> None:
    answer = await ask(api, "PUT", "user_options", {"options": {"theme": "dark"}}, who="user")
    assert answer.status == 200
    assert answer.body["bucket"]["_id"] == api.buckets["first"]
    assert answer.body["bucket"]["user_options"] == {"theme": "dark"}
    assert (await ask(api, "GET", who="user")).body["user_options"] == {"theme": "dark"}
    assert (await ask(api, "GET", who="owner")).body["user_options"] == {}
    assert (await ask(api, "PUT", "user_options", {"options": {}}, who="member")).status == 200
    for body in ({}, {"options": "x"}, {"options": None}, {"options": {"a": "\u0000"}}):
        assert (await ask(api, "PUT", "user_options", body)).status == 400


async def test_feedback(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "PUT", "feedback", {"feedback": "more colours"}, who="user")
    assert (answer.status, answer.body) == (200, {"feedback": "more colours"})
    rows = query(database_dsn, "SELECT bucket_id, user_id, feedback FROM bucket_feedback")
    assert rows == [(api.buckets["first"], api.users["user"], "more colours")]
    for body in ({}, {"feedback": ""}, {"feedback": 7}):
        assert (await ask(api, "PUT", "feedback", body)).status == 400


async def test_the_old_owner_is_admin_after_a_transfer(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "POST", "transfer_ownership", {"new_owner": "User@example.com"})
    assert answer.status == 200
    assert (answer.body["_id"], answer.body["role"]) == (api.buckets["first"], "admin")
    roles = {one["email"]: one["role"] for one in (await ask(api, "GET", "users_authorized")).body}
    assert roles == {"owner@example.com": "admin", "admin@example.com": "admin", "user@example.com": "owner"}
    assert (await ask(api, "DELETE")).status == 403
    # To somebody who was no member before, by a superuser.
    answer = await ask(api, "POST", "transfer_ownership", {"new_owner": "stranger@example.com"}, who="root")
    assert answer.status == 200
    assert (await ask(api, "GET", "current_role", who="stranger")).body == {"role": "owner"}
    assert query(
        database_dsn,
        "SELECT count(*) FROM bucket_members WHERE bucket_id = %s AND role = 'owner'",
        api.buckets["first"],
    ) == [(1,)]


async def test_transfers_at_once_leave_one_owner(api: Door, database_dsn: str) -> None:
    heirs = ["admin", "user", "stranger", "member"]
    answers = await asyncio.gather(
        *(
            ask(api, "POST", "transfer_ownership", {"new_owner": f"{who}@example.com"}, who="root")
            for who in heirs
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert query(
        database_dsn,
        "SELECT count(*) FROM bucket_members WHERE bucket_id = %s AND role = 'owner'",
        api.buckets["first"],
    ) == [(1,)]


async def test_transfer_403_without_a_card_or_without_room(api: Door, database_dsn: str) -> None:
    query(database_dsn, "UPDATE buckets SET plan = 'paid' WHERE name = 'first'")
    answer = await ask(api, "POST", "transfer_ownership", {"new_owner": "user@example.com"})
    assert (answer.status, "credit card" in answer.body["msg"]) == (403, True)
    query(database_dsn, "UPDATE buckets SET plan = NULL WHERE name = 'first'")
    for n in range(3):
        body = {"name": f"b{n}"}
        assert (await api.ask("POST", "/api/bucket/create_classic", body, who="user")).status == 200
    assert (await ask(api, "POST", "transfer_ownership", {"new_owner": "user@example.com"})).status == 403
    assert (await ask(api, "GET", "current_role")).body == {"role": "owner"}


async def test_a_user_without_an_address_of_his_own_is_not_found(api: Door, database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        create_user(connection, "late@example.com")
    query(database_dsn, "UPDATE users SET email_confirmed_at = NULL WHERE email = 'late@example.com'")
    assert (await ask(api, "POST", "transfer_ownership", {"new_owner": "late@example.com"})).status == 404
