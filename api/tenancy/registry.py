"""What there is: users, workspaces and buckets, found, listed and changed by an administrator's hand.

Neighbours: ``administration`` makes them and opens the connection; ``deletion`` knows what a bucket's end
takes. Guarantee: what is named must be there, and mean one thing; else nothing is changed.
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from api.tenancy.administration import Connection
from api.tenancy.deletion import DELETE_BUCKET, LOCK_BUCKET
from schema.errors import Invalid


@dataclass(frozen=True, slots=True)
class ListedUser:
    """What a list shows of a user."""

    user_id: str
    email: str
    username: str
    superuser: bool
    has_password: bool
    confirmed: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedWorkspace:
    """What a list shows of a workspace."""

    workspace_id: str
    name: str
    members: int
    buckets: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedBucket:
    """What a list shows of a bucket. ``owner``: an address."""

    bucket_id: str
    name: str
    workspace: str
    owner: str | None
    plan: str | None
    retention_days: int | None
    created_at: datetime


def list_users(connection: Connection) -> list[ListedUser]:
    """All users, oldest first."""
    with connection.cursor(row_factory=class_row(ListedUser)) as cursor:
        cursor.execute(
            "SELECT user_id, email, username, superuser, password_hash IS NOT NULL AS has_password,"
            " email_confirmed_at IS NOT NULL AS confirmed, created_at FROM users ORDER BY created_at, user_id"
        )
        return cursor.fetchall()


def list_workspaces(connection: Connection) -> list[ListedWorkspace]:
    """All workspaces, oldest first."""
    with connection.cursor(row_factory=class_row(ListedWorkspace)) as cursor:
        cursor.execute(
            "SELECT workspace_id, name, created_at,"
            " (SELECT count(*) FROM workspace_members AS member"
            " WHERE member.workspace_id = workspaces.workspace_id) AS members,"
            " (SELECT count(*) FROM buckets"
            " WHERE buckets.workspace_id = workspaces.workspace_id AND deleted_at IS NULL) AS buckets"
            " FROM workspaces ORDER BY created_at, workspace_id"
        )
        return cursor.fetchall()


def list_buckets(connection: Connection) -> list[ListedBucket]:
    """All buckets that are not deleted, oldest first."""
    with connection.cursor(row_factory=class_row(ListedBucket)) as cursor:
        cursor.execute(
            "SELECT bucket_id, buckets.name, workspaces.name AS workspace, users.email AS owner, plan,"
            " retention_days, buckets.created_at FROM buckets JOIN workspaces USING (workspace_id)"
            " LEFT JOIN bucket_members USING (bucket_id) LEFT JOIN users USING (user_id)"
            " WHERE deleted_at IS NULL AND bucket_members.role IS NOT DISTINCT FROM 'owner'"
            " ORDER BY buckets.created_at, bucket_id"
        )
        return cursor.fetchall()


def find_user(connection: Connection, reference: str) -> str:
    """The id of the user of this id or address. Raises Invalid."""
    return _one(
        connection,
        "SELECT user_id FROM users WHERE user_id = %(reference)s OR lower(email) = lower(%(reference)s)",
        reference,
        "user",
    )


def find_workspace(connection: Connection, reference: str) -> str:
    """The id of the workspace of this id or name. Raises Invalid, for a name of several too."""
    return _one(
        connection,
        "SELECT workspace_id FROM workspaces WHERE workspace_id = %(reference)s OR name = %(reference)s",
        reference,
        "workspace",
    )


def set_superuser(connection: Connection, user_id: str, *, superuser: bool) -> None:
    """Make a user a superuser, or an ordinary one."""
    connection.execute("UPDATE users SET superuser = %s WHERE user_id = %s", (superuser, user_id))


def set_password(connection: Connection, user_id: str, password_hash: str) -> None:
    """Give a user a password; what an old one began ends, in the same transaction."""
    connection.execute("UPDATE users SET password_hash = %s WHERE user_id = %s", (password_hash, user_id))
    connection.execute(
        "UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL", (user_id,)
    )
    connection.execute(
        "UPDATE access_tokens SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL", (user_id,)
    )


def delete_bucket(connection: Connection, bucket_id: str) -> None:
    """End a bucket, as its owner would by the API. Raises Invalid when there is none."""
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(LOCK_BUCKET, [bucket_id])
        if cursor.fetchone() is None:
            raise Invalid(f"there is no bucket {bucket_id}")
        for statement in DELETE_BUCKET:
            cursor.execute(statement, [bucket_id])


def _one(connection: Connection, query: psycopg.abc.QueryNoTemplate, reference: str, what: str) -> str:
    rows = connection.execute(query, {"reference": reference}).fetchall()
    if len(rows) != 1:
        raise Invalid(
            f"there is no {what} {reference}" if not rows else f"several are called {reference}: give an id"
        )
    return str(rows[0][0])
