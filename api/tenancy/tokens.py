"""Access and refresh tokens: made, renewed, revoked.

An access token lives for minutes and ends with the refresh token, or the API key, that it came from. A client
keeps its refresh token for as long as nobody revokes it and sends the same one again and again; a session
of the console gets another one at each use, and bringing back one that was replaced ends the whole session.
Every refusal is a 400: clients take a 401 here as a reason to ask again at once, for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied
from schema.identities import looks_like_secret, new_bucket_id, new_secret, secret_digest
from schema.settings import ApiSettings

CONSOLE = "weir-console"

_REFRESH = """
SELECT refresh_token_id, user_id, client_id, session_id, replaced_at IS NOT NULL AS replaced
FROM refresh_tokens
WHERE secret_sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
FOR UPDATE
"""
_NEW_REFRESH = """
INSERT INTO refresh_tokens (refresh_token_id, secret_sha256, user_id, client_id, session_id, expires_at)
VALUES ($1, $2, $3, $4, $5, now() + $6::interval)
"""
_REPLACE = "UPDATE refresh_tokens SET replaced_at = now() WHERE refresh_token_id = $1"
_END_SESSION = """
UPDATE refresh_tokens SET revoked_at = now() WHERE session_id = $1 AND revoked_at IS NULL
"""
_NEW_ACCESS = """
INSERT INTO access_tokens (secret_sha256, user_id, refresh_token_id, key_id, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::interval) RETURNING expires_at
"""
# The realtime door takes an expired token while its refresh token stands, so they are kept for a while.
_FORGET_EXPIRED = """
DELETE FROM access_tokens WHERE secret_sha256 IN (
    SELECT secret_sha256 FROM access_tokens WHERE expires_at < now() - INTERVAL '30 days'
    ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED
)
"""
_KEY = """
SELECT key_id FROM api_keys WHERE secret_sha256 = $1 AND (key_id = $2 OR prefix = $2) AND revoked_at IS NULL
"""
# A token that came in by whatever name ends: an access token together with the refresh token behind it.
_REVOKE = """
WITH meant AS (
    SELECT refresh_token_id, session_id FROM refresh_tokens WHERE secret_sha256 = $1
    UNION ALL
    SELECT refresh_token_id, session_id
    FROM access_tokens JOIN refresh_tokens USING (refresh_token_id) WHERE access_tokens.secret_sha256 = $1
), ended AS (
    UPDATE refresh_tokens SET revoked_at = coalesce(revoked_at, now())
    WHERE refresh_token_id IN (SELECT refresh_token_id FROM meant)
        OR session_id IN (SELECT session_id FROM meant WHERE session_id IS NOT NULL)
    RETURNING 1
), ended_alone AS (
    UPDATE access_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE secret_sha256 = $1 RETURNING 1
)
SELECT (SELECT count(*) FROM ended) + (SELECT count(*) FROM ended_alone)
"""
_END_ALL = """
WITH ended AS (UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL)
UPDATE access_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a grant gives. A grant for a key has no refresh token: the key is one."""

    access_token: str
    refresh_token: str | None
    expires_at: datetime


class TokenStore:
    """Tokens in the database."""

    def __init__(self, settings: ApiSettings, pool: Pool) -> None:
        self._pool = pool
        self._acquire_seconds = settings.database_connect_seconds
        self._life = timedelta(seconds=settings.access_token_seconds)
        self._session_life = timedelta(seconds=settings.console_session_seconds)

    async def refreshed(self, refresh_token: str) -> Tokens:
        """The grant ``refresh_token``. Raises Denied (400), Unavailable."""
        unknown = Denied("refresh_token: unknown, expired or revoked; sign in again", status=400)
        if not looks_like_secret(refresh_token):
            raise unknown
        async with acquired(self._pool, self._acquire_seconds) as connection:
            async with connection.transaction():
                row = await connection.fetchrow(_REFRESH, secret_digest(refresh_token))
                if row is None:
                    raise unknown
                if not row["replaced"]:
                    return await self._renewed(connection, refresh_token, dict(row))
                await connection.execute(_END_SESSION, row["session_id"])
            # Committed: the session has ended for whoever holds its newest token, too.
            raise Denied("refresh_token: used before, so its session has ended; sign in again", status=400)

    async def _renewed(
        self, connection: PooledConnection, refresh_token: str, row: dict[str, str | None]
    ) -> Tokens:
        token_id, user_id = row["refresh_token_id"], row["user_id"]
        assert user_id is not None
        if row["session_id"] is not None:
            await connection.execute(_REPLACE, token_id)
            token_id, refresh_token = await self._new_refresh(
                connection, user_id, row["client_id"] or "", row["session_id"]
            )
        access_token, expires_at = await self._new_access(connection, user_id, token_id, None)
        return Tokens(access_token, refresh_token, expires_at)

    async def signed_in(self, connection: PooledConnection, user_id: str, client_id: str) -> Tokens:
        """New tokens for a user who has shown who he is; a session when the client is the console."""
        session_id = new_bucket_id() if client_id == CONSOLE else None
        token_id, refresh_token = await self._new_refresh(connection, user_id, client_id, session_id)
        access_token, expires_at = await self._new_access(connection, user_id, token_id, None)
        return Tokens(access_token, refresh_token, expires_at)

    async def of_key(self, client_id: str, client_secret: str) -> Tokens:
        """The grant ``client_credentials``: an access token that may what the API key may.

        ``client_id``: the key's id or prefix. Raises Denied (400), Unavailable.
        """
        async with acquired(self._pool, self._acquire_seconds) as connection:
            key_id = None
            if looks_like_secret(client_secret):
                key_id = await connection.fetchval(_KEY, secret_digest(client_secret), client_id)
            if key_id is None:
                raise Denied("client_id, client_secret: no API key has this id and this text", status=400)
            access_token, expires_at = await self._new_access(connection, None, None, key_id)
        return Tokens(access_token, None, expires_at)

    async def revoke(self, token: str) -> bool:
        """End a token and what came from it or leads to it; False when there is none. Raises Unavailable."""
        if not looks_like_secret(token):
            return False
        async with acquired(self._pool, self._acquire_seconds) as connection:
            return bool(await connection.fetchval(_REVOKE, secret_digest(token)))

    async def end_all(self, connection: PooledConnection, user_id: str) -> None:
        """End every token of a user: a new password ends what an old one began."""
        await connection.execute(_END_ALL, user_id)

    async def _new_refresh(
        self, connection: PooledConnection, user_id: str, client_id: str, session_id: str | None
    ) -> tuple[str, str]:
        token_id, secret = new_bucket_id(), new_secret("refresh")
        life = self._session_life if session_id is not None else None
        await connection.execute(
            _NEW_REFRESH, token_id, secret_digest(secret), user_id, client_id, session_id, life
        )
        return token_id, secret

    async def _new_access(
        self, connection: PooledConnection, user_id: str | None, refresh_id: str | None, key_id: str | None
    ) -> tuple[str, datetime]:
        secret = new_secret("access")
        expires_at: datetime = await connection.fetchval(
            _NEW_ACCESS, secret_digest(secret), user_id, refresh_id, key_id, self._life
        )
        await connection.execute(_FORGET_EXPIRED)
        return secret, expires_at
