"""What a key may do to a bucket, read from the database: a grant, or the reason why not.

``read_grants`` asks for many at once: one unknown key at the door, or all cached ones when they are
confirmed. The rules themselves are ``schema.identities.may``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from schema.connections import Pool, acquired
from schema.errors import Denied, Invalid
from schema.identities import BUCKET_ID, Action, Caller, Scope, bucket_role, may

_GRANTS = files(__package__).joinpath("grants.sql").read_text()


@dataclass(frozen=True, slots=True)
class Asked:
    """A key, by the SHA-256 of its secret, and the bucket that its request named ('': none)."""

    digest: bytes
    bucket_id: str


@dataclass(frozen=True, slots=True)
class Grant:
    """May write to this bucket, under these limits. ``events_per_second`` None: the gateway's default."""

    bucket_id: str
    bucket: bytes
    retention_days: int | None
    events_per_second: float | None


Outcome = Grant | Denied | Invalid

UNKNOWN_KEY = Denied("X-Api-Key: no such key, or it was revoked; send a valid ingest key", status=401)


async def read_grants(pool: Pool, asked: Sequence[Asked], timeout_seconds: float) -> list[Outcome]:
    """The outcome for each of ``asked``, in that order. Raises Unavailable."""
    outcomes: list[Outcome] = [UNKNOWN_KEY] * len(asked)
    async with acquired(pool, timeout_seconds) as connection, asyncio.timeout(timeout_seconds):
        rows = await connection.fetch(
            _GRANTS, [one.digest for one in asked], [one.bucket_id for one in asked]
        )
    for row in rows:
        index = row["position"] - 1
        outcomes[index] = _outcome(row, asked[index].bucket_id)
    return outcomes


def _outcome(row: asyncpg.Record, named: str) -> Outcome:
    if row["key_bucket_id"] is None and not named:
        return Invalid("X-Weir-Bucket: required with a user's key; name the bucket to write to")
    if row["bucket_id"] is None:
        return Denied("X-Weir-Bucket: no such bucket", status=404)
    if named and named != row["bucket_id"]:
        return Denied("X-Weir-Bucket: the key is of another bucket; leave the header out")
    caller = Caller(row["user_id"], row["superuser"], Scope(row["scope"]), row["key_bucket_id"])
    role = bucket_role(row["bucket_role"], row["workspace_role"])
    if not may(caller, Action.WRITE, row["bucket_id"], role):
        return Denied(
            "X-Api-Key: the key may not write to this bucket; use one with the scope ingest or admin"
        )
    return Grant(
        row["bucket_id"], bytes.fromhex(row["bucket_id"]), row["retention_days"], row["events_per_second"]
    )


def checked_bucket_id(named: str) -> str:
    """The bucket id of a header. Raises Denied (404) when it is none."""
    if named and BUCKET_ID.fullmatch(named) is None:
        raise Denied("X-Weir-Bucket: no such bucket; an id has 24 hexadecimal digits", status=404)
    return named
