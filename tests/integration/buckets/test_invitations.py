"""Invitations by mail: what they open, for whom, and for how long."""

from __future__ import annotations

import email
import re
from pathlib import Path
from typing import Any

from tests.integration.buckets.calls import ask, query
from tests.support.api_door import Answer, Door, api_door


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
