"""The calls of buckets through real sockets: every documented status, limits, invitations, other tenants."""

from __future__ import annotations

import asyncio
import base64
import email
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.tenancy.administration import administration, create_user
from schema.identities import secret_digest
from tests.support.api_door import UNAUTHORIZED, Answer, Door, api_door

KEY = base64.b64encode(bytes(range(32))).decode()
UNKNOWN = "f" * 24
PLANS = {
    "free": {"buckets": 3, "members": 4, "retention_days": 30},
    "wide": {"buckets": 5, "members": 9, "retention_days": 400, "trial_days": 7},
    "narrow": {"members": 2},
    "single": {"buckets": 0},
    "paid": {"monthly_price": 49},
}


@pytest.fixture
async def api(database_dsn: str, tmp_path: Path) -> AsyncIterator[Door]:
    options = {"mail_folder": str(tmp_path / "mail"), "secret_key": KEY, "plans": PLANS}
    async with api_door(database_dsn, **options) as made:
        yield made


def query(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


async def ask(
    api: Door,
    method: str,
    call: str = "",
    body: Any = None,
    *,
    who: str = "owner",
    bucket: str = "first",
    **headers: str,
) -> Answer:
    bucket_id = api.buckets.get(bucket, bucket)
    path = f"/api/bucket/{bucket_id}" + (f"/{call}" if call else "")
    return await api.ask(method, path, {} if body is None else body, who=who, **headers)


# Every call of one bucket: how it is made, and what the least of those who may are.
CALLS: dict[str, tuple[str, str, Any, str]] = {
    "retrieve": ("GET", "", {}, "read"),
    "update": ("PUT", "", {"comment": "x"}, "manage"),
    "current_role": ("GET", "current_role", {}, "belong"),
    "subscription": ("GET", "subscription", {}, "belong"),
    "add_user": ("POST", "add_user", {"email": "new@example.com"}, "manage"),
    "meta_servers": ("GET", "meta_servers", {}, "read"),
    "users_authorized": ("GET", "users_authorized", {}, "belong"),
    "upgrade": ("POST", "upgrade", {"plan": "wide"}, "own"),
    "invitation": ("DELETE", "invitation?email=new@example.com", {}, "manage"),
    "remove_user": ("POST", "remove_user", {"email": "unknown@example.com"}, "manage"),
    "charges": ("GET", "payment/charges", {}, "belong"),
    "feedback": ("PUT", "feedback", {"feedback": "good"}, "belong"),
    "manage_notif": ("POST", "manage_notif", {"email": "owner@example.com", "state": "none"}, "manage"),
    "promote_user": ("POST", "promote_user", {"email": "user@example.com", "role": "user"}, "manage"),
    "user_options": ("PUT", "user_options", {"options": {"a": 1}}, "belong"),
    "start_trial": ("PUT", "start_trial", {}, "own"),
    "transfer_ownership": ("POST", "transfer_ownership", {"new_owner": "unknown@example.com"}, "own"),
    "destroy": ("DELETE", "", {}, "own"),
}
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
        async with api_door_again(database_dsn, api, keys) as later:
            assert (await ask(later, "GET")).body["secret_id"] == shown


def api_door_again(dsn: str, api: Door, keys: str) -> Any:
    """The same people and buckets behind a process with other keys."""
    from contextlib import asynccontextmanager

    import aiohttp
    from prometheus_client import CollectorRegistry

    from api.app import build_app, clients
    from api.http.serving import Listening, listening
    from schema.settings import ApiSettings

    @asynccontextmanager
    async def again() -> AsyncIterator[Door]:
        settings = ApiSettings(database_dsn=dsn, kafka_bootstrap="127.0.0.1:9", secret_key=keys)
        async with (
            clients(settings) as parts,
            listening(
                build_app(settings, parts, CollectorRegistry()), Listening("127.0.0.1", 0, 5, 5)
            ) as port,
            aiohttp.ClientSession() as session,
        ):
            yield Door(session, f"http://127.0.0.1:{port}", api.buckets, api.users, api.secrets)

    return again()


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


async def test_an_existing_user_becomes_a_member_at_once_and_twice_is_once(api: Door, tmp_path: Path) -> None:
    for _ in range(2):
        answer = await ask(api, "POST", "add_user", {"email": "Stranger@example.com"}, who="admin")
        assert (answer.status, answer.body) == (200, {"invitations": []})
    assert (await ask(api, "GET", "current_role", who="stranger")).body == {"role": "user"}
    assert len((await ask(api, "GET", "users_authorized")).body) == 4
    assert not (tmp_path / "mail").exists()
    # The fourth was the last that the plan allows.
    assert (await ask(api, "POST", "add_user", {"email": "member@example.com"})).status == 403
    assert (await ask(api, "POST", "add_user", {"email": "ada@example.com"})).status == 403


def mailed(tmp_path: Path, to: str) -> str:
    """The secret in the newest mail to an address."""
    for path in sorted(tmp_path.glob("mail/*.eml"), reverse=True):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if message["To"] == to:
            (secret,) = re.findall(r"weir_mail_[A-Za-z0-9_-]{43}", message.get_content())
            return str(secret)
    raise AssertionError(f"no mail to {to}")


async def register(api: Door, address: str, **body: Any) -> Answer:
    asked = {"username": "Ada", "email": address, "password": "correct horse", **body}
    return await api.ask("POST", "/api/oauth/register", asked, who="nobody")


async def test_an_invitation_makes_a_member_of_whoever_registers_with_it(api: Door, tmp_path: Path) -> None:
    invited = await ask(api, "POST", "add_user", {"email": "Ada@example.com"})
    assert invited.status == 200
    ((invitation,),) = [invited.body["invitations"]]
    assert (invitation["email"], invitation["role"]) == ("ada@example.com", "user")
    await ask(api, "POST", "add_user", {"email": "ada@example.com"}, bucket="second")
    secret = mailed(tmp_path, "ada@example.com")
    # Of another address it is worth nothing.
    assert (await register(api, "eve@example.com", invitation=secret)).status == 400
    answer = await register(api, "ada@example.com", invitation=secret)
    assert answer.status == 200
    assert answer.body["user"]["email_confirmed"] is True
    bearer = {"Authorization": f"Bearer {answer.body['access_token']}"}
    listed = await api.ask("GET", "/api/bucket", who="nobody", **bearer)
    assert [one["name"] for one in listed.body] == ["first", "second"]
    assert (await ask(api, "DELETE", "invitation", {"email": "ada@example.com"})).status == 400


async def test_registering_under_an_invited_address_opens_nothing_before_the_mail_is_read(
    api: Door, tmp_path: Path
) -> None:
    await ask(api, "POST", "add_user", {"email": "ada@example.com"})
    secret = mailed(tmp_path, "ada@example.com")
    thief = await register(api, "ada@example.com")
    assert thief.status == 200
    bearer = {"Authorization": f"Bearer {thief.body['access_token']}"}
    assert (await api.ask("GET", "/api/bucket", who="nobody", **bearer)).body == []
    # Nor is he taken for the user of that address: he is invited, by mail.
    again = await ask(api, "POST", "add_user", {"email": "ada@example.com"}, bucket="second")
    assert [one["email"] for one in again.body["invitations"]] == ["ada@example.com"]
    assert (await api.ask("GET", "/api/bucket", who="nobody", **bearer)).body == []
    # Who reads the mail confirms, signed in; somebody else's session does not do.
    confirm = "/api/oauth/confirm"
    assert (await api.ask("POST", confirm, {"token": secret}, who="stranger")).status == 400
    assert (await api.ask("POST", confirm, {"token": secret}, who="nobody")).status == 401
    assert (await api.ask("POST", confirm, {"token": secret}, who="owner's admin key")).status == 403
    done = await api.ask("POST", confirm, {"token": secret}, who="nobody", **bearer)
    assert done.status == 200
    assert sorted(done.body["buckets"]) == sorted([api.buckets["first"], api.buckets["second"]])
    assert len((await api.ask("GET", "/api/bucket", who="nobody", **bearer)).body) == 2


async def test_an_invitation_is_withdrawn_and_then_opens_nothing(api: Door, tmp_path: Path) -> None:
    await ask(api, "POST", "add_user", {"email": "ada@example.com"})
    await ask(api, "POST", "add_user", {"email": "bob@example.com"}, bucket="second")
    secret = mailed(tmp_path, "ada@example.com")
    for wrong in ("", "?email=", "?email=unknown@example.com", "?email=bob@example.com"):
        assert (await ask(api, "DELETE", f"invitation{wrong}")).status == 400
    gone = await ask(api, "DELETE", "invitation?email=ADA@example.com")
    assert (gone.status, gone.body) == (200, {"invitations": []})
    assert (await register(api, "ada@example.com", invitation=secret)).status == 400


async def test_an_invitation_is_over_after_its_time(api: Door, database_dsn: str, tmp_path: Path) -> None:
    await ask(api, "POST", "add_user", {"email": "ada@example.com"})
    secret = mailed(tmp_path, "ada@example.com")
    query(database_dsn, "UPDATE bucket_invitations SET created_at = now() - INTERVAL '15 days'")
    assert (await register(api, "ada@example.com", invitation=secret)).status == 400
    # It no longer counts towards the limit either: three members, and the fourth is invited.
    assert (await ask(api, "POST", "add_user", {"email": "bob@example.com"})).status == 200
    assert (await ask(api, "POST", "add_user", {"email": "eve@example.com"})).status == 403


async def test_when_mail_does_not_leave_nobody_is_invited(database_dsn: str) -> None:
    server = {"smtp_host": "127.0.0.1", "smtp_port": 9, "smtp_security": "none"}
    async with api_door(database_dsn, public_url="https://weir.example", **server) as api:
        answer = await ask(api, "POST", "add_user", {"email": "ada@example.com"})
        assert (answer.status, list(answer.body)) == (500, ["msg"])
        assert query(database_dsn, "SELECT count(*) FROM bucket_invitations") == [(0,)]


async def test_invitations_are_limited_by_who_sends_them(database_dsn: str, tmp_path: Path) -> None:
    async with api_door(database_dsn, mail_folder=str(tmp_path), invitations_per_minute=2) as api:
        statuses = [
            (await ask(api, "POST", "add_user", {"email": f"{n}@example.com"})).status for n in range(3)
        ]
        assert statuses == [200, 200, 429]


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


async def test_upgrade_sets_plan_and_retention(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "POST", "upgrade", {"plan": "wide"})
    assert answer.status == 200
    assert answer.body["bucket"]["plan"] == "wide"
    assert answer.body["subscription"]["plan"] == "wide"
    assert query(database_dsn, "SELECT plan, retention_days FROM buckets WHERE name = 'first'") == [
        ("wide", 400)
    ]
    # What costs nothing has no subscription, and no invoices.
    assert (await ask(api, "GET", "subscription")).status == 404
    charges = await ask(api, "GET", "payment/charges")
    assert (charges.status, charges.body) == (200, [])


async def test_charges_400(api: Door) -> None:
    for body in (b"{", b"[]", b"\xff"):
        answer = await ask(api, "GET", "payment/charges", body)
        assert (answer.status, list(answer.body)) == (400, ["msg"])


async def test_a_trial_begins_once_and_lifts_the_limit_of_members(api: Door, database_dsn: str) -> None:
    answer = await ask(api, "PUT", "start_trial")
    assert (answer.status, answer.body) == (200, {"duration": "7 days", "plan": "wide"})
    assert (await ask(api, "PUT", "start_trial")).status == 400
    shown = (await ask(api, "GET")).body
    assert (shown["plan"], shown["payment"]["offer_type"]) == ("wide", "free")
    for n in range(3):
        assert (await ask(api, "POST", "add_user", {"email": f"{n}@example.com"})).status == 200
    query(database_dsn, "UPDATE buckets SET trial_ends_at = now() WHERE name = 'first'")
    assert (await ask(api, "GET")).body["plan"] == "free"
    assert (await ask(api, "POST", "add_user", {"email": "9@example.com"})).status == 403


async def test_start_trial_400_where_nothing_can_be_tried(database_dsn: str) -> None:
    async with api_door(database_dsn, plans={"free": {}}) as api:
        assert (await ask(api, "PUT", "start_trial")).status == 400


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


async def test_a_user_without_an_address_of_his_own_is_not_found(api: Door, database_dsn: str) -> None:
    with administration(database_dsn) as connection:
        create_user(connection, "late@example.com")
    query(database_dsn, "UPDATE users SET email_confirmed_at = NULL WHERE email = 'late@example.com'")
    assert (await ask(api, "POST", "transfer_ownership", {"new_owner": "late@example.com"})).status == 404
