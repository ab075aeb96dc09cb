"""API keys as people make them: of a bucket, or of their own. Made, listed, revoked.

Neighbours: ``surfaces.keys`` has asked already whether the caller may; ``administration`` does the same by an
operator's hand. Guarantee: a key's text leaves this module once, as part of what ``create`` returns; every
statement names the holder, so that nobody reaches another's key by its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from schema.connections import Pool, acquired
from schema.errors import Denied, Invalid
from schema.identities import (
    BUCKET_ID,
    Scope,
    new_bucket_id,
    new_secret,
    secret_digest,
    secret_prefix,
)

# Keys of one holder that are not revoked.
MAX_STANDING = 100

# One at a time for each holder, or two calls at once would both find room for one more.
_LOCK_BUCKET = "SELECT 1 FROM buckets WHERE bucket_id = $1 AND deleted_at IS NULL FOR UPDATE"
_LOCK_USER = "SELECT 1 FROM users WHERE user_id = $1 FOR UPDATE"
# Everywhere below: $1: bucket id, $2: user id. One of them is null, and nothing equals null.
_STANDING = "SELECT count(*) FROM api_keys WHERE (bucket_id = $1 OR user_id = $2) AND revoked_at IS NULL"
_NEW = """
INSERT INTO api_keys (bucket_id, user_id, key_id, prefix, secret_sha256, name, scope)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING key_id, prefix, name, scope, bucket_id, created_at, revoked_at
"""
_PLACE = "SELECT created_at FROM api_keys WHERE (bucket_id = $1 OR user_id = $2) AND key_id = $3"
_PAGE = """
SELECT key_id, prefix, name, scope, bucket_id, created_at, revoked_at FROM api_keys
WHERE (bucket_id = $1 OR user_id = $2)
    AND ($3::timestamptz IS NULL OR (created_at, key_id) > ($3, $4::text))
ORDER BY created_at, key_id LIMIT $5
"""
_REVOKE = """
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE (bucket_id = $1 OR user_id = $2) AND key_id = $3
RETURNING key_id, prefix, name, scope, bucket_id, created_at, revoked_at
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose keys are meant: a bucket's, or a user's. One of both is None."""

    bucket_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What may be known of a key after it was made. ``bucket_id`` None: a user's."""

    key_id: str
    prefix: str
    name: str
    scope: Scope
    bucket_id: str | None
    created_at: datetime
    revoked_at: datetime | None


class KeyStore:
    """API keys in the database."""

    def __init__(self, pool: Pool, *, acquire_seconds: float) -> None:
        self._pool = pool
        self._acquire_seconds = acquire_seconds

    async def create(self, holder: Holder, scope: Scope, name: str) -> tuple[Key, str]:
        """A new key, and its text, which nobody will ever see again.

        Raises Denied (404: the holder is gone), Invalid (as many keys as there may be), Unavailable.
        """
        lock, holder_id = _LOCK_BUCKET, holder.bucket_id
        if holder_id is None:
            lock, holder_id = _LOCK_USER, holder.user_id
        secret = new_secret(scope.value)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            if await connection.fetchval(lock, holder_id) is None:
                raise Denied("no bucket of this id", status=404)
            if await connection.fetchval(_STANDING, holder.bucket_id, holder.user_id) >= MAX_STANDING:
                raise Invalid(f"there are {MAX_STANDING} keys already; revoke those that nobody uses")
            row = await connection.fetchrow(
                _NEW,
                holder.bucket_id,
                holder.user_id,
                new_bucket_id(),
                secret_prefix(secret),
                secret_digest(secret),
                name,
                scope.value,
            )
        assert row is not None
        return _key(row), secret

    async def page(self, holder: Holder, after: str | None, limit: int) -> list[Key]:
        """``limit`` keys at most, revoked ones too, oldest first, behind the key whose id is ``after``.

        Raises Invalid (no key of this holder has that id), Unavailable.
        """
        whose = (holder.bucket_id, holder.user_id)
        async with acquired(self._pool, self._acquire_seconds) as connection:
            place = None
            if after is not None:
                if BUCKET_ID.fullmatch(after):
                    place = await connection.fetchval(_PLACE, *whose, after)
                if place is None:
                    raise Invalid("after: no key of this list has this id")
            return [_key(row) for row in await connection.fetch(_PAGE, *whose, place, after, limit)]

    async def revoke(self, holder: Holder, key_id: str) -> Key:
        """End a key, and the tokens that came from it; one that has ended stays as it is.

        Raises Denied (404: the holder has no such key), Unavailable.
        """
        row = None
        if BUCKET_ID.fullmatch(key_id):
            async with acquired(self._pool, self._acquire_seconds) as connection:
                row = await connection.fetchrow(_REVOKE, holder.bucket_id, holder.user_id, key_id)
        if row is None:
            raise Denied("no key of this id", status=404)
        return _key(row)


def _key(row: asyncpg.Record) -> Key:
    return Key(
        row["key_id"],
        row["prefix"],
        row["name"],
        Scope(row["scope"]),
        row["bucket_id"],
        row["created_at"],
        row["revoked_at"],
    )
