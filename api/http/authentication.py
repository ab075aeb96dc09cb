"""Who is calling, and may they: one query for the credential and the bucket, one pure decision.

A credential is an access token (``Authorization: Bearer …``) or an API key (``X-Api-Key: …``). Clients of
the bucket API send ``Bearer null`` before they have a token: that is no credential. The rules themselves
are ``schema.identities.may``; what comes out of here is the only way to a bucket's internal key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schema.connections import Pool, acquired
from schema.errors import Denied
from schema.identities import (
    BUCKET_ID,
    Action,
    Caller,
    Role,
    Scope,
    bucket_role,
    looks_like_secret,
    may,
    same_digest,
    secret_digest,
)

_DAY_MICROSECONDS = 86_400 * 1_000_000
_NO_TOKEN = frozenset({"", "null", "undefined"})

_NOT_EXPIRED = "token.expires_at > now()"
_NOT_EXPIRED_OR_RENEWABLE = """(
            token.expires_at > now() OR refresh.refresh_token_id IS NOT NULL AND refresh.replaced_at IS NULL
            AND (refresh.expires_at IS NULL OR refresh.expires_at > now())
        )"""
# What makes a credential stand: the one place that says it. $1: digest, $2: whether it is a key.
_STANDING = """
WITH credential AS (
    SELECT token.secret_sha256, coalesce(token.user_id, key.user_id) AS user_id, key.scope,
        key.bucket_id AS key_bucket_id
    FROM access_tokens AS token
    LEFT JOIN refresh_tokens AS refresh USING (refresh_token_id)
    LEFT JOIN api_keys AS key ON key.key_id = token.key_id
    WHERE NOT $2::boolean AND token.secret_sha256 = $1::bytea
        AND token.revoked_at IS NULL AND {life}
        AND refresh.revoked_at IS NULL AND key.revoked_at IS NULL
    UNION ALL
    SELECT secret_sha256, user_id, scope, bucket_id
    FROM api_keys
    WHERE $2::boolean AND secret_sha256 = $1::bytea AND revoked_at IS NULL
)
"""
STANDING_CREDENTIAL = _STANDING.format(life=_NOT_EXPIRED)
# The same where only a call could renew a token: an expired one stands as long as its refresh token would.
RENEWABLE_CREDENTIAL = _STANDING.format(life=_NOT_EXPIRED_OR_RENEWABLE)
# One row if the credential stands, none if it does not. $3: bucket id.
_RESOLVE = f"""
{STANDING_CREDENTIAL}
SELECT credential.*, coalesce(users.superuser, false) AS superuser,
    buckets.bucket_key, buckets.retention_days,
    bucket_members.role AS bucket_role, workspace_members.role AS workspace_role,
    (extract(epoch FROM now()) * 1000000)::bigint AS now_microseconds
FROM credential
LEFT JOIN users USING (user_id)
LEFT JOIN buckets ON buckets.bucket_id = $3::text AND buckets.deleted_at IS NULL
LEFT JOIN bucket_members
    ON bucket_members.bucket_id = buckets.bucket_id AND bucket_members.user_id = credential.user_id
LEFT JOIN workspace_members
    ON workspace_members.workspace_id = buckets.workspace_id AND workspace_members.user_id = users.user_id
"""


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret as it was sent. ``is_key``: an API key, else an access token."""

    secret: str
    is_key: bool


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """A caller's granted access to one bucket.

    ``visible_from``: microseconds since 1970; what is older is past the bucket's retention.
    """

    caller: Caller
    bucket_id: str
    bucket_key: int
    visible_from: int
    # The user's role in the bucket, by its own membership or the workspace's; None: none (a key, a
    # superuser).
    role: Role | None = None

    @property
    def effective_role(self) -> Role | None:
        """What the caller counts as: a superuser as owner; a key has no role."""
        if self.caller.scope is not None:
            return None
        return Role.OWNER if self.caller.superuser else self.role


def credential_of(headers: Mapping[str, str]) -> Credential | None:
    """The credential of a request, the token before the key. Pure."""
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip() not in _NO_TOKEN:
        return Credential(token.strip(), is_key=False)
    key = headers.get("X-Api-Key", "").strip()
    return Credential(key, is_key=True) if key else None


def required_credential(headers: Mapping[str, str]) -> Credential:
    """The same where it has to be there. Raises Denied (401). Pure."""
    credential = credential_of(headers)
    if credential is None:
        raise Denied(
            "no credential; send Authorization: Bearer and an access token, or X-Api-Key", status=401
        )
    return credential


async def authorize(
    pool: Pool, headers: Mapping[str, str], bucket_id: str, action: Action, *, acquire_seconds: float
) -> BucketAccess:
    """The caller's access to ``bucket_id`` for ``action``.

    Raises Denied: 401 without a credential that stands, 404 for a bucket that is not there, 403 without the
    right. Raises Unavailable.
    """
    row = await _resolved(pool, headers, bucket_id, acquire_seconds)
    return granted(row, bucket_id, action)


async def identify(pool: Pool, headers: Mapping[str, str], *, acquire_seconds: float) -> Caller:
    """Who is calling, where no bucket is asked for.

    Raises Denied (401 without a credential that stands), Unavailable.
    """
    return caller_of(await _resolved(pool, headers, "", acquire_seconds))


async def _resolved(
    pool: Pool, headers: Mapping[str, str], bucket_id: str, acquire_seconds: float
) -> Mapping[str, Any]:
    credential = required_credential(headers)
    if not looks_like_secret(credential.secret):
        raise unknown(credential)
    digest = secret_digest(credential.secret)
    # A malformed id may hold what no text of the database can; no bucket has the empty one.
    asked_id = bucket_id if BUCKET_ID.fullmatch(bucket_id) else ""
    async with acquired(pool, acquire_seconds) as connection:
        row = await connection.fetchrow(_RESOLVE, digest, credential.is_key, asked_id)
    if row is None or not same_digest(row["secret_sha256"], digest):
        raise unknown(credential)
    return dict(row)


def granted(row: Mapping[str, Any], bucket_id: str, action: Action) -> BucketAccess:
    """The decision over a row of the query above. Raises Denied (404, 403). Pure."""
    if row["bucket_key"] is None:
        raise Denied("no bucket of this id", status=404)
    caller = caller_of(row)
    role = bucket_role(row["bucket_role"], row["workspace_role"])
    if not may(caller, action, bucket_id, role):
        raise Denied(f"this credential does not allow to {action.value.replace('_', ' ')} in this bucket")
    return BucketAccess(caller, bucket_id, row["bucket_key"], visible_from(row), role)


def caller_of(row: Mapping[str, Any]) -> Caller:
    """Who is calling, by a row with a credential that stands. Pure."""
    return Caller(
        user_id=row["user_id"],
        superuser=row["superuser"],
        scope=None if row["scope"] is None else Scope(row["scope"]),
        key_bucket_id=row["key_bucket_id"],
    )


def visible_from(row: Mapping[str, Any]) -> int:
    """Since when events are within a bucket's retention, in microseconds since 1970. Pure."""
    days = row["retention_days"]
    return 0 if days is None else max(0, row["now_microseconds"] - days * _DAY_MICROSECONDS)


def unknown(credential: Credential) -> Denied:
    """The refusal (401) of a credential that does not stand."""
    what = "API key" if credential.is_key else "access token"
    return Denied(f"the {what} is unknown, expired or revoked", status=401)
