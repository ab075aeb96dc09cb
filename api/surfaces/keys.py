"""API keys: ``/v1/buckets/{bucket_id}/keys`` and ``/v1/keys``. docs/accounts.md has the rules.

Neighbours: ``api.tenancy.keys`` does it. Guarantee: only a person's access token comes this far; a key, or a
token that came from one, makes, sees and ends no key. Refusals are RFC 9457 problems.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from api.http.authentication import authorize, identify
from api.surfaces.buckets.access import user_of
from api.surfaces.parameters import Label, Question, asked, whole, whole_schema
from api.surfaces.requests import Inbox, Storable, checked
from api.tenancy import keys
from api.tenancy.attempts import Attempts
from api.tenancy.keys import Holder, KeyStore
from schema.connections import Pool
from schema.events import MAX_LABEL
from schema.identities import Action, Scope
from schema.settings import ApiSettings

BUCKET_KEYS = "/v1/buckets/{bucket_id}/keys"
OWN_KEYS = "/v1/keys"
DEFAULT_KEYS = 100
MAX_KEYS = 1000


class NewKey(BaseModel):
    """What makes a key."""

    model_config = ConfigDict(extra="forbid", strict=True)

    scope: Annotated[Scope, Field(strict=False)] = Field(description="What the key is good for.")
    name: Annotated[str, Field(max_length=MAX_LABEL), Storable] = Field(
        "", description="What people call it."
    )


class KeysQuestion(Question):
    """The query string of a page of keys."""

    limit: Annotated[int, whole(DEFAULT_KEYS, 1, MAX_KEYS), whole_schema(1, MAX_KEYS)] = Field(
        DEFAULT_KEYS, description="Keys at most."
    )
    after: Label = Field(None, description="Where the page begins: `next` of the one before.")


class Key(BaseModel):
    """What may be known of a key after it was made."""

    id: str
    prefix: str = Field(description="How its text begins.")
    name: str
    scope: Scope
    bucket_id: str | None = Field(description="The bucket that it opens; null: a user's key.")
    created_at: datetime
    revoked_at: datetime | None = Field(description="From when on it opens nothing; null: it stands.")


class FreshKey(Key):
    """A key that was made just now."""

    secret: str = Field(description="The key itself. It is shown this once.")


class KeyPage(BaseModel):
    """Keys, oldest first, revoked ones too."""

    keys: list[Key]
    next: str | None = Field(description="Where the next page begins: its `after`; null: this is the last.")


@dataclass(frozen=True, slots=True)
class KeyCalls:
    """The calls. ``attempts``: how many keys one user may make."""

    settings: ApiSettings
    pool: Pool
    inbox: Inbox
    store: KeyStore
    attempts: Attempts

    def add_routes(self, app: web.Application) -> None:
        """Serve the calls: the same three for a bucket's keys and for a user's own."""
        for path in (BUCKET_KEYS, OWN_KEYS):
            app.router.add_post(path, self.create)
            app.router.add_get(path, self.page, allow_head=False)
            app.router.add_delete(f"{path}/{{key_id}}", self.revoke)

    async def create(self, request: web.Request) -> web.Response:
        """``POST``: 201 and the key."""
        holder, user_id = await self._holder(request)
        wanted = checked(NewKey, await self.inbox.object_in(request))
        self.attempts.take(user_id)
        made, secret = await self.store.create(holder, wanted.scope, wanted.name)
        return _answer(FreshKey.model_validate({**_members(made), "secret": secret}), status=201)

    async def page(self, request: web.Request) -> web.Response:
        """``GET``: a page of keys, and where the next one begins."""
        holder, _ = await self._holder(request)
        question = asked(KeysQuestion, request.query)
        found = await self.store.page(holder, question.after, question.limit + 1)
        shown = [_shown(key) for key in found[: question.limit]]
        return _answer(KeyPage(keys=shown, next=shown[-1].id if len(found) > question.limit else None))

    async def revoke(self, request: web.Request) -> web.Response:
        """``DELETE``: 200 and what the key was."""
        holder, _ = await self._holder(request)
        return _answer(_shown(await self.store.revoke(holder, request.match_info["key_id"])))

    async def _holder(self, request: web.Request) -> tuple[Holder, str]:
        """Whose keys are meant, and the id of the user who asks. Raises Denied (401, 403, 404)."""
        seconds = self.settings.database_connect_seconds
        bucket_id = request.match_info.get("bucket_id")
        if bucket_id is None:
            user_id = user_of(await identify(self.pool, request.headers, acquire_seconds=seconds))
            return Holder(user_id=user_id), user_id
        access = await authorize(
            self.pool, request.headers, bucket_id, Action.MANAGE, acquire_seconds=seconds
        )
        return Holder(bucket_id=access.bucket_id), user_of(access.caller)


def _members(key: keys.Key) -> dict[str, object]:
    return {
        "id": key.key_id,
        "prefix": key.prefix,
        "name": key.name,
        "scope": key.scope,
        "bucket_id": key.bucket_id,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _shown(key: keys.Key) -> Key:
    return Key.model_validate(_members(key))


def _answer(body: BaseModel, status: int = 200) -> web.Response:
    """Nobody keeps a copy: a key may be in it."""
    return web.Response(
        body=body.model_dump_json().encode(),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
