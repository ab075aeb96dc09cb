"""The query API on a socket of a test's own, and callers of every kind, by what they are called with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import orjson
from prometheus_client import CollectorRegistry
from yarl import URL

from api.app import build_app, clients
from api.http.serving import Listening, listening
from api.tenancy.administration import (
    Connection,
    add_workspace_member,
    administration,
    create_access_token,
    create_api_key,
    create_bucket,
    create_refresh_token,
    create_user,
    create_workspace,
    new_id,
    revoke_api_key,
)
from schema.identities import Scope, new_secret, secret_digest, secret_prefix
from schema.settings import ApiSettings

DEAD_KAFKA = "127.0.0.1:9"


@dataclass(slots=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(slots=True)
class Door:
    """``buckets``: by name; ``secrets``: the headers of a caller, by who it is."""

    session: aiohttp.ClientSession
    url: str
    buckets: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: Any = None, *, who: str = "owner", **headers: str
    ) -> Answer:
        """One request; ``path`` goes out as it stands, query string included."""
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        async with self.session.request(
            method,
            URL(self.url + path, encoded=True),
            data=data,
            headers={"Content-Type": "application/json", **self.secrets[who], **headers},
        ) as response:
            raw = await response.read()
            return Answer(response.status, orjson.loads(raw) if raw else None, response.headers)


@asynccontextmanager
async def api_door(dsn: str, **options: Any) -> AsyncIterator[Door]:
    """The door, with the people of ``_people``. Kafka is away unless ``options`` say where it is."""
    async with served(dsn, **options) as door:
        _people(dsn, door)
        yield door


@asynccontextmanager
async def served(dsn: str, **options: Any) -> AsyncIterator[Door]:
    """The door by itself: nobody is known to it but who is in the database already."""
    settings = ApiSettings(
        **{"database_dsn": dsn, "kafka_bootstrap": DEAD_KAFKA, "receipt_seconds": 0.3, **options}
    )
    async with (
        clients(settings) as parts,
        listening(build_app(settings, parts, CollectorRegistry()), Listening("127.0.0.1", 0, 5, 5)) as port,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        yield Door(session, f"http://127.0.0.1:{port}")


def _people(dsn: str, door: Door) -> None:
    """Workspace "ours" with the buckets "first" and "second"; another with "theirs", a stranger's."""
    with administration(dsn) as connection:
        ours, elsewhere = create_workspace(connection, "ours"), create_workspace(connection, "theirs")
        for who in ("owner", "admin", "user", "member", "stranger", "root"):
            door.users[who] = create_user(connection, f"{who}@example.com")
        for bucket, workspace, owner in (
            ("first", ours, "owner"),
            ("second", ours, "owner"),
            ("theirs", elsewhere, "stranger"),
        ):
            door.buckets[bucket] = create_bucket(connection, workspace, bucket, owner_id=door.users[owner])
        for who in ("admin", "user"):
            connection.execute(
                "INSERT INTO bucket_members (bucket_id, user_id, role) VALUES (%s, %s, %s)",
                (door.buckets["first"], door.users[who], who),
            )
        add_workspace_member(connection, ours, door.users["member"], "member")
        connection.execute("UPDATE users SET superuser = true WHERE user_id = %s", (door.users["root"],))
        for who, user in door.users.items():
            door.secrets[who] = _bearer(_token(connection, user))
        for scope in Scope:
            for bucket, bucket_id in door.buckets.items():
                key = create_api_key(connection, bucket_id, scope)[1]
                door.secrets[f"{bucket} {scope} key"] = {"X-Api-Key": key}
            for who in ("owner", "user", "root"):
                door.secrets[f"{who}'s {scope} key"] = {
                    "X-Api-Key": _user_key(connection, door.users[who], scope)
                }
        key_id, key = create_api_key(connection, door.buckets["first"], Scope.ADMIN)
        revoke_api_key(connection, key_id)
        door.secrets["revoked key"] = {"X-Api-Key": key}
        door.secrets["nobody"] = {}
        door.secrets["null"] = _bearer("null")
        door.secrets["garbage"] = _bearer("garbage")
        door.secrets["forged"] = _bearer(new_secret("access"))
        door.secrets["forged key"] = {"X-Api-Key": new_secret("read")}
        door.secrets["expired"] = _bearer(_token(connection, door.users["owner"], timedelta(seconds=-1)))
        refresh_token = create_refresh_token(connection, door.users["owner"])
        ended = create_access_token(
            connection, door.users["owner"], lifetime=timedelta(hours=1), refresh_token=refresh_token
        )
        connection.execute("UPDATE refresh_tokens SET revoked_at = now()")
        door.secrets["ended"] = _bearer(ended)
        door.secrets["key as token"] = _bearer(door.secrets["first admin key"]["X-Api-Key"])
        door.secrets["token as key"] = {"X-Api-Key": door.secrets["owner"]["Authorization"].split()[1]}


# Whom every call answers with 401.
UNAUTHORIZED = (
    *("nobody", "null", "garbage", "forged", "forged key", "revoked key", "expired", "ended"),
    *("key as token", "token as key"),
)


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def _token(connection: Connection, user: str, lifetime: timedelta = timedelta(hours=1)) -> str:
    return create_access_token(connection, user, lifetime=lifetime)


def _user_key(connection: Connection, user: str, scope: Scope) -> str:
    secret = new_secret(scope.value)
    connection.execute(
        "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, user_id) VALUES (%s, %s, %s, %s, %s)",
        (new_id(), secret_prefix(secret), secret_digest(secret), scope.value, user),
    )
    return secret
