"""Workspaces, users, buckets, keys and tokens, made and ended by an administrator's hand.

Neighbours: the `weir` command and the tests call this; the query API's own calls come to the same tables by
asyncpg. Identities and their secrets' form come from `schema.identities`, the tables from the migrations.
Guarantee: a secret leaves this module once, as the return value of what made it; the database holds its
SHA-256. Every function is one statement or part of the caller's transaction, so that a first run is whole or
not there.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import class_row

from schema.errors import NO_DSN, Invalid, Unavailable
from schema.identities import (
    BUCKET_ID,
    Role,
    Scope,
    looks_like_secret,
    new_bucket_id,
    new_secret,
    secret_digest,
    secret_prefix,
)

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 10
FIRST_EMAIL = "owner@weir.localhost"
FIRST_NAME = "first"

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key after it was made. `bucket_id` or `user_id` is whose it is."""

    key_id: str
    prefix: str
    name: str
    scope: str
    bucket_id: str | None
    user_id: str | None
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class FirstRun:
    """Who and what a new installation begins with, secrets included."""

    workspace_id: str
    user_id: str
    email: str
    refresh_token: str
    bucket_id: str
    ingest_key: str
    read_key: str


@contextmanager
def administration(dsn: str) -> Iterator[Connection]:
    """A connection with the rights of the tables' owner, and one transaction around what is done with it.

    Raises:
        Unavailable: the database cannot be reached, refuses, was never migrated, or takes longer than
            STATEMENT_SECONDS.
    """
    try:
        with psycopg.connect(with_duty(dsn), connect_timeout=CONNECT_SECONDS) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise Unavailable(f"database: {' '.join(str(error).split())}") from error
    except psycopg.errors.UndefinedTable as error:
        raise Unavailable("database: not migrated yet; weir migrate does that") from error


def with_duty(dsn: str) -> str:
    """The DSN with the startup parameters of an administrator: the role that owns the tables, and a bound on
    statements. The query API's own role can make no superuser.

    Raises:
        Invalid: it is no DSN.
    """
    options = f"-c role=weir_maintenance -c statement_timeout={STATEMENT_SECONDS}s"
    try:
        given = conninfo_to_dict(dsn).get("options")
    except psycopg.ProgrammingError:
        raise Invalid(NO_DSN) from None
    return make_conninfo(dsn, options=f"{given} {options}" if given else options)


def create_workspace(connection: Connection, name: str) -> str:
    """Make a workspace; returns its id."""
    workspace_id = new_id()
    connection.execute("INSERT INTO workspaces (workspace_id, name) VALUES (%s, %s)", (workspace_id, name))
    return workspace_id


def create_user(
    connection: Connection,
    email: str,
    *,
    username: str | None = None,
    superuser: bool = False,
    password_hash: str | None = None,
) -> str:
    """Make a user, whose address is taken for his own on the administrator's word; returns the id.

    Raises:
        Invalid: the address is somebody's already, in whatever case.
    """
    user_id = new_id()
    try:
        with connection.transaction():
            connection.execute(
                "INSERT INTO users (user_id, email, username, superuser, password_hash, email_confirmed_at)"
                " VALUES (%s, %s, %s, %s, %s, now())",
                (user_id, email, username or email.partition("@")[0], superuser, password_hash),
            )
    except psycopg.errors.UniqueViolation:
        raise Invalid(f"{email} is the address of a user already") from None
    return user_id


def add_workspace_member(connection: Connection, workspace_id: str, user_id: str, role: str) -> None:
    """Give a user a role in a workspace (`owner`, `admin` or `member`), in place of the one held before."""
    connection.execute(
        "INSERT INTO workspace_members (workspace_id, user_id, role) VALUES (%s, %s, %s)"
        " ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role",
        (workspace_id, user_id, role),
    )


def create_bucket(
    connection: Connection,
    workspace_id: str,
    name: str,
    *,
    owner_id: str,
    retention_days: int | None = None,
) -> str:
    """Make a bucket with its first key for rows and its owner; returns its id (24 hex digits)."""
    bucket_id = new_bucket_id()
    connection.execute(
        "WITH fresh AS (INSERT INTO bucket_keys (bucket_id) VALUES (%(bucket)s) RETURNING bucket_key)"
        " INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name, retention_days)"
        " SELECT %(bucket)s, bucket_key, %(workspace)s, %(name)s, %(retention)s FROM fresh",
        {"bucket": bucket_id, "workspace": workspace_id, "name": name, "retention": retention_days},
    )
    connection.execute(
        "INSERT INTO bucket_members (bucket_id, user_id, role) VALUES (%s, %s, %s)",
        (bucket_id, owner_id, Role.OWNER.value),
    )
    return bucket_id


def create_api_key(
    connection: Connection, bucket_id: str, scope: Scope, *, name: str = ""
) -> tuple[str, str]:
    """Make a key of a bucket; returns its id and the key itself, which nobody will ever see again.

    Raises:
        Invalid: there is no such bucket.
    """
    if not BUCKET_ID.fullmatch(bucket_id) or not _exists(connection, bucket_id):
        raise Invalid(f"there is no bucket {bucket_id}")
    key_id, secret = new_id(), new_secret(scope.value)
    connection.execute(
        "INSERT INTO api_keys (key_id, prefix, secret_sha256, name, scope, bucket_id)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (key_id, secret_prefix(secret), secret_digest(secret), name, scope.value, bucket_id),
    )
    return key_id, secret


def list_api_keys(
    connection: Connection, *, bucket_id: str | None = None, revoked: bool = False
) -> list[ApiKey]:
    """The keys of a bucket, or all of them; oldest first, the revoked ones only when asked for."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        cursor.execute(
            "SELECT key_id, prefix, name, scope, bucket_id, user_id, created_at, revoked_at FROM api_keys"
            " WHERE (%(bucket)s::text IS NULL OR bucket_id = %(bucket)s)"
            " AND (%(revoked)s OR revoked_at IS NULL)"
            " ORDER BY created_at, key_id",
            {"bucket": bucket_id, "revoked": revoked},
        )
        return cursor.fetchall()


def revoke_api_key(connection: Connection, reference: str) -> str:
    """Revoke the key of this id, prefix, or full text; returns its id. A revoked one stays as it is.

    Raises:
        Invalid: no key is meant, or several.
    """
    digest = secret_digest(reference) if looks_like_secret(reference) else b""
    rows = connection.execute(
        "SELECT key_id FROM api_keys WHERE key_id = %s OR prefix = %s OR secret_sha256 = %s",
        (reference, reference, digest),
    ).fetchall()
    if len(rows) != 1:
        raise Invalid(
            "no key has that id or prefix" if not rows else "several keys have that prefix: give the id"
        )
    key_id = str(rows[0][0])
    connection.execute(
        "UPDATE api_keys SET revoked_at = now() WHERE key_id = %s AND revoked_at IS NULL", (key_id,)
    )
    return key_id


def create_refresh_token(connection: Connection, user_id: str) -> str:
    """Make a refresh token of a user, good until it is revoked."""
    secret = new_secret("refresh")
    connection.execute(
        "INSERT INTO refresh_tokens (refresh_token_id, secret_sha256, user_id) VALUES (%s, %s, %s)",
        (new_id(), secret_digest(secret), user_id),
    )
    return secret


def create_access_token(
    connection: Connection, user_id: str, *, lifetime: timedelta, refresh_token: str | None = None
) -> str:
    """Make an access token of a user; with a refresh token it ends when that one does, at the latest."""
    secret = new_secret("access")
    connection.execute(
        "INSERT INTO access_tokens (secret_sha256, user_id, refresh_token_id, expires_at)"
        " VALUES (%s, %s,"
        " (SELECT refresh_token_id FROM refresh_tokens WHERE secret_sha256 = %s), now() + %s)",
        (secret_digest(secret), user_id, secret_digest(refresh_token) if refresh_token else None, lifetime),
    )
    return secret


def revoke_access_tokens(connection: Connection, refresh_token: str) -> int:
    """Revoke every access token that came from a refresh token, which itself stays good; returns how many."""
    return connection.execute(
        "UPDATE access_tokens SET revoked_at = now() WHERE revoked_at IS NULL AND refresh_token_id ="
        " (SELECT refresh_token_id FROM refresh_tokens WHERE secret_sha256 = %s)",
        (secret_digest(refresh_token),),
    ).rowcount


def first_run(connection: Connection, kept: FirstRun | None = None, *, key_name: str) -> FirstRun:
    """A workspace, a user, a bucket and keys to begin with: those kept from the last time, if they still
    stand.

    Called again it makes nothing twice. Of what the database no longer holds (it is another one, a key was
    revoked) the keys and the refresh token are made anew; former keys of that name are revoked, since their
    text is lost.
    """
    if kept is not None and _stands(connection, kept):
        return kept
    user_id = _first(connection, "SELECT user_id FROM users WHERE lower(email) = %s", FIRST_EMAIL)
    if user_id is None:
        user_id = create_user(connection, FIRST_EMAIL)
    workspace_id = _first(
        connection,
        "SELECT workspace_id FROM workspace_members WHERE user_id = %s AND role = 'owner' LIMIT 1",
        user_id,
    )
    if workspace_id is None:
        workspace_id = create_workspace(connection, FIRST_NAME)
        add_workspace_member(connection, workspace_id, user_id, "owner")
    bucket_id = _first(
        connection,
        "SELECT bucket_id FROM buckets JOIN bucket_members USING (bucket_id)"
        " WHERE user_id = %s AND role = 'owner' AND deleted_at IS NULL"
        " ORDER BY created_at, bucket_id LIMIT 1",
        user_id,
    )
    if bucket_id is None:
        bucket_id = create_bucket(connection, workspace_id, FIRST_NAME, owner_id=user_id)
    connection.execute(
        "UPDATE api_keys SET revoked_at = now() WHERE bucket_id = %s AND name = %s AND revoked_at IS NULL",
        (bucket_id, key_name),
    )
    return FirstRun(
        workspace_id=workspace_id,
        user_id=user_id,
        email=FIRST_EMAIL,
        refresh_token=create_refresh_token(connection, user_id),
        bucket_id=bucket_id,
        ingest_key=create_api_key(connection, bucket_id, Scope.INGEST, name=key_name)[1],
        read_key=create_api_key(connection, bucket_id, Scope.READ, name=key_name)[1],
    )


def new_id() -> str:
    """24 hex digits: the form of every id of ours."""
    return secrets.token_hex(12)


def _first(connection: Connection, query: psycopg.abc.QueryNoTemplate, value: str) -> str | None:
    row = connection.execute(query, (value,)).fetchone()
    return None if row is None else str(row[0])


def _exists(connection: Connection, bucket_id: str) -> bool:
    return (
        _first(connection, "SELECT 1 FROM buckets WHERE bucket_id = %s AND deleted_at IS NULL", bucket_id)
        is not None
    )


def _stands(connection: Connection, kept: FirstRun) -> bool:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND bucket_id = %(bucket)s"
        " AND secret_sha256 IN (%(ingest)s, %(read)s)) = 2"
        " AND EXISTS (SELECT FROM buckets WHERE bucket_id = %(bucket)s AND deleted_at IS NULL)"
        " AND EXISTS (SELECT FROM refresh_tokens WHERE revoked_at IS NULL AND secret_sha256 = %(refresh)s"
        " AND user_id = %(user)s)",
        {
            "bucket": kept.bucket_id,
            "user": kept.user_id,
            "ingest": secret_digest(kept.ingest_key),
            "read": secret_digest(kept.read_key),
            "refresh": secret_digest(kept.refresh_token),
        },
    ).fetchone()
    return row is not None and row[0] is True
