"""Which buckets a caller may read: for surfaces that ask about a device, wherever its events are.

Neighbours: ``authentication`` (one bucket, named by the request), ``schema.identities.may`` (the rules).
Guarantee: what comes out of here is all that a question may see, one entry a bucket; a bucket that the
caller may not read, and one that is not there, look the same: they are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from api.http.authentication import (
    STANDING_CREDENTIAL,
    caller_of,
    required_credential,
    unknown,
    visible_from,
)
from schema.connections import Pool, acquired
from schema.identities import Action, bucket_role, looks_like_secret, may, same_digest, secret_digest

# A row for each combination of rights and retention among the buckets that the caller has to do with, or one
# without buckets; none if the credential does not stand. $1: digest, $2: whether it is a key. ``bucket_id``
# is given where it is the key's own. Buckets are looked up one by one, behind a fence: a caller with few must
# not pay for the superuser, of whom all are read.
_RESOLVE = f"""
{STANDING_CREDENTIAL}, caller AS (
    SELECT credential.*, coalesce(users.superuser, false) AS superuser
    FROM credential LEFT JOIN users USING (user_id)
), near AS (
    SELECT found.* FROM (
        SELECT key_bucket_id AS bucket_id FROM caller
        UNION
        SELECT bucket_id FROM caller JOIN bucket_members USING (user_id)
        UNION
        SELECT bucket_id FROM caller JOIN workspace_members USING (user_id) JOIN buckets USING (workspace_id)
    ) AS ids
    CROSS JOIN LATERAL (SELECT * FROM buckets WHERE buckets.bucket_id = ids.bucket_id OFFSET 0) AS found
    WHERE NOT (SELECT superuser FROM caller)
    UNION ALL
    SELECT buckets.* FROM buckets WHERE (SELECT superuser FROM caller)
)
SELECT caller.*, held.*, (extract(epoch FROM now()) * 1000000)::bigint AS now_microseconds
FROM caller
LEFT JOIN LATERAL (
    SELECT CASE WHEN near.bucket_id = caller.key_bucket_id THEN near.bucket_id END AS bucket_id,
        near.retention_days, bucket_members.role AS bucket_role, workspace_members.role AS workspace_role,
        array_agg(near.bucket_key) AS bucket_keys
    FROM near
    LEFT JOIN bucket_members
        ON bucket_members.bucket_id = near.bucket_id AND bucket_members.user_id = caller.user_id
    LEFT JOIN workspace_members
        ON workspace_members.workspace_id = near.workspace_id AND workspace_members.user_id = caller.user_id
    WHERE near.deleted_at IS NULL
    GROUP BY 1, 2, 3, 4
) AS held ON true
"""


@dataclass(frozen=True, slots=True)
class ReadableBucket:
    """A bucket that the caller may read. ``visible_from``: microseconds since 1970, its retention."""

    bucket_key: int
    visible_from: int


async def readable_buckets(
    pool: Pool, headers: Mapping[str, str], *, acquire_seconds: float
) -> tuple[ReadableBucket, ...]:
    """Every bucket that the caller may read, by key; none is no error here.

    Raises Denied (401) without a credential that stands, Unavailable.
    """
    credential = required_credential(headers)
    rows: Iterable[Mapping[str, Any]] = ()
    if looks_like_secret(credential.secret):
        digest = secret_digest(credential.secret)
        async with acquired(pool, acquire_seconds) as connection:
            found = await connection.fetch(_RESOLVE, digest, credential.is_key)
        rows = [dict(row) for row in found if same_digest(row["secret_sha256"], digest)]
    if not rows:
        raise unknown(credential)
    return readable(rows)


def readable(rows: Iterable[Mapping[str, Any]]) -> tuple[ReadableBucket, ...]:
    """The decision over rows of the query above. Pure."""
    found: list[ReadableBucket] = []
    for row in rows:
        if row["bucket_keys"] is None:
            continue
        role = bucket_role(row["bucket_role"], row["workspace_role"])
        if not may(caller_of(row), Action.READ, row["bucket_id"] or "", role):
            continue
        found += [ReadableBucket(bucket_key, visible_from(row)) for bucket_key in row["bucket_keys"]]
    return tuple(sorted(found, key=lambda bucket: bucket.bucket_key))
