"""Whoever gets hold of a dump of the database gets in nowhere with it: no secret is in there, in any form."""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path

import psycopg
from psycopg import sql

from api.tenancy.administration import administration, create_refresh_token
from schema.identities import new_secret
from tests.support.api_door import Door, api_door
from tests.support.mail import mails
from tests.support.secret_search import note, secrets_in, written_otherwise

SECRET_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
PASSWORD, NEW_PASSWORD = (f"a password {secrets.token_hex(8)}" for _ in range(2))
TOKEN = "/api/oauth/token"
NULL = {"Authorization": "Bearer null"}


async def test_a_dump_holds_no_usable_secret(database_dsn: str, tmp_path: Path) -> None:
    used: set[str] = {SECRET_KEY, PASSWORD, NEW_PASSWORD}
    options = {"mail_folder": str(tmp_path), "secret_key": SECRET_KEY, "keys_per_minute": 1000}
    async with api_door(database_dsn, **options) as api:
        used |= {value.removeprefix("Bearer ") for pair in api.secrets.values() for value in pair.values()}
        used |= await _busy(api, database_dsn)
    # Of the registration, the invitation and the reset; the stop has waited for what leaves after the answer.
    assert len(await mails(tmp_path, 3)) == 3
    used |= set(_mailed(tmp_path))
    # Some of it was never valid, but all of it was shown to the door.
    used = {secret for secret in used if len(secret) >= 12}
    assert len([secret for secret in used if secret.startswith("weir_")]) > 30
    assert any(secret.startswith("weir_mail_") for secret in used)
    dumped = _dump(database_dsn)
    assert "owner@example.com" in dumped, "the dump is one"
    for secret in used:
        for form in written_otherwise(secret):
            assert form not in dumped, f"{secret[:18]}… is in the dump"
    assert secrets_in(dumped) == []


async def _busy(api: Door, dsn: str) -> set[str]:
    """Every call that makes a secret; the secrets."""
    used: set[str] = set()

    def taken(*found: object) -> None:
        assert all(isinstance(one, str) and one for one in found), found
        used.update(map(str, found))

    with administration(dsn) as connection:
        refresh = create_refresh_token(connection, api.users["owner"])
    taken(refresh)
    granted = await api.ask(
        "POST",
        TOKEN,
        {"client_id": "1", "refresh_token": refresh, "grant_type": "refresh_token"},
        who="nobody",
        **NULL,
    )
    taken(granted.body["access_token"], granted.body["refresh_token"])
    registered = await api.ask(
        "POST",
        "/api/oauth/register",
        {"email": "new@example.com", "username": "new", "password": PASSWORD},
        who="nobody",
    )
    assert registered.status < 300, registered
    signed_in = await api.ask(
        "POST",
        TOKEN,
        {"grant_type": "password", "email": "new@example.com", "password": PASSWORD, "client_id": "console"},
        who="nobody",
        **NULL,
    )
    taken(signed_in.body["access_token"], signed_in.body["refresh_token"])
    for scope in ("ingest", "read", "admin"):
        made = await api.ask(
            "POST", f"/v1/buckets/{api.buckets['first']}/keys", {"scope": scope, "name": scope}
        )
        taken(made.body["secret"])
    bucket = await api.ask("POST", "/api/bucket/create_classic", {"name": "fresh"})
    assert bucket.status < 300, bucket
    secret_id = (bucket.body.get("bucket") or bucket.body)["secret_id"]
    taken(secret_id)
    note(secret_id)
    invited = await api.ask(
        "POST", f"/api/bucket/{api.buckets['first']}/add_user", {"email": "guest@example.com"}
    )
    assert invited.status < 300, invited
    forgotten = await api.ask(
        "POST", "/api/oauth/reset_password", {"email": "owner@example.com"}, who="nobody"
    )
    assert forgotten.status < 300, forgotten
    # Secrets in wrong places.
    wrong = new_secret("read")
    taken(wrong)
    await api.ask(
        "GET", f"/api/bucket/{api.buckets['first']}", {"name": "x"}, Authorization=f"Bearer {wrong}"
    )
    return used


def _mailed(folder: Path) -> list[str]:
    texts = [path.read_text() for path in folder.rglob("*.eml")]
    return [
        found
        for text in texts
        for found in re.findall(r"weir_mail_[A-Za-z0-9_-]{43}", text.replace("=\n", ""))
    ]


def _dump(dsn: str) -> str:
    """All rows of all tables, chunks included, in COPY's own text."""
    parts: list[str] = []
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relkind IN ('r', 'm')"
            " AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        ).fetchall()
        for schema, table in tables:
            statement = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema.strip('"'), table))
            with connection.cursor().copy(statement) as copied:
                parts += [bytes(block).decode() for block in copied]
    return "\n".join(parts)
