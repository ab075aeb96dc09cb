"""The bucket itself: made, listed, shown, changed, deleted; its servers; what a user leaves there."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from api.surfaces.answers import await_receipt, json_answer
from api.surfaces.buckets.access import ONE, PREFIX, Access, json_of, user_of
from api.surfaces.buckets.bodies import (
    ChangedBucket,
    Feedback,
    NewBucket,
    Options,
    object_text,
    server_body,
)
from api.surfaces.requests import checked
from api.tenancy.buckets import Description
from api.tenancy.deletion import delete_bucket
from query.execute import Reader
from query.request import Scope
from query.servers import servers_of
from schema.errors import Denied, Invalid
from schema.identities import Action, Caller, Role, bucket_role, may
from schema.identities import Scope as KeyScope
from schema.metrics import ApiMetrics


@dataclass(frozen=True, slots=True)
class Metadata:
    """The calls."""

    access: Access
    reader: Reader
    metrics: ApiMetrics

    def add_routes(self, app: web.Application) -> None:
        """Serve the calls. The list answers with and without a slash: its clients follow no redirect."""
        router = app.router
        router.add_get(PREFIX, self.listing, allow_head=False)
        router.add_get(f"{PREFIX}/", self.listing, allow_head=False)
        router.add_post(f"{PREFIX}/create_classic", self.create)
        router.add_get(ONE, self.retrieve, allow_head=False)
        router.add_put(ONE, self.update)
        router.add_delete(ONE, self.destroy)
        router.add_get(f"{ONE}/meta_servers", self.servers, allow_head=False)
        router.add_put(f"{ONE}/feedback", self.feedback)
        router.add_put(f"{ONE}/user_options", self.options)

    async def listing(self, request: web.Request) -> web.Response:
        """``GET /api/bucket/``: the buckets that the caller is a member of."""
        caller = await self.access.caller(request)
        buckets = self.access.buckets
        if caller.key_bucket_id is not None:
            found = [await buckets.retrieve(caller.key_bucket_id, None)]
        else:
            found = [] if caller.user_id is None else await buckets.of_user(caller.user_id)
        bodies = []
        for bucket in found:
            role = bucket_role(bucket.bucket_role, bucket.workspace_role)
            if may(caller, Action.READ, bucket.bucket_id, role):
                bodies.append(await self.access.body_of(request, bucket, _shown_role(caller, role)))
        if not bodies and caller.scope is KeyScope.INGEST:
            raise Denied("this credential does not allow to read")
        return json_of(bodies)

    async def create(self, request: web.Request) -> web.Response:
        """``POST create_classic``."""
        user_id = user_of(await self.access.caller(request))
        asked = checked(NewBucket, await self.access.inbox.object_in(request))
        described = Description(asked.name, asked.comment, asked.app_url)
        bucket = await self.access.buckets.create(user_id, described, asked.workspace_id)
        return json_of({"bucket": await self.access.body_of(request, bucket, Role.OWNER)})

    async def retrieve(self, request: web.Request) -> web.Response:
        """``GET /api/bucket/:id``."""
        access = await self.access.to_bucket(request, Action.READ)
        bucket = await self.access.buckets.retrieve(access.bucket_id, access.caller.user_id)
        return json_of(await self.access.body_of(request, bucket, access.effective_role))

    async def update(self, request: web.Request) -> web.Response:
        """``PUT /api/bucket/:id``: what is given, at least one of four."""
        access = await self.access.to_bucket(request, Action.MANAGE)
        asked = checked(ChangedBucket, await self.access.inbox.object_in(request))
        configuration = None
        if asked.configuration is not None:
            configuration = object_text(asked.configuration, "configuration")
        changed = Description(asked.name, asked.comment, asked.app_url, configuration)
        if changed == Description():
            raise Invalid("body: give at least one of name, comment, app_url, configuration")
        bucket = await self.access.buckets.update(access.bucket_id, access.caller.user_id, changed)
        return json_of(await self.access.body_of(request, bucket, access.effective_role))

    async def destroy(self, request: web.Request) -> web.Response:
        """``DELETE /api/bucket/:id``: answers what the bucket was."""
        access = await self.access.to_bucket(request, Action.OWN)
        bucket = await self.access.buckets.retrieve(access.bucket_id, access.caller.user_id)
        body = await self.access.body_of(request, bucket, access.effective_role)
        await delete_bucket(
            self.access.pool,
            access.bucket_id,
            acquire_seconds=self.access.settings.database_connect_seconds,
        )
        return json_of(body)

    async def servers(self, request: web.Request) -> web.Response:
        """``GET meta_servers``: one entry a server that sent events or reports."""
        access = await self.access.to_bucket(request, Action.READ)
        await await_receipt(request.headers, self.reader, self.access.settings, self.metrics)
        scope = Scope((access.bucket_key,), access.visible_from)
        with self.metrics.query_seconds.labels("servers").time():
            async with self.reader.wide():
                found = await self.reader.in_snapshot(
                    lambda connection: servers_of(connection, scope, access.bucket_id)
                )
        answer = json_answer(
            [server_body(server) for server in found.servers],
            left_out=found.left_out,
            cut=None if found.complete else "servers",
        )
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def feedback(self, request: web.Request) -> web.Response:
        """``PUT feedback``."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        asked = checked(Feedback, await self.access.inbox.object_in(request))
        await self.access.buckets.add_feedback(access.bucket_id, user_of(access.caller), asked.feedback)
        return json_of({"feedback": asked.feedback})

    async def options(self, request: web.Request) -> web.Response:
        """``PUT user_options``: the caller's own."""
        access = await self.access.to_bucket(request, Action.SEE_MEMBERS)
        asked = checked(Options, await self.access.inbox.object_in(request))
        text = object_text(asked.options, "options")
        bucket = await self.access.buckets.set_options(access.bucket_id, user_of(access.caller), text)
        return json_of({"bucket": await self.access.body_of(request, bucket, access.effective_role)})


def _shown_role(caller: Caller, role: Role | None) -> Role | None:
    if caller.scope is not None:
        return None
    return Role.OWNER if caller.superuser else role
