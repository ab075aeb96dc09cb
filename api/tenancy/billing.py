"""A bucket's plan: trial, upgrade, subscription, charges. Money itself is behind ``payment``.

Guarantee: a plan's retention is in the bucket's row as soon as the plan is, where every reader finds it; a
trial changes limits of members only, so that its end takes no event away. A bucket is put on plans one after
the other: whoever comes second sees what came of the first, and nobody is charged twice for the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.tenancy.buckets import Bucket, Buckets, check_room, gone, one_bucket
from api.tenancy.payment import Charge, Payment
from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied, Invalid, Overloaded, Unavailable
from schema.tables import LOCK_PLAN

# How often, and after how long, it is tried to come after another change of the same bucket's plan.
_TURNS = 100
_TURN_SECONDS = 0.2
# Held while the provider is asked, when nobody may be kept from the bucket's row.
_TAKE_TURN = "SELECT pg_try_advisory_xact_lock($1, hashtext($2))"
_LOCK = "SELECT 1 FROM buckets WHERE bucket_id = $1 AND deleted_at IS NULL FOR UPDATE"
_MEMBERS = """
SELECT (SELECT count(*) FROM bucket_members WHERE bucket_id = $1)
    + (SELECT count(*) FROM bucket_invitations WHERE bucket_id = $1)
"""
_OWNER = "SELECT user_id FROM bucket_members WHERE bucket_id = $1 AND role = 'owner'"
_START_TRIAL = """
UPDATE buckets SET trial_plan = $2, trial_started_at = $3, trial_ends_at = $4
WHERE bucket_id = $1 AND deleted_at IS NULL AND trial_plan IS NULL
RETURNING 1
"""
_SET_PLAN = """
UPDATE buckets SET plan = $2, retention_days = $3, subscription_id = $4, subscribed_at = $5
WHERE bucket_id = $1
"""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is charged for. ``subscription_id`` None: the plan costs nothing."""

    subscription_id: str | None
    plan: str
    started_at: datetime | None


class Billing:
    """Plans of buckets in the database. ``payment_seconds``: the provider's time to begin a subscription."""

    def __init__(
        self,
        pool: Pool,
        buckets: Buckets,
        payment: Payment,
        *,
        payment_seconds: float,
        acquire_seconds: float,
    ) -> None:
        self._pool = pool
        self._buckets = buckets
        self._payment = payment
        self._payment_seconds = payment_seconds
        self._acquire_seconds = acquire_seconds

    async def start_trial(self, bucket_id: str) -> tuple[str, int]:
        """Begin the one trial that a bucket has; returns the plan and its days. Raises Invalid."""
        offer = self._buckets.plans.trial()
        if offer is None:
            raise Invalid("no plan has a trial here")
        name, plan = offer
        now = self._buckets.now()
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            if await connection.fetchval(_LOCK, bucket_id) is None:
                raise gone()
            bucket = await one_bucket(connection, bucket_id, None)
            if (bucket.plan or self._buckets.plans.default) == name:
                raise Invalid(f"the bucket is on the plan {name} already")
            ends_at = now + timedelta(days=plan.trial_days)
            if await connection.fetchval(_START_TRIAL, bucket_id, name, now, ends_at) is None:
                raise Invalid("the bucket has had its trial")
        return name, plan.trial_days

    async def upgrade(
        self, bucket_id: str, caller_id: str | None, plan: str, card_token: str | None, coupon: str | None
    ) -> tuple[Bucket, Subscription]:
        """Put a bucket on a plan, after whoever is just doing so.

        Raises Invalid (no such plan), Denied (403: no card, no room on it, or on it already), Overloaded (the
        one before takes too long), Unavailable.
        """
        self._buckets.plans.named(plan)
        for turn in range(_TURNS):
            if turn:
                await asyncio.sleep(_TURN_SECONDS)
            async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
                if await connection.fetchval(_TAKE_TURN, LOCK_PLAN, bucket_id):
                    subscription = await self._put_on(connection, bucket_id, plan, card_token, coupon)
                    return await one_bucket(connection, bucket_id, caller_id), subscription
        raise Overloaded("another change of this bucket's plan takes long; try again", retry_after_seconds=5)

    async def _put_on(
        self,
        connection: PooledConnection,
        bucket_id: str,
        plan: str,
        card_token: str | None,
        coupon: str | None,
    ) -> Subscription:
        plans = self._buckets.plans
        # An order that finds no room is refused before the provider is asked, without a row being held: it
        # may take its time.
        await self._check(connection, bucket_id, plan, hold=False)
        subscription_id = None
        if plans.is_paid(plan):
            try:
                async with asyncio.timeout(self._payment_seconds):
                    subscription_id = await self._payment.subscribe(bucket_id, plan, card_token, coupon)
            except TimeoutError as error:
                raise Unavailable("payment: the provider did not answer in time") from error
        subscribed_at = None if subscription_id is None else self._buckets.now()
        await self._check(connection, bucket_id, plan, hold=True)
        retention_days = plans.named(plan).retention_days
        await connection.execute(_SET_PLAN, bucket_id, plan, retention_days, subscription_id, subscribed_at)
        return Subscription(subscription_id, plan, subscribed_at)

    async def _check(self, connection: PooledConnection, bucket_id: str, plan: str, *, hold: bool) -> None:
        """Whether a bucket may go on a plan; with ``hold``, until the transaction ends."""
        if hold and await connection.fetchval(_LOCK, bucket_id) is None:
            raise gone()
        plans = self._buckets.plans
        limits = plans.named(plan)
        bucket = await one_bucket(connection, bucket_id, None)
        if (bucket.plan or plans.default) == plan:
            raise Denied(f"the bucket is on the plan {plan} already")
        members = await connection.fetchval(_MEMBERS, bucket_id)
        if limits.members is not None and members > limits.members:
            raise Denied(f"the plan {plan} allows {limits.members} members, and the bucket has {members}")
        owner_id = await connection.fetchval(_OWNER, bucket_id)
        if owner_id is not None:
            await check_room(connection, owner_id, plan, limits, plans.default, hold=hold)

    async def subscription(self, bucket_id: str) -> Subscription:
        """What is charged for. Raises Denied (404) when nothing is."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            bucket = await one_bucket(connection, bucket_id, None)
        if bucket.subscription_id is None:
            raise Denied("the bucket has no subscription", status=404)
        return Subscription(
            bucket.subscription_id, bucket.plan or self._buckets.plans.default, bucket.subscribed_at
        )

    async def charges(self, bucket_id: str) -> list[Charge]:
        """What was charged. Raises Unavailable."""
        return await self._payment.charges(bucket_id)
