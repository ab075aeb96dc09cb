"""What a credential may follow: buckets by their public ids, with what must not be shown of them.

Neighbours: ``api.http.authentication`` (what makes a credential stand, and the decision), ``feeds``, which
asks at every subscription and then again and again. An access token that has expired stands here for as long
as its refresh token does: whoever only listens makes no call that would renew it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.http.authentication import RENEWABLE_CREDENTIAL, Credential, granted
from schema.connections import Pool, acquired
from schema.errors import Denied
from schema.identities import Action, looks_like_secret, same_digest, secret_digest

_PUBLIC_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
# A row for each public id that was asked for, or one without a bucket; none if the credential does not stand.
# $3: public ids, $4: topic. A fence of another epoch says nothing about the offsets of the present log.
_RESOLVE = f"""
{RENEWABLE_CREDENTIAL}
SELECT credential.*, coalesce(users.superuser, false) AS superuser, asked.public_id,
    buckets.bucket_id, buckets.bucket_key, buckets.retention_days,
    bucket_members.role AS bucket_role, workspace_members.role AS workspace_role,
    (extract(epoch FROM now()) * 1000000)::bigint AS now_microseconds,
    fenced.partitions, fenced.offsets
FROM credential
LEFT JOIN users USING (user_id)
LEFT JOIN unnest($3::text[]) AS asked (public_id) ON true
LEFT JOIN buckets ON buckets.public_id = asked.public_id AND buckets.deleted_at IS NULL
LEFT JOIN bucket_members
    ON bucket_members.bucket_id = buckets.bucket_id AND bucket_members.user_id = credential.user_id
LEFT JOIN workspace_members
    ON workspace_members.workspace_id = buckets.workspace_id AND workspace_members.user_id = users.user_id
LEFT JOIN LATERAL (
    SELECT array_agg(fences.partition) AS partitions, array_agg(fences.fence_offset) AS offsets
    FROM fences LEFT JOIN partition_offsets AS stands USING (topic, partition)
    WHERE fences.bucket_id = buckets.bucket_id AND fences.topic = $4
        AND fences.epoch = coalesce(stands.epoch, 1)
) AS fenced ON true
"""


@dataclass(frozen=True, slots=True)
class Followed:
    """A bucket that may be followed.

    ``visible_from``: microseconds since 1970; what is older is past the bucket's retention. ``fences``:
    partition → offset; what lies before it was deleted.
    """

    bucket_id: bytes
    visible_from: int
    fences: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a credential that stands may do here.

    ``caller``: whose connections count together: the user's, or those of a key that belongs to no user.
    ``followed``: by public id; a bucket that is not there looks like a foreign one, and is missing.
    """

    caller: str
    followed: Mapping[str, Followed]


class RightsQuery:
    """Asks the database."""

    def __init__(self, pool: Pool, topic: str, acquire_seconds: float) -> None:
        self._pool = pool
        self._topic = topic
        self._acquire_seconds = acquire_seconds

    async def of(self, credential: Credential, public_ids: Sequence[str]) -> Rights:
        """Which of the buckets ``public_ids`` may be read.

        Raises Denied (401) when the credential does not stand, Unavailable.
        """
        rows: list[Mapping[str, Any]] = []
        if looks_like_secret(credential.secret):
            digest = secret_digest(credential.secret)
            asked = [public_id for public_id in public_ids if _PUBLIC_ID.fullmatch(public_id)]
            async with acquired(self._pool, self._acquire_seconds) as connection:
                found = await connection.fetch(_RESOLVE, digest, credential.is_key, asked, self._topic)
            rows = [dict(row) for row in found if same_digest(row["secret_sha256"], digest)]
        if not rows:
            raise Denied("the access token or API key is unknown or revoked", status=401)
        caller = rows[0]["user_id"] or secret_digest(credential.secret).hex()
        return Rights(caller, followed(rows))


def followed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Followed]:
    """The decision over rows of the query above, by public id. Pure."""
    found = {}
    for row in rows:
        if row["bucket_id"] is None:
            continue
        try:
            access = granted(row, row["bucket_id"], Action.READ)
        except Denied:
            continue
        fences = dict(zip(row["partitions"] or (), row["offsets"] or (), strict=True))
        found[row["public_id"]] = Followed(bytes.fromhex(row["bucket_id"]), access.visible_from, fences)
    return found
