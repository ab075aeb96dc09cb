"""Accounts: signing in, registering, resetting a password, showing that an address is one's own.

Neighbours: ``passwords``, ``tokens``, ``outbox``, ``invitations``. Guarantee: who has registered under an
address gets nothing by it (no membership that was meant for it) before he has brought back a secret that
was mailed there; and a reset is answered before anything about its address is looked up.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import asyncpg

from api.tenancy.invitations import accept_all, take_invitation
from api.tenancy.mail import Message
from api.tenancy.outbox import Outbox
from api.tenancy.passwords import Passwords
from api.tenancy.tokens import Tokens, TokenStore
from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied, Invalid
from schema.identities import looks_like_secret, new_bucket_id, new_secret, secret_digest
from schema.settings import ApiSettings

_BY_EMAIL = (
    "SELECT user_id, email, password_hash, email_confirmed_at FROM users WHERE lower(email) = lower($1)"
)
_NEW_USER = """
INSERT INTO users (user_id, email, username, password_hash, email_confirmed_at)
VALUES ($1, $2, $3, $4, CASE WHEN $5::boolean THEN now() END)
ON CONFLICT DO NOTHING RETURNING user_id
"""
_NEW_MAILED = """
INSERT INTO mail_tokens (secret_sha256, user_id, purpose, expires_at)
VALUES ($1, $2, $3, now() + $4::interval)
"""
_USE_MAILED = """
UPDATE mail_tokens SET used_at = now()
WHERE secret_sha256 = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > now()
RETURNING user_id
"""
_FORGET_MAILED = "DELETE FROM mail_tokens WHERE user_id = $1 AND expires_at < now() - INTERVAL '1 day'"
_CONFIRM = """
UPDATE users SET email_confirmed_at = coalesce(email_confirmed_at, now()) WHERE user_id = $1 RETURNING email
"""
_SET_PASSWORD = "UPDATE users SET password_hash = $2 WHERE user_id = $1"  # noqa: S105 - a statement
# Keys of somebody who registered under an address, and never showed that it is his.
_END_KEYS_OF_UNCONFIRMED = """
UPDATE api_keys SET revoked_at = now()
WHERE user_id = $1 AND revoked_at IS NULL
    AND (SELECT email_confirmed_at IS NULL FROM users WHERE users.user_id = $1)
"""
_INVITED = (
    "SELECT email FROM bucket_invitations WHERE secret_sha256 = $1 AND created_at > now() - $2::interval"
)


@dataclass(frozen=True, slots=True)
class User:
    """Who has registered."""

    user_id: str
    email: str
    username: str
    confirmed: bool


class Accounts:
    """Accounts in the database."""

    def __init__(
        self, settings: ApiSettings, pool: Pool, passwords: Passwords, tokens: TokenStore, outbox: Outbox
    ) -> None:
        self._pool = pool
        self._acquire_seconds = settings.database_connect_seconds
        self._passwords = passwords
        self._tokens = tokens
        self._outbox = outbox
        self._open = settings.registration == "open"
        self._mail_token_life = timedelta(seconds=settings.mail_token_seconds)
        self._invitation_life = timedelta(seconds=settings.invitation_seconds)

    async def signed_in(self, email: str, password: str, client_id: str) -> Tokens:
        """The grant ``password``. Raises Denied (400), Overloaded, Unavailable."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            row = await connection.fetchrow(_BY_EMAIL, email)
        # No connection is held meanwhile: this is the slow part.
        if not await self._passwords.fits(password, row["password_hash"] if row else None) or row is None:
            raise Denied("email, password: no account has both", status=400)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            return await self._tokens.signed_in(connection, row["user_id"], client_id)

    async def registered(
        self, email: str, username: str, password: str, invitation: str | None, client_id: str
    ) -> tuple[User, Tokens]:
        """A new user, signed in.

        With an invitation's secret the address is shown to be the user's, and he is a member of every
        bucket that invited it; without one, a mail follows that asks for it to be confirmed. Raises
        Invalid, Denied (403 without an invitation where one is needed; 409 for an address that has an
        account), Overloaded (no place for that mail either), Unavailable.
        """
        if invitation is None and not self._open:
            raise Denied("registration is by invitation here; send the one that was mailed to you")
        invited = False if invitation is None else await self._check_invitation(invitation, email)
        password_hash = await self._passwords.hash(password)
        user_id = new_bucket_id()
        # The mail may be composed only when the user is there for certain, and must find its place then.
        with nullcontext() if invited else self._outbox.place() as put:
            async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
                made = await connection.fetchval(_NEW_USER, user_id, email, username, password_hash, invited)
                if made is None:
                    raise Denied("email: has an account already; sign in, or reset its password", status=409)
                if invited:
                    await accept_all(connection, user_id, email, self._invitation_life)
                tokens = await self._tokens.signed_in(connection, user_id, client_id)
            if put is not None:
                put("confirm", partial(self._confirmation_mail, user_id, email))
        return User(user_id, email, username, invited), tokens

    async def request_reset(self, email: str) -> None:
        """Have a secret mailed to whoever has this address; nothing is sent where nobody has.

        Returns before the address is looked up, so that neither time nor outcome depends on it. Raises
        Overloaded, Unavailable.
        """
        # All that is asked meanwhile: with the database away, a mail would be promised that nobody can write.
        async with acquired(self._pool, self._acquire_seconds) as connection:
            await connection.execute("SELECT")
        self._outbox.put("reset", partial(self._reset_mail, email))

    async def reset(self, token: str, password: str) -> None:
        """Set a new password by a mailed secret; every session ends.

        Where the address had not been confirmed before, the account's own keys end too: whoever made them may
        not be the one whom the secret was mailed to. Raises Invalid, Overloaded, Unavailable.
        """
        if not looks_like_secret(token):
            raise _unknown_token()
        password_hash = await self._passwords.hash(password)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            user_id = await connection.fetchval(_USE_MAILED, secret_digest(token), "reset")
            if user_id is None:
                raise _unknown_token()
            await connection.execute(_SET_PASSWORD, user_id, password_hash)
            await self._tokens.end_all(connection, user_id)
            await connection.execute(_END_KEYS_OF_UNCONFIRMED, user_id)
            await self._confirmed(connection, user_id)

    async def confirm(self, user_id: str, token: str) -> list[str]:
        """Show by a mailed secret (of a confirmation, or of an invitation) that a user's address is his own.

        The user has to be signed in: else whoever registered first under somebody else's address would get
        what that one confirms. Returns the ids of the buckets that this opened. Raises Invalid,
        Unavailable.
        """
        if not looks_like_secret(token):
            raise _unknown_token()
        digest = secret_digest(token)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            whose = await connection.fetchval(_USE_MAILED, digest, "confirm")
            if whose is None:
                invited = await take_invitation(connection, digest, self._invitation_life)
                row = None if invited is None else await connection.fetchrow(_BY_EMAIL, invited)
                whose = None if row is None else row["user_id"]
            if whose != user_id:
                raise _unknown_token()
            return await self._confirmed(connection, user_id)

    async def _confirmed(self, connection: PooledConnection, user_id: str) -> list[str]:
        email = await connection.fetchval(_CONFIRM, user_id)
        return await accept_all(connection, user_id, email, self._invitation_life)

    async def _check_invitation(self, invitation: str, email: str) -> bool:
        invited = None
        if looks_like_secret(invitation):
            async with acquired(self._pool, self._acquire_seconds) as connection:
                invited = await connection.fetchval(
                    _INVITED, secret_digest(invitation), self._invitation_life
                )
        if invited != email.lower():
            raise Invalid("invitation: unknown, over, or of another address")
        return True

    async def _confirmation_mail(self, user_id: str, email: str) -> Message:
        secret = await self._mail_token(user_id, "confirm")
        return Message(
            email,
            "Confirm your address",
            "An account was made with this address. If it was you, send this token to /api/oauth/confirm:\n\n"
            f"{secret}\n\nIf it was not you, do nothing.\n",
        )

    async def _reset_mail(self, email: str) -> Message | None:
        async with acquired(self._pool, self._acquire_seconds) as connection:
            row = await connection.fetchrow(_BY_EMAIL, email)
        if row is None:
            return None
        secret = await self._mail_token(row["user_id"], "reset")
        return Message(
            row["email"],
            "Set a new password",
            "Somebody asked for a new password for your account. If it was you, send this token and the new\n"
            f"password to /api/oauth/reset_password:\n\n{secret}\n\nIf it was not you, do nothing.\n",
        )

    async def _mail_token(self, user_id: str, purpose: str) -> str:
        secret = new_secret("mail")
        async with acquired(self._pool, self._acquire_seconds) as connection:
            await connection.execute(_FORGET_MAILED, user_id)
            try:
                await connection.execute(
                    _NEW_MAILED, secret_digest(secret), user_id, purpose, self._mail_token_life
                )
            except asyncpg.ForeignKeyViolationError:
                raise _unknown_token() from None
        return secret


def _unknown_token() -> Invalid:
    return Invalid("token: unknown, used or over; ask for a new one")
