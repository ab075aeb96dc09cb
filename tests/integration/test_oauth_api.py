"""Signing in and out through real sockets: every grant, every refusal, and what a revocation ends."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from api.tenancy.administration import administration, create_refresh_token
from api.tenancy.passwords import hash_password
from schema.identities import new_secret
from tests.support.api_door import Answer, Door, api_door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.mail import mails, secret_in
from tests.support.proxy import proxy_before

TOKEN = "/api/oauth/token"
NULL = {"Authorization": "Bearer null"}
PASSWORD = "correct horse battery"


@pytest.fixture
async def api(database_dsn: str, tmp_path: Path) -> AsyncIterator[Door]:
    async with api_door(database_dsn, mail_folder=str(tmp_path / "mail")) as made:
        yield made


def refresh_token(dsn: str, user_id: str) -> str:
    with administration(dsn) as connection:
        return create_refresh_token(connection, user_id)


def give_password(dsn: str, user_id: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE users SET password_hash = %s WHERE user_id = %s", [hash_password(PASSWORD), user_id]
        )


async def refreshed(api: Door, token: str, **body: Any) -> Answer:
    asked = {"client_id": "795984050", "refresh_token": token, "grant_type": "refresh_token", **body}
    return await api.ask("POST", TOKEN, asked, who="nobody", **NULL)


async def works(api: Door, access_token: str) -> int:
    answer = await api.ask("GET", "/api/bucket", who="nobody", Authorization=f"Bearer {access_token}")
    return answer.status


async def test_a_client_gets_access_tokens_for_the_same_refresh_token_again_and_again(
    api: Door, database_dsn: str
) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    seen = set()
    for _ in range(3):
        answer = await refreshed(api, token)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.body["refresh_token"] == token
        assert answer.body["token_type"] == "Bearer"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*\+00:00", answer.body["expire_at"])
        assert await works(api, answer.body["access_token"]) == 200
        seen.add(answer.body["access_token"])
    assert len(seen) == 3


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [],
        "text",
        {"grant_type": "magic"},
        {"grant_type": ["refresh_token"]},
        {"grant_type": "refresh_token"},
        {"grant_type": "refresh_token", "refresh_token": ""},
        {"grant_type": "refresh_token", "refresh_token": 7},
        {"grant_type": "refresh_token", "refresh_token": "garbage"},
        {"grant_type": "refresh_token", "refresh_token": "\u0000"},
        {"grant_type": "refresh_token", "refresh_token": new_secret("refresh")},
        {"grant_type": "refresh_token", "refresh_token": new_secret("access")},
        {"grant_type": "password", "email": "owner@example.com"},
        {"grant_type": "password", "email": "owner@example.com", "password": "wrong password"},
        {"grant_type": "password", "email": "nobody@example.com", "password": "wrong password"},
        {"grant_type": "password", "email": "no address", "password": "wrong password"},
        {"grant_type": "password", "email": "owner@example.com", "password": "x" * 1025},
        {"grant_type": "client_credentials", "client_id": "a"},
        {"grant_type": "client_credentials", "client_id": "a", "client_secret": new_secret("read")},
        {"grant_type": "client_credentials", "client_id": "a", "client_secret": "garbage"},
    ],
)
async def test_a_refusal_of_a_token_is_a_400_and_never_a_401(api: Door, body: Any) -> None:
    for credential in ({}, NULL, {"Authorization": "Bearer garbage"}):
        answer = await api.ask("POST", TOKEN, body, who="nobody", **credential)
        assert answer.status == 400, answer.body
        assert list(answer.body) == ["msg"]
        assert answer.body["msg"]


async def test_a_form_is_read_too(api: Door, database_dsn: str) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    form = f"grant_type=refresh_token&client_id=1&refresh_token={token}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.ask("POST", TOKEN, form, who="nobody", **kind)
    assert answer.status == 200
    assert answer.body["refresh_token"] == token
    assert (await api.ask("POST", TOKEN, b"grant_type=%ff", who="nobody", **kind)).status == 400


@AT_AND_ABOVE
async def test_a_form_has_so_many_fields(api: Door, database_dsn: str, beyond: int) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    form = f"grant_type=refresh_token&refresh_token={token}" + "&x=1" * (98 + beyond)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.ask("POST", TOKEN, form.encode(), who="nobody", **kind)
    assert answer.status == (400 if beyond else 200)


async def test_a_password_gives_both_tokens_by_either_name_of_the_address(
    api: Door, database_dsn: str
) -> None:
    give_password(database_dsn, api.users["owner"])
    for name in ("email", "username"):
        body = {"grant_type": "password", name: "OWNER@example.com", "password": PASSWORD}
        answer = await api.ask("POST", TOKEN, body, who="nobody")
        assert answer.status == 200
        assert await works(api, answer.body["access_token"]) == 200
        again = await refreshed(api, answer.body["refresh_token"])
        assert again.body["refresh_token"] == answer.body["refresh_token"]


async def test_an_account_without_a_password_cannot_sign_in_with_any(api: Door) -> None:
    for password in (" ", "null", "x"):
        body = {"grant_type": "password", "email": "user@example.com", "password": password}
        assert (await api.ask("POST", TOKEN, body, who="nobody")).status == 400


async def test_the_consoles_session_rotates_and_a_replaced_token_ends_all_of_it(
    api: Door, database_dsn: str
) -> None:
    give_password(database_dsn, api.users["owner"])
    body = {
        "grant_type": "password",
        "email": "owner@example.com",
        "password": PASSWORD,
        "client_id": "weir-console",
    }
    first = (await api.ask("POST", TOKEN, body, who="nobody")).body
    second = (await refreshed(api, first["refresh_token"])).body
    third = (await refreshed(api, second["refresh_token"])).body
    assert len({one["refresh_token"] for one in (first, second, third)}) == 3
    for one in (first, second, third):
        assert await works(api, one["access_token"]) == 200
    other = refresh_token(database_dsn, api.users["owner"])

    stolen = await refreshed(api, first["refresh_token"])
    assert stolen.status == 400
    assert "session has ended" in stolen.body["msg"]
    assert (await refreshed(api, third["refresh_token"])).status == 400
    for one in (first, second, third):
        assert await works(api, one["access_token"]) == 401
    assert (await refreshed(api, other)).status == 200


async def test_a_session_that_nobody_uses_ends(database_dsn: str) -> None:
    async with api_door(database_dsn) as api:
        give_password(database_dsn, api.users["owner"])
        asked = {"grant_type": "password", "email": "owner@example.com", "password": PASSWORD}
        body = (await api.ask("POST", TOKEN, {**asked, "client_id": "weir-console"}, who="nobody")).body
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            connection.execute("UPDATE refresh_tokens SET expires_at = now() WHERE expires_at IS NOT NULL")
        assert (await refreshed(api, body["refresh_token"])).status == 400


@pytest.mark.parametrize(
    ("who", "may_read"), [("first read key", 200), ("first ingest key", 403), ("owner's read key", 200)]
)
async def test_client_credentials_may_what_the_key_may_for_as_long_as_it_stands(
    api: Door, database_dsn: str, who: str, may_read: int
) -> None:
    key = api.secrets[who]["X-Api-Key"]
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT key_id, prefix FROM api_keys WHERE secret_sha256 = sha256(%s)", [key.encode()]
        ).fetchone()
    assert row is not None
    key_id, prefix = row
    path = f"/api/bucket/{api.buckets['first']}"

    async def granted(client_id: str) -> Answer:
        body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": key}
        return await api.ask("POST", TOKEN, body, who="nobody")

    assert (await granted(prefix)).status == 200
    answer = await granted(key_id)
    assert answer.status == 200
    assert "refresh_token" not in answer.body
    token = {"Authorization": f"Bearer {answer.body['access_token']}"}
    assert (await api.ask("GET", path, who="nobody", **token)).status == may_read
    assert (await api.ask("GET", f"{path}/users_authorized", who="nobody", **token)).status == 403
    assert (await api.ask("PUT", path, {"name": "x"}, who="nobody", **token)).status == 403
    theirs = f"/api/bucket/{api.buckets['theirs']}"
    assert (await api.ask("GET", theirs, who="nobody", **token)).status == 403
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now() WHERE key_id = %s", [key_id])
    assert (await api.ask("GET", path, who="nobody", **token)).status == 401
    assert (await granted(key_id)).status == 400


async def test_a_revoked_refresh_token_ends_its_access_tokens_at_once(api: Door, database_dsn: str) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    access = (await refreshed(api, token)).body["access_token"]
    other = (await refreshed(api, refresh_token(database_dsn, api.users["owner"]))).body["access_token"]
    assert (await api.ask("POST", "/api/oauth/revoke", {"token": token}, who="nobody")).status == 200
    assert await works(api, access) == 401
    assert (await refreshed(api, token)).status == 400
    assert await works(api, other) == 200


async def test_the_client_signs_out_with_its_access_token_and_no_body(api: Door, database_dsn: str) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    access = (await refreshed(api, token)).body["access_token"]
    bearer = {"Authorization": f"Bearer {access}"}
    assert (await api.ask("POST", "/api/oauth/revoke", who="nobody", **bearer)).status == 200
    assert await works(api, access) == 401
    assert (await refreshed(api, token)).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({"token": "garbage"}, 404), ({"token": new_secret("refresh")}, 404), ({"token": 7}, 400)],
)
async def test_what_cannot_be_revoked(api: Door, body: Any, status: int) -> None:
    answer = await api.ask("POST", "/api/oauth/revoke", body, who="nobody", **NULL)
    assert (answer.status, list(answer.body)) == (status, ["msg"])


async def register(api: Door, **body: Any) -> Answer:
    asked = {"username": "Ada", "email": "ada@example.com", "password": PASSWORD, **body}
    return await api.ask("POST", "/api/oauth/register", asked, who="nobody", **NULL)


async def test_registering_signs_in_and_asks_for_the_address_to_be_confirmed(
    api: Door, tmp_path: Path
) -> None:
    answer = await register(api, accept_terms=True, role="developer")
    assert answer.status == 200
    assert answer.body["user"] | {"_id": ""} == {
        "_id": "",
        "username": "Ada",
        "email": "ada@example.com",
        "email_confirmed": False,
    }
    bearer = {"Authorization": f"Bearer {answer.body['access_token']}"}
    assert (await api.ask("GET", "/api/bucket", who="nobody", **bearer)).body == []
    ((to, text),) = await mails(tmp_path / "mail", 1)
    assert to == "ada@example.com"
    confirmed = await api.ask(
        "POST", "/api/oauth/confirm", {"token": secret_in(text)}, who="nobody", **bearer
    )
    assert (confirmed.status, confirmed.body) == (200, {"confirmed": True, "buckets": []})
    again = await api.ask("POST", "/api/oauth/confirm", {"token": secret_in(text)}, who="nobody", **bearer)
    assert again.status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"password": "short"}, 400),
        ({"password": None}, 400),
        ({"username": "  "}, 400),
        ({"username": "a\u0000b"}, 400),
        ({"email": "no address"}, 400),
        ({"email": "a b@example.com"}, 400),
        ({"email": "x" * 250 + "@example.com"}, 400),
        ({"email": "OWNER@EXAMPLE.COM"}, 409),
        ({"invitation": "garbage"}, 400),
        ({"invitation": new_secret("mail")}, 400),
    ],
)
async def test_who_cannot_register(api: Door, body: Any, status: int) -> None:
    answer = await register(api, **body)
    assert (answer.status, list(answer.body)) == (status, ["msg"])


async def test_where_registration_is_by_invitation_nobody_comes_without(database_dsn: str) -> None:
    async with api_door(database_dsn, registration="invitation") as api:
        assert (await register(api)).status == 403


async def test_a_reset_sets_a_password_once_and_ends_every_session(
    api: Door, database_dsn: str, tmp_path: Path
) -> None:
    token = refresh_token(database_dsn, api.users["owner"])
    access = (await refreshed(api, token)).body["access_token"]
    path = "/api/oauth/reset_password"
    known = await api.ask("POST", path, {"email": "Owner@example.com"}, who="nobody")
    unknown = await api.ask("POST", path, {"email": "unknown@example.com"}, who="nobody")
    assert (known.status, known.body) == (unknown.status, unknown.body) == (200, known.body)
    ((to, text),) = await mails(tmp_path / "mail", 1)
    assert to == "owner@example.com"
    reset = {"token": secret_in(text), "password": "a new password"}
    assert (await api.ask("POST", path, {**reset, "password": "short"}, who="nobody")).status == 400
    assert (await api.ask("POST", path, {"token": reset["token"]}, who="nobody")).status == 400
    assert (await api.ask("POST", path, reset, who="nobody")).status == 200
    assert (await api.ask("POST", path, reset, who="nobody")).status == 400
    assert await works(api, access) == 401
    assert (await refreshed(api, token)).status == 400
    body = {"grant_type": "password", "email": "owner@example.com", "password": "a new password"}
    assert (await api.ask("POST", TOKEN, body, who="nobody")).status == 200
    for wrong in ({}, {"token": "garbage", "password": PASSWORD}, {"email": "no address"}):
        assert (await api.ask("POST", path, wrong, who="nobody")).status == 400


async def test_a_reset_ends_the_keys_of_who_registered_under_anothers_address(
    api: Door, database_dsn: str, tmp_path: Path
) -> None:
    async def key_of(access_token: str) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {access_token}"}
        made = await api.ask("POST", "/v1/keys", {"scope": "admin"}, who="nobody", **bearer)
        assert made.status == 201
        return {"X-Api-Key": made.body["secret"]}

    async def sees(key: dict[str, str]) -> int:
        return (await api.ask("GET", "/api/bucket", who="nobody", **key)).status

    async def reset(mails_before: int) -> None:
        path = "/api/oauth/reset_password"
        await api.ask("POST", path, {"email": "ada@example.com"}, who="nobody")
        newest = (await mails(tmp_path / "mail", mails_before + 1))[-1]
        body = {"token": secret_in(newest[1]), "password": "a new password"}
        assert (await api.ask("POST", path, body, who="nobody")).status == 200

    squatters = await key_of((await register(api)).body["access_token"])
    # That asks for the address to be confirmed.
    await mails(tmp_path / "mail", 1)
    owners = await key_of(
        (await refreshed(api, refresh_token(database_dsn, api.users["owner"]))).body["access_token"]
    )
    assert (await sees(squatters), await sees(owners)) == (200, 200)
    await reset(1)
    assert (await sees(squatters), await sees(owners)) == (401, 200)
    # From now on the address is its user's, and so are the keys.
    body = {"grant_type": "password", "email": "ada@example.com", "password": "a new password"}
    own = await key_of((await api.ask("POST", TOKEN, body, who="nobody")).body["access_token"])
    await reset(2)
    assert await sees(own) == 200


async def test_attempts_are_limited_by_account_and_by_address(database_dsn: str, tmp_path: Path) -> None:
    options = {"sign_ins_per_minute": 2, "address_sign_ins_per_minute": 6, "tokens_per_minute": 3}
    async with api_door(database_dsn, mail_folder=str(tmp_path), **options) as api:
        token = refresh_token(database_dsn, api.users["owner"])
        statuses = [(await refreshed(api, token)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]

        async def attempt(who: str) -> Answer:
            body = {"grant_type": "password", "email": f"{who}@example.com", "password": "wrong password"}
            return await api.ask("POST", TOKEN, body, who="nobody")

        assert [(await attempt("owner")).status for _ in range(3)] == [400, 400, 429]
        assert (await attempt("OWNER")).status == 429
        # Another account has its own attempts, until those of the address are used up.
        assert [(await attempt(who)).status for who in ("admin", "user", "member")] == [400, 400, 429]
        refused = await attempt("admin")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1


async def test_the_address_is_the_one_that_our_own_proxy_wrote_down(
    database_dsn: str, tmp_path: Path
) -> None:
    options = {"address_sign_ins_per_minute": 1, "forwarded_hops": 1, "mail_folder": str(tmp_path)}
    async with api_door(database_dsn, **options) as api:

        async def ask(forwarded: str) -> int:
            body = {"token": new_secret("refresh")}
            header = {"X-Forwarded-For": forwarded}
            return (await api.ask("POST", "/api/oauth/revoke", body, who="nobody", **header)).status

        assert await ask("10.0.0.1") == 404
        assert await ask("made up, 10.0.0.1") == 429
        assert await ask("10.0.0.2") == 404


AWAY: list[tuple[str, dict[str, str]]] = [
    ("token", {"grant_type": "refresh_token", "refresh_token": new_secret("refresh")}),
    ("token", {"grant_type": "password", "email": "owner@example.com", "password": PASSWORD}),
    ("token", {"grant_type": "client_credentials", "client_id": "a", "client_secret": new_secret("read")}),
    ("revoke", {"token": new_secret("refresh")}),
    ("register", {"username": "Ada", "email": "ada@example.com", "password": PASSWORD}),
    ("reset_password", {"email": "owner@example.com"}),
    ("reset_password", {"token": new_secret("mail"), "password": PASSWORD}),
    ("confirm", {"token": new_secret("mail")}),
]


@pytest.mark.parametrize("how", ["refuses", "is frozen"])
async def test_while_the_database_is_away_every_call_is_503(
    database_dsn: str, tmp_path: Path, how: str
) -> None:
    with proxy_before(database_dsn) as (proxy, dsn):
        options = {
            "database_dsn": dsn,
            "database_connect_seconds": 0.5,
            "database_command_seconds": 0.5,
            "sign_ins_per_minute": 100,
            "mail_folder": str(tmp_path / "mail"),
        }
        async with api_door(database_dsn, **options) as api:

            async def statuses() -> Counter[int]:
                """How many of the calls, asked at once, were answered with each status."""
                who = {"confirm": "owner"}
                asked = [
                    api.ask("POST", f"/api/oauth/{path}", body, who=who.get(path, "nobody"))
                    for path, body in AWAY
                ]
                answers = await asyncio.gather(*asked)
                for answer in answers:
                    if answer.status == 503:
                        assert list(answer.body) == ["msg"]
                        assert int(answer.headers["Retry-After"]) >= 1
                return Counter(answer.status for answer in answers)

            assert 503 not in await statuses()
            if how == "is frozen":
                proxy.freeze()
            else:
                proxy.lead_to(9)
                proxy.cut()
            began = time.monotonic()
            assert await statuses() == {503: len(AWAY)}
            assert time.monotonic() - began < 10
            proxy.lead_to(urlsplit(database_dsn).port or 5432)
            proxy.thaw()
            # By itself, and without a connection that was broken in the meantime.
            for _ in range(50):
                if 503 not in await statuses():
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("still away")
