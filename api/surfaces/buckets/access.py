"""Who is calling, for which bucket, and where this API is: what all calls of buckets begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from api.http.authentication import BucketAccess, authorize, identify
from api.surfaces.buckets.bodies import bucket_body
from api.surfaces.requests import Inbox
from api.tenancy.buckets import Bucket, Buckets
from schema.connections import Pool
from schema.errors import Denied
from schema.identities import Action, Caller, Role
from schema.settings import ApiSettings

PREFIX = "/api/bucket"
ONE = f"{PREFIX}/{{bucket_id}}"


@dataclass(frozen=True, slots=True)
class Access:
    """What every call needs."""

    settings: ApiSettings
    pool: Pool
    inbox: Inbox
    buckets: Buckets

    async def to_bucket(self, request: web.Request, action: Action) -> BucketAccess:
        """The caller's access to the bucket of the path. Raises Denied (401, 403, 404), Unavailable."""
        return await authorize(
            self.pool,
            request.headers,
            request.match_info["bucket_id"],
            action,
            acquire_seconds=self.settings.database_connect_seconds,
        )

    async def caller(self, request: web.Request) -> Caller:
        """Who is calling, where no bucket is named. Raises Denied (401), Unavailable."""
        return await identify(
            self.pool, request.headers, acquire_seconds=self.settings.database_connect_seconds
        )

    async def body_of(self, request: web.Request, bucket: Bucket, role: Role | None) -> dict[str, Any]:
        """A bucket as somebody of this role sees it."""
        secret_id = None
        if role in (Role.OWNER, Role.ADMIN):
            secret_id = await self.buckets.secret_id(bucket)
        plan = self.buckets.plans.name_of(bucket.standing, self.buckets.now())
        return bucket_body(
            bucket,
            plan=plan,
            paid_plan=bucket.plan or self.buckets.plans.default,
            role=role,
            url=self.url(request),
            secret_id=secret_id,
        )

    def url(self, request: web.Request) -> str:
        """Where clients reach this API."""
        return self.settings.public_url.rstrip("/") or f"{request.scheme}://{request.host}"


def user_of(caller: Caller) -> str:
    """The user of a call that no key may make. Raises Denied (403)."""
    if caller.scope is not None or caller.user_id is None:
        raise Denied("only a signed-in user may call this, not a key")
    return caller.user_id


def json_of(value: Any) -> web.Response:
    """200. Nobody keeps a copy: a bucket's secret may be in it."""
    return web.Response(
        body=orjson.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
