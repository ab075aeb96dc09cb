"""What is written about devices and nodes beyond what they send: registrations, and retirements.

On the primary database, by the query API: the gateway writes to Kafka alone, and a registration has to be
there when its call returns. Neighbour: ``api.surfaces.registrations``. Reading is ``query.devices``' part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from schema.connections import Pool, acquired
from schema.errors import Invalid

# xmax is 0 in a row that was not there before.
_REGISTER = """
INSERT INTO devices AS kept (bucket_id, device, name, attributes) VALUES ($1, $2, $3, $4::text::jsonb)
ON CONFLICT (bucket_id, device) DO UPDATE
SET name = excluded.name, attributes = excluded.attributes, updated_at = now()
RETURNING registered_at, updated_at, xmax = 0 AS fresh
"""
# $1: bucket id, $2: host, $3: ip or null. A node whose clock is ahead of ours has reported "later" than now:
# its retirement comes after all that it has sent so far. One that is retired already stays as it is.
_RETIRE = """
WITH RECURSIVE nodes AS (
    (SELECT ip, host FROM node_reports WHERE bucket_id = $1 ORDER BY ip, host LIMIT 1)
    UNION ALL
    SELECT following.ip, following.host
    FROM nodes
    CROSS JOIN LATERAL (
        SELECT ip, host FROM node_reports
        WHERE bucket_id = $1 AND (ip, host) > (nodes.ip, nodes.host) ORDER BY ip, host LIMIT 1
    ) AS following
), standing AS (
    SELECT nodes.ip, nodes.host, latest.observed_at, (
        SELECT max(retired_at) FROM node_retirements
        WHERE bucket_id = $1 AND ip = nodes.ip AND host = nodes.host AND retired_at >= latest.observed_at
    ) AS retired_at
    FROM nodes
    CROSS JOIN LATERAL (
        SELECT observed_at FROM node_reports
        WHERE bucket_id = $1 AND ip = nodes.ip AND host = nodes.host ORDER BY observed_at DESC LIMIT 1
    ) AS latest
    WHERE nodes.host = $2 AND nodes.ip = coalesce($3::text, nodes.ip)
), fresh AS (
    INSERT INTO node_retirements (bucket_id, ip, host, retired_at)
    SELECT $1, ip, host, greatest(now(), observed_at) FROM standing WHERE retired_at IS NULL
    ON CONFLICT DO NOTHING
    RETURNING ip, host, retired_at
)
SELECT ip, host, retired_at FROM standing WHERE retired_at IS NOT NULL
UNION ALL
SELECT ip, host, retired_at FROM fresh
ORDER BY ip
"""


@dataclass(frozen=True, slots=True)
class Registration:
    """What the database made of a registration. ``fresh``: there was none before."""

    registered_at: datetime
    updated_at: datetime
    fresh: bool


@dataclass(frozen=True, slots=True)
class RetiredNode:
    """A node that is out of the statistics from ``retired_at`` until it reports again."""

    ip: str
    host: str
    retired_at: datetime


async def register_device(
    pool: Pool, bucket_id: str, device: str, name: str, attributes: str, *, acquire_seconds: float
) -> Registration:
    """Register a device, or replace what is registered of it. ``attributes``: an object's JSON text.

    Raises Invalid for what the database cannot keep, Unavailable.
    """
    try:
        async with acquired(pool, acquire_seconds) as connection:
            row = await connection.fetchrow(_REGISTER, bucket_id, device, name, attributes)
    except asyncpg.DataError as error:
        raise Invalid(f"attributes: the database cannot keep this ({error})") from error
    assert row is not None
    return Registration(row["registered_at"], row["updated_at"], row["fresh"])


async def retire_nodes(
    pool: Pool, bucket_id: str, host: str, ip: str | None, *, acquire_seconds: float
) -> list[RetiredNode]:
    """Retire the nodes of a host (of one ip, or all); empty: there is none. Raises Unavailable."""
    async with acquired(pool, acquire_seconds) as connection:
        rows = await connection.fetch(_RETIRE, bucket_id, host, ip)
    return [RetiredNode(row["ip"], row["host"], row["retired_at"]) for row in rows]
