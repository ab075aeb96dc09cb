"""A bucket's plan: the trial, the upgrade, and what is charged."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.surfaces.buckets.access import ONE, Access, json_of
from api.surfaces.buckets.bodies import Upgrade, charge_body, subscription_body
from api.surfaces.requests import checked
from api.tenancy.billing import Billing
from schema.identities import Action


@dataclass(frozen=True, slots=True)
class PlanCalls:
    """The calls."""

    access: Access
    billing: Billing

    def add_routes(self, app: web.Application) -> None:
        """Serve the calls."""
        router = app.router
        router.add_put(f"{ONE}/start_trial", self.start_trial)
        router.add_post(f"{ONE}/upgrade", self.upgrade)
        router.add_get(f"{ONE}/subscription", self.subscription, allow_head=False)
        router.add_get(f"{ONE}/payment/charges", self.charges, allow_head=False)

    async def start_trial(self, request: web.Request) -> web.Response:
        """``PUT start_trial``: once for each bucket."""
        access = await self.access.to_bucket(request, Action.OWN)
        plan, days = await self.billing.start_trial(access.bucket_id)
        return json_of({"duration": f"{days} days", "plan": plan})

    async def upgrade(self, request: web.Request) -> web.Response:
        """``POST upgrade``: to another plan of the settings."""
        access = await self.access.to_bucket(request, Action.OWN)
        asked = checked(Upgrade, await self.access.inbox.object_in(request))
        bucket, subscription = await self.billing.upgrade(
            access.bucket_id, access.caller.user_id, asked.plan, asked.stripe_token, asked.coupon_id
        )
        body = await self.access.body_of(request, bucket, access.effective_role)
        return json_of({"bucket": body, "subscription": subscription_body(subscription)})

    async def subscription(self, request: web.Request) -> web.Response:
        """``GET subscription``."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        return json_of(subscription_body(await self.billing.subscription(access.bucket_id)))

    async def charges(self, request: web.Request) -> web.Response:
        """``GET payment/charges``."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        await self.access.inbox.object_in(request)
        return json_of([charge_body(charge) for charge in await self.billing.charges(access.bucket_id)])
