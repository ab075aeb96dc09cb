"""Buckets: made, listed, changed; what a caller may see of one, as rows.

Neighbours: ``surfaces.buckets`` gives rows their form; ``members`` and ``billing`` change who and what
belongs to a bucket; ``deletion`` ends one. Guarantee: every statement about one bucket carries its id and
sees no deleted one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import asyncpg

from api.tenancy.plans import Plans, Standing, check_buckets
from api.tenancy.secrecy import Secrecy
from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied
from schema.identities import new_bucket_id, secret_digest
from schema.settings import Plan

_SECRET_ID_BYTES = 16

# $1: user id (null: a key of a bucket). What that user is to a bucket comes with it.
_SELECT = """
SELECT buckets.bucket_id, buckets.workspace_id, buckets.name, comment, app_url,
    configuration::text AS configuration, public_id, secret_id_encrypted, plan, trial_plan, trial_started_at,
    trial_ends_at, subscription_id, subscribed_at, buckets.created_at, member.role AS bucket_role,
    insider.role AS workspace_role, wishes.options::text AS user_options
FROM buckets
LEFT JOIN bucket_members AS member ON member.bucket_id = buckets.bucket_id AND member.user_id = $1::text
LEFT JOIN workspace_members AS insider
    ON insider.workspace_id = buckets.workspace_id AND insider.user_id = $1::text
LEFT JOIN bucket_user_options AS wishes
    ON wishes.bucket_id = buckets.bucket_id AND wishes.user_id = $1::text
WHERE buckets.deleted_at IS NULL
"""
_ONE = _SELECT + " AND buckets.bucket_id = $2"
_OF_USER = (
    _SELECT  # noqa: S608 - no part of it comes from outside
    + """
    AND buckets.bucket_id = ANY (ARRAY (
        SELECT bucket_id FROM bucket_members WHERE user_id = $1
        UNION
        SELECT bucket_id FROM workspace_members JOIN buckets USING (workspace_id) WHERE user_id = $1
    ))
ORDER BY buckets.created_at, buckets.name, buckets.bucket_id
"""
)
_NEW = """
WITH fresh AS (INSERT INTO bucket_keys (bucket_id) VALUES ($1) RETURNING bucket_key)
INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name, comment, app_url, plan, retention_days,
    secret_id_encrypted, secret_id_sha256)
SELECT $1, bucket_key, $2, $3, $4, $5, $6, $7, $8, $9 FROM fresh
"""
_NEW_OWNER = "INSERT INTO bucket_members (bucket_id, user_id, role) VALUES ($1, $2, 'owner')"
# One at a time for each owner, or two calls at once would both find room for one more.
_LOCK_USER = "SELECT username FROM users WHERE user_id = $1 FOR UPDATE"
_OWNED = """
SELECT count(*) FROM bucket_members JOIN buckets USING (bucket_id)
WHERE user_id = $1 AND role = 'owner' AND deleted_at IS NULL AND coalesce(plan, $2) = $3
"""
_WORKSPACE = """
SELECT workspace_id FROM workspace_members JOIN workspaces USING (workspace_id)
WHERE user_id = $1 AND role IN ('owner', 'admin') AND ($2::text IS NULL OR workspace_id = $2)
ORDER BY role = 'owner' DESC, created_at, workspace_id LIMIT 1
"""
_NEW_WORKSPACE = """
WITH made AS (INSERT INTO workspaces (workspace_id, name) VALUES ($1, $2) RETURNING workspace_id)
INSERT INTO workspace_members (workspace_id, user_id, role) SELECT workspace_id, $3, 'owner' FROM made
"""
_UPDATE = """
UPDATE buckets
SET name = coalesce($2, name), comment = coalesce($3, comment), app_url = coalesce($4, app_url),
    configuration = coalesce($5::jsonb, configuration)
WHERE bucket_id = $1 AND deleted_at IS NULL
"""
_SET_OPTIONS = """
INSERT INTO bucket_user_options (bucket_id, user_id, options) VALUES ($1, $2, $3::jsonb)
ON CONFLICT (bucket_id, user_id) DO UPDATE SET options = excluded.options
"""
_NEW_FEEDBACK = "INSERT INTO bucket_feedback (bucket_id, user_id, feedback) VALUES ($1, $2, $3)"
_KEEP_ENCRYPTED = """
UPDATE buckets SET secret_id_encrypted = $2, secret_id_sha256 = $3
WHERE bucket_id = $1 AND deleted_at IS NULL AND secret_id_sha256 IS NULL
"""
_ENCRYPTED_OF = "SELECT secret_id_encrypted FROM buckets WHERE bucket_id = $1"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and what the user who asks is to it. JSON columns are texts."""

    bucket_id: str
    workspace_id: str
    name: str
    comment: str
    app_url: str
    configuration: str
    public_id: str
    secret_id_encrypted: bytes | None
    plan: str | None
    trial_plan: str | None
    trial_started_at: datetime | None
    trial_ends_at: datetime | None
    subscription_id: str | None
    subscribed_at: datetime | None
    created_at: datetime
    bucket_role: str | None
    workspace_role: str | None
    user_options: str | None

    @property
    def standing(self) -> Standing:
        """Its plan and trial."""
        return Standing(self.plan, self.trial_plan, self.trial_ends_at)


@dataclass(frozen=True, slots=True)
class Description:
    """What a bucket is called. None: as it was."""

    name: str | None = None
    comment: str | None = None
    app_url: str | None = None
    configuration: str | None = None


_BUCKET_COLUMNS = tuple(field.name for field in fields(Bucket))


def bucket_of(row: asyncpg.Record) -> Bucket:
    """A row of ``_SELECT``."""
    return Bucket(*(row[name] for name in _BUCKET_COLUMNS))


async def one_bucket(connection: PooledConnection, bucket_id: str, user_id: str | None) -> Bucket:
    """A bucket as a user sees it. Raises Denied (404) when it is gone."""
    row = await connection.fetchrow(_ONE, user_id, bucket_id)
    if row is None:
        raise gone()
    return bucket_of(row)


def gone() -> Denied:
    """What every call says of a bucket that is not there, or no longer."""
    return Denied("no bucket of this id", status=404)


async def check_room(
    connection: PooledConnection, user_id: str, plan: str, limits: Plan, default: str, *, hold: bool = True
) -> None:
    """Whether a user may own one more bucket on a plan; with ``hold``, until the transaction ends.

    Raises Denied (403).
    """
    if hold:
        await connection.fetchval(_LOCK_USER, user_id)
    check_buckets(limits, await connection.fetchval(_OWNED, user_id, default, plan), plan)


class Buckets:
    """Buckets in the database. ``now``: the moment, for plans and trials."""

    def __init__(
        self,
        pool: Pool,
        plans: Plans,
        secrecy: Secrecy,
        *,
        acquire_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._acquire_seconds = acquire_seconds
        self._secrecy = secrecy
        self.plans = plans
        self.now = now

    async def retrieve(self, bucket_id: str, user_id: str | None) -> Bucket:
        """Raises Denied (404), Unavailable."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            return await one_bucket(connection, bucket_id, user_id)

    async def of_user(self, user_id: str) -> list[Bucket]:
        """The buckets that a user is a member of, by himself or by his workspace; oldest first."""
        async with acquired(self._pool, self._acquire_seconds) as connection:
            return [bucket_of(row) for row in await connection.fetch(_OF_USER, user_id)]

    async def create(self, user_id: str, described: Description, workspace_id: str | None) -> Bucket:
        """A new bucket on the default plan, owned by the user.

        It lies in the workspace that is named, else in the first that the user owns or administers, else in
        a new one. Raises Denied (403: no more buckets, or no right in the workspace), Unavailable.
        """
        bucket_id, default = new_bucket_id(), self.plans.default
        limits = self.plans.named(default)
        encrypted, digest = self._new_secret_id(bucket_id)
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await check_room(connection, user_id, default, limits, default)
            place = await self._workspace(connection, user_id, workspace_id)
            await connection.execute(
                _NEW,
                bucket_id,
                place,
                described.name,
                described.comment or "",
                described.app_url or "",
                default,
                limits.retention_days,
                encrypted,
                digest,
            )
            await connection.execute(_NEW_OWNER, bucket_id, user_id)
            return await one_bucket(connection, bucket_id, user_id)

    async def _workspace(self, connection: PooledConnection, user_id: str, named: str | None) -> str:
        found: str | None = await connection.fetchval(_WORKSPACE, user_id, named)
        if found is not None:
            return found
        if named is not None:
            raise Denied("workspace_id: no workspace of this id that you own or administer")
        made = new_bucket_id()
        username = await connection.fetchval(_LOCK_USER, user_id)
        await connection.execute(_NEW_WORKSPACE, made, username, user_id)
        return made

    async def update(self, bucket_id: str, user_id: str | None, changed: Description) -> Bucket:
        """Change what is given. Raises Denied (404), Unavailable."""
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await connection.execute(
                _UPDATE, bucket_id, changed.name, changed.comment, changed.app_url, changed.configuration
            )
            return await one_bucket(connection, bucket_id, user_id)

    async def set_options(self, bucket_id: str, user_id: str, options: str) -> Bucket:
        """Replace what a user wants of a bucket for himself (a JSON object as text)."""
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            bucket = await one_bucket(connection, bucket_id, user_id)
            await connection.execute(_SET_OPTIONS, bucket.bucket_id, user_id, options)
            return await one_bucket(connection, bucket_id, user_id)

    async def add_feedback(self, bucket_id: str, user_id: str, feedback: str) -> None:
        """Keep what a user has to say. Raises Denied (404), Unavailable."""
        async with acquired(self._pool, self._acquire_seconds) as connection, connection.transaction():
            await one_bucket(connection, bucket_id, user_id)
            await connection.execute(_NEW_FEEDBACK, bucket_id, user_id, feedback)

    async def secret_id(self, bucket: Bucket) -> str | None:
        """A bucket's secret id; one that was made without gets it now.

        None while there is no key to keep it.
        """
        encrypted = bucket.secret_id_encrypted
        if encrypted is None:
            fresh, digest = self._new_secret_id(bucket.bucket_id)
            if fresh is None:
                return None
            async with acquired(self._pool, self._acquire_seconds) as connection:
                # Two who ask at once get the same one: the first that is kept.
                await connection.execute(_KEEP_ENCRYPTED, bucket.bucket_id, fresh, digest)
                encrypted = await connection.fetchval(_ENCRYPTED_OF, bucket.bucket_id)
        return None if encrypted is None else self._secrecy.decrypt(encrypted, bucket.bucket_id)

    def _new_secret_id(self, bucket_id: str) -> tuple[bytes | None, bytes | None]:
        if not self._secrecy.possible:
            return None, None
        # Hexadecimal, since it is given to agents on command lines.
        secret_id = secrets.token_hex(_SECRET_ID_BYTES)
        return self._secrecy.encrypt(secret_id, bucket_id), secret_digest(secret_id)
