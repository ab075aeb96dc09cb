"""Invitations: what is kept of them, and what happens when an address turns out to be somebody's.

Every function is part of the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from schema.connections import PooledConnection
from schema.identities import new_secret, secret_digest

_INVITE = """
INSERT INTO bucket_invitations (bucket_id, email, secret_sha256, invited_by) VALUES ($1, lower($2), $3, $4)
ON CONFLICT (bucket_id, email) DO UPDATE
SET secret_sha256 = excluded.secret_sha256, invited_by = excluded.invited_by, created_at = now()
"""
_OPEN = """
SELECT email, role, created_at FROM bucket_invitations
WHERE bucket_id = $1 AND created_at > now() - $2::interval ORDER BY email
"""
_FORGET_OVER = "DELETE FROM bucket_invitations WHERE bucket_id = $1 AND created_at <= now() - $2::interval"
_WITHDRAW = "DELETE FROM bucket_invitations WHERE bucket_id = $1 AND email = lower($2) RETURNING email"
_WITHDRAW_UNSENT = "DELETE FROM bucket_invitations WHERE secret_sha256 = $1"
_TAKE = "SELECT email FROM bucket_invitations WHERE secret_sha256 = $1 AND created_at > now() - $2::interval"
# Of a bucket that is deleted there are none left.
_ACCEPT_ALL = """
WITH taken AS (
    DELETE FROM bucket_invitations WHERE email = lower($2) AND created_at > now() - $3::interval
    RETURNING bucket_id, role
)
INSERT INTO bucket_members (bucket_id, user_id, role) SELECT bucket_id, $1, role FROM taken
ON CONFLICT (bucket_id, user_id) DO NOTHING RETURNING bucket_id
"""


@dataclass(frozen=True, slots=True)
class Invitation:
    """An address that is not a member yet."""

    email: str
    role: str
    created_at: datetime


async def invite(connection: PooledConnection, bucket_id: str, email: str, invited_by: str | None) -> str:
    """Invite an address, again if it was invited before; returns the secret to be mailed there."""
    secret = new_secret("mail")
    await connection.execute(_INVITE, bucket_id, email, secret_digest(secret), invited_by)
    return secret


async def open_invitations(connection: PooledConnection, bucket_id: str, life: timedelta) -> list[Invitation]:
    """The invitations of a bucket that are neither accepted nor over."""
    rows = await connection.fetch(_OPEN, bucket_id, life)
    return [Invitation(row["email"], row["role"], row["created_at"]) for row in rows]


async def forget_over(connection: PooledConnection, bucket_id: str, life: timedelta) -> None:
    """Remove those that nobody answered in time."""
    await connection.execute(_FORGET_OVER, bucket_id, life)


async def withdraw(connection: PooledConnection, bucket_id: str, email: str) -> bool:
    """Take an invitation back; False when there is none."""
    return await connection.fetchval(_WITHDRAW, bucket_id, email) is not None


async def withdraw_unsent(connection: PooledConnection, secret: str) -> None:
    """Take an invitation back whose mail did not leave."""
    await connection.execute(_WITHDRAW_UNSENT, secret_digest(secret))


async def take_invitation(connection: PooledConnection, digest: bytes, life: timedelta) -> str | None:
    """The address that a secret was mailed to; None: no such invitation, or over."""
    email: str | None = await connection.fetchval(_TAKE, digest, life)
    return email


async def accept_all(connection: PooledConnection, user_id: str, email: str, life: timedelta) -> list[str]:
    """Make a user a member of every bucket that invited his address; returns those that he joined."""
    return [row["bucket_id"] for row in await connection.fetch(_ACCEPT_ALL, user_id, email, life)]
