"""Members of a bucket: their roles, invitations, notifications, and who owns it.

Neighbours: ``surfaces.buckets`` has asked already whether the caller may. Guarantee: each call is one
transaction that holds the bucket's row, so that limits and "exactly one owner" stand when several come at
once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from api.tenancy.buckets import Bucket, Buckets, check_room, gone, one_bucket
from api.tenancy.invitations import (
    Invitation,
    forget_over,
    invite,
    open_invitations,
    withdraw,
    withdraw_unsent,
)
from api.tenancy.mail import Mail, Message
from api.tenancy.payment import Payment
from api.tenancy.plans import check_members
from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied, Invalid, WeirError
from schema.identities import Role

_LOCK = "SELECT 1 FROM buckets WHERE bucket_id = $1 AND deleted_at IS NULL FOR UPDATE"
_MEMBERS = """
SELECT user_id, username, email, role, notification FROM bucket_members JOIN users USING (user_id)
WHERE bucket_id = $1 ORDER BY role = 'owner' DESC, joined_at, lower(email)
"""
_MEMBER = """
SELECT user_id, role FROM bucket_members JOIN users USING (user_id)
WHERE bucket_id = $1 AND lower(email) = lower($2)
"""
# An address that nobody has shown to be his own is not taken for its user's.
_USER = "SELECT user_id FROM users WHERE lower(email) = lower($1) AND email_confirmed_at IS NOT NULL"
_COUNT = """
SELECT (SELECT count(*) FROM bucket_members WHERE bucket_id = $1)
    + (SELECT count(*) FROM bucket_invitations WHERE bucket_id = $1 AND email <> lower($2))
"""
_ADD = """
INSERT INTO bucket_members (bucket_id, user_id, role) VALUES ($1, $2, 'user') ON CONFLICT DO NOTHING
"""
_REMOVE = "DELETE FROM bucket_members WHERE bucket_id = $1 AND user_id = $2"
_FORGET_OPTIONS = "DELETE FROM bucket_user_options WHERE bucket_id = $1 AND user_id = $2"
_SET_ROLE = "UPDATE bucket_members SET role = $3 WHERE bucket_id = $1 AND user_id = $2"
_SET_NOTIFICATION = "UPDATE bucket_members SET notification = $3 WHERE bucket_id = $1 AND user_id = $2"
_OWNER_BECOMES_ADMIN = (
    "UPDATE bucket_members SET role = 'admin' WHERE bucket_id = $1 AND role = 'owner' RETURNING user_id"
)
_MAKE_OWNER = """
INSERT INTO bucket_members (bucket_id, user_id, role) VALUES ($1, $2, 'owner')
ON CONFLICT (bucket_id, user_id) DO UPDATE SET role = 'owner'
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A user in a bucket."""

    user_id: str
    username: str
    email: str
    role: str
    notification: str


class Members:
    """Members in the database."""

    def __init__(
        self,
        pool: Pool,
        buckets: Buckets,
        mail: Mail,
        payment: Payment,
        *,
        invitation_life: timedelta,
        acquire_seconds: float,
    ) -> None:
        self._pool = pool
        self._buckets = buckets
        self._mail = mail
        self._payment = payment
        self._invitation_life = invitation_life
        self._acquire_seconds = acquire_seconds

    async def all(self, bucket_id: str) -> list[Member]:
        """The members of a bucket, in the order in which they came."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            return await _members(connection, bucket_id)

    async def add(self, bucket_id: str, email: str, invited_by: str | None, link: str) -> list[Invitation]:
        """Make a user a member, or invite the address by mail; returns the open invitations.

        ``link``: where the mail says to register. Raises Denied (404, 403 at the plan's limit),
        Unavailable; when the mail does not leave, nobody is invited.
        """
        secret = None
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            bucket = await self._locked(connection, bucket_id)
            await forget_over(connection, bucket_id, self._invitation_life)
            if await connection.fetchrow(_MEMBER, bucket_id, email) is None:
                now = self._buckets.now()
                limits = self._buckets.plans.limits_of(bucket.standing, now)
                check_members(limits, await connection.fetchval(_COUNT, bucket_id, email))
                user_id = await connection.fetchval(_USER, email)
                if user_id is None:
                    secret = await invite(connection, bucket_id, email, invited_by)
                else:
                    await connection.execute(_ADD, bucket_id, user_id)
                    await withdraw(connection, bucket_id, email)
        if secret is not None:
            await self._send_invitation(bucket, email, secret, link)
        async with acquired(self._pool, self._acquire_seconds) as connection:
            return await open_invitations(connection, bucket_id, self._invitation_life)

    async def _send_invitation(self, bucket: Bucket, email: str, secret: str, link: str) -> None:
        # The name is the inviter's text: it stays in the body, on one line, where it can forge no header.
        name = " ".join(bucket.name.split())
        try:
            await self._mail.send(
                Message(
                    email,
                    "You are invited to a bucket",
                    f"You are invited to the bucket “{name}”.\n\nRegister at {link} with this address, and"
                    f" send this invitation along:\n\n{secret}\n\nWho has an account already confirms the"
                    " address with it, at /api/oauth/confirm.\n",
                )
            )
        except WeirError:
            async with acquired(self._pool, self._acquire_seconds) as connection:
                await withdraw_unsent(connection, secret)
            raise

    async def withdraw(self, bucket_id: str, email: str) -> list[Invitation]:
        """Take an invitation back; returns those that are left. Raises Invalid when there is none."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            if not await withdraw(connection, bucket_id, email):
                raise Invalid("email: this address has no invitation")
            return await open_invitations(connection, bucket_id, self._invitation_life)

    async def remove(self, bucket_id: str, email: str) -> list[Member]:
        """Remove a member; returns those that are left. Raises Denied (404, 403 for the owner)."""
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await self._locked(connection, bucket_id)
            user_id = await _ordinary_member(connection, bucket_id, email, "the owner cannot be removed")
            await connection.execute(_REMOVE, bucket_id, user_id)
            await connection.execute(_FORGET_OPTIONS, bucket_id, user_id)
            return await _members(connection, bucket_id)

    async def set_role(self, bucket_id: str, email: str, role: Role) -> list[Member]:
        """Give a member another role. Raises Invalid for `owner`, Denied (404, 403 for the owner)."""
        if role is Role.OWNER:
            raise Invalid("role: nobody is promoted to owner; transfer the bucket instead")
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await self._locked(connection, bucket_id)
            user_id = await _ordinary_member(connection, bucket_id, email, "the owner's role cannot be set")
            await connection.execute(_SET_ROLE, bucket_id, user_id, role.value)
            return await _members(connection, bucket_id)

    async def set_notification(self, bucket_id: str, email: str, state: str) -> list[Member]:
        """Say how a member hears of things. Raises Denied (404)."""
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await self._locked(connection, bucket_id)
            row = await connection.fetchrow(_MEMBER, bucket_id, email)
            if row is None:
                raise _no_member()
            await connection.execute(_SET_NOTIFICATION, bucket_id, row["user_id"], state)
            return await _members(connection, bucket_id)

    async def transfer(self, bucket_id: str, caller_id: str | None, email: str) -> Bucket:
        """Give the bucket to another user; the old owner becomes admin. Returns it as the caller sees it
        then.

        Raises Invalid (he owns it), Denied (404: no such user; 403: a paid plan and no card, or as many
        buckets as his plan allows).
        """
        async with acquired(self._pool, self._acquire_seconds) as connection:
            heir = await connection.fetchval(_USER, email)
            if heir is None:
                raise Denied("new_owner: no user has this address", status=404)
            bucket = await one_bucket(connection, bucket_id, caller_id)
        # Asked of the provider without holding a row; a plan that becomes paid meanwhile has its owner's
        # card.
        may_pay = not self._buckets.plans.is_paid(bucket.plan) or await self._payment.has_card(heir)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            # The plan may have changed since it was looked at: it decides together with the row that is held.
            bucket = await self._locked(connection, bucket_id, caller_id)
            plans = self._buckets.plans
            if plans.is_paid(bucket.plan) and not may_pay:
                raise Denied("the new owner needs an active credit card for this bucket's plan")
            row = await connection.fetchrow(_MEMBER, bucket_id, email)
            if row is not None and row["role"] == Role.OWNER:
                raise Invalid("new_owner: owns this bucket already")
            plan = bucket.plan or plans.default
            limits = plans.limits_of(bucket.standing, self._buckets.now())
            await check_room(connection, heir, plan, limits, plans.default)
            await connection.execute(_OWNER_BECOMES_ADMIN, bucket_id)
            await connection.execute(_MAKE_OWNER, bucket_id, heir)
            await withdraw(connection, bucket_id, email)
            return await one_bucket(connection, bucket_id, caller_id)

    async def _locked(
        self, connection: PooledConnection, bucket_id: str, caller_id: str | None = None
    ) -> Bucket:
        if await connection.fetchval(_LOCK, bucket_id) is None:
            raise gone()
        return await one_bucket(connection, bucket_id, caller_id)


async def _members(connection: PooledConnection, bucket_id: str) -> list[Member]:
    rows = await connection.fetch(_MEMBERS, bucket_id)
    return [
        Member(row["user_id"], row["username"], row["email"], row["role"], row["notification"])
        for row in rows
    ]


async def _ordinary_member(
    connection: PooledConnection, bucket_id: str, email: str, owner_refusal: str
) -> str:
    row = await connection.fetchrow(_MEMBER, bucket_id, email)
    if row is None:
        raise _no_member()
    if row["role"] == Role.OWNER:
        raise Denied(owner_refusal)
    user_id: str = row["user_id"]
    return user_id


def _no_member() -> Denied:
    return Denied("email: no member of this bucket has this address", status=404)
