"""Members of a bucket, their roles, invitations and notifications, and who owns it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.surfaces.buckets.access import ONE, Access, json_of, user_of
from api.surfaces.buckets.bodies import (
    Address,
    Notification,
    Promotion,
    Transfer,
    invitations_body,
    members_body,
    notifications_body,
)
from api.surfaces.requests import checked
from api.tenancy.attempts import Attempts
from api.tenancy.members import Members
from schema.errors import Denied
from schema.identities import Action, Role, may


@dataclass(frozen=True, slots=True)
class People:
    """The calls. ``invitations``: how many one user may send."""

    access: Access
    members: Members
    invitations: Attempts

    def add_routes(self, app: web.Application) -> None:
        """Serve the calls."""
        router = app.router
        router.add_get(f"{ONE}/current_role", self.current_role, allow_head=False)
        router.add_get(f"{ONE}/users_authorized", self.users, allow_head=False)
        router.add_post(f"{ONE}/add_user", self.add)
        router.add_delete(f"{ONE}/invitation", self.withdraw)
        router.add_post(f"{ONE}/remove_user", self.remove)
        router.add_post(f"{ONE}/promote_user", self.promote)
        router.add_post(f"{ONE}/manage_notif", self.notify)
        router.add_post(f"{ONE}/transfer_ownership", self.transfer)

    async def current_role(self, request: web.Request) -> web.Response:
        """``GET current_role``: what the caller counts as, by whatever gives him the right."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        return json_of({"role": access.effective_role})

    async def users(self, request: web.Request) -> web.Response:
        """``GET users_authorized``: the bucket's own members."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        return json_of(members_body(await self.members.all(access.bucket_id)))

    async def add(self, request: web.Request) -> web.Response:
        """``POST add_user``: a member at once, or an invitation by mail."""
        access = await self.access.to_bucket(request, Action.MANAGE)
        asked = checked(Address, await self.access.inbox.object_in(request))
        inviter = user_of(access.caller)
        self.invitations.take(inviter)
        link = f"{self.access.url(request)}/api/oauth/register"
        invited = await self.members.add(access.bucket_id, asked.email, inviter, link)
        return json_of(invitations_body(invited))

    async def withdraw(self, request: web.Request) -> web.Response:
        """``DELETE invitation``: ``email`` in the query string, or in the body."""
        access = await self.access.to_bucket(request, Action.MANAGE)
        given = {**request.query, **await self.access.inbox.object_in(request)}
        asked = checked(Address, given)
        return json_of(invitations_body(await self.members.withdraw(access.bucket_id, asked.email)))

    async def remove(self, request: web.Request) -> web.Response:
        """``POST remove_user``."""
        access = await self.access.to_bucket(request, Action.MANAGE)
        asked = checked(Address, await self.access.inbox.object_in(request))
        return json_of(members_body(await self.members.remove(access.bucket_id, asked.email)))

    async def promote(self, request: web.Request) -> web.Response:
        """``POST promote_user``: to admin or to user."""
        access = await self.access.to_bucket(request, Action.MANAGE)
        asked = checked(Promotion, await self.access.inbox.object_in(request))
        changed = await self.members.set_role(access.bucket_id, asked.email, asked.role)
        return json_of(members_body(changed))

    async def notify(self, request: web.Request) -> web.Response:
        """``POST manage_notif``: one's own state, or, with the right to manage, anybody's."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        asked = checked(Notification, await self.access.inbox.object_in(request))
        own = any(
            member.user_id == access.caller.user_id and member.email.lower() == asked.email.lower()
            for member in await self.members.all(access.bucket_id)
        )
        if not own and not may(access.caller, Action.MANAGE, access.bucket_id, access.role):
            raise Denied("only an admin sets the notifications of others")
        changed = await self.members.set_notification(access.bucket_id, asked.email, asked.state)
        return json_of(notifications_body(changed))

    async def transfer(self, request: web.Request) -> web.Response:
        """``POST transfer_ownership``: the old owner becomes admin."""
        access = await self.access.to_bucket(request, Action.OWN)
        asked = checked(Transfer, await self.access.inbox.object_in(request))
        bucket = await self.members.transfer(access.bucket_id, access.caller.user_id, asked.new_owner)
        role = Role.OWNER if access.caller.superuser else Role.ADMIN
        return json_of(await self.access.body_of(request, bucket, role))
