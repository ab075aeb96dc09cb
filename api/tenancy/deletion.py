"""Empty a bucket for good: a new internal key, and fences at the log's end, in one transaction. Or end it.

Neighbours: ``log_ends`` (where the fences go), the writer (drops what lies before a fence, and learns the
new key from the bucket's row), maintenance (purges what a retired key has left). Guarantee: nothing that
was accepted before the call comes back, in rows or in counts; nothing that is sent after it returned
is dropped. A bucket that is deleted as a whole needs no fence at an offset: its row stays behind, marked, and
the writer drops whatever still comes for it, events and node reports, however late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import asyncpg
import stamina

from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied

T = TypeVar("T")
_ATTEMPTS = 5

LOCK_BUCKET = "SELECT bucket_key FROM buckets WHERE bucket_id = $1 AND deleted_at IS NULL FOR UPDATE"
# An epoch grows when the log began anew, and offsets within one. While nobody has noticed that it did, the
# log's end lies below an earlier fence: that one stays, but what was received until now is deleted.
_FENCE = """
INSERT INTO fences (bucket_id, topic, partition, epoch, fence_offset, fenced_at)
SELECT $1, $2, log_end.partition, coalesce(stands.epoch, 1), log_end.end_offset, clock_timestamp()
FROM unnest($3::integer[], $4::bigint[]) AS log_end (partition, end_offset)
LEFT JOIN partition_offsets AS stands ON stands.topic = $2 AND stands.partition = log_end.partition
ORDER BY log_end.partition
ON CONFLICT (bucket_id, topic, partition) DO UPDATE
SET epoch = excluded.epoch, fenced_at = excluded.fenced_at, fence_offset = CASE
    WHEN fences.epoch = excluded.epoch THEN greatest(fences.fence_offset, excluded.fence_offset)
    ELSE excluded.fence_offset END
WHERE fences.epoch <= excluded.epoch
"""
_NEW_KEY = """
WITH fresh AS (
    INSERT INTO bucket_keys (bucket_id) VALUES ($1) RETURNING bucket_key
), moved AS (
    UPDATE buckets SET bucket_key = fresh.bucket_key FROM fresh WHERE buckets.bucket_id = $1
)
UPDATE bucket_keys SET retired_at = now() WHERE bucket_key = $2
"""
# Its key is retired without a successor. The row stays, empty of what anybody could still use.
# In the order in which they run, each with the bucket's id as $1.
_DELETE = """
UPDATE buckets SET deleted_at = now(), secret_id_encrypted = NULL, secret_id_sha256 = NULL,
    subscription_id = NULL, subscribed_at = NULL
WHERE bucket_id = $1
"""
_RETIRE_KEY = """
UPDATE bucket_keys SET retired_at = now()
WHERE bucket_key = (SELECT bucket_key FROM buckets WHERE bucket_id = $1)
"""
DELETE_BUCKET = (
    _DELETE,
    _RETIRE_KEY,
    "DELETE FROM api_keys WHERE bucket_id = $1",
    "DELETE FROM bucket_members WHERE bucket_id = $1",
    "DELETE FROM bucket_invitations WHERE bucket_id = $1",
    "DELETE FROM bucket_user_options WHERE bucket_id = $1",
    "DELETE FROM bucket_feedback WHERE bucket_id = $1",
    "DELETE FROM devices WHERE bucket_id = $1",
    "DELETE FROM node_retirements WHERE bucket_id = $1",
)


async def delete_bucket(pool: Pool, bucket_id: str, *, acquire_seconds: float) -> None:
    """End a bucket: from the commit on nobody sees it, its keys open nothing, and nothing is stored for it.

    Its rows, counts and node reports go in the background (maintenance), as those of an emptied bucket do.
    Raises Denied (404 when it is gone), Unavailable.
    """
    async with acquired(pool, acquire_seconds) as connection, connection.transaction():
        if await connection.fetchval(LOCK_BUCKET, bucket_id) is None:
            raise Denied("no bucket of this id", status=404)
        for statement in DELETE_BUCKET:
            await connection.execute(statement, bucket_id)


async def empty_bucket(
    pool: Pool,
    bucket_id: str,
    topic: str,
    end_offsets: Mapping[int, int],
    count: Callable[[PooledConnection, int], Awaitable[T]],
    *,
    acquire_seconds: float,
) -> T:
    """Delete all events of a bucket; return what ``count`` says of its old key, in the same snapshot.

    ``end_offsets``: partition → end of the topic, asked for after the call arrived. Raises Denied (404 when
    the bucket is gone), Unavailable, and what ``count`` raises; then nothing has happened, or, when the
    connection was lost, possibly everything.
    """
    async for attempt in stamina.retry_context(
        on=(asyncpg.SerializationError, asyncpg.DeadlockDetectedError),
        attempts=_ATTEMPTS,
        timeout=None,
        wait_initial=0.01,
        wait_max=0.2,
        wait_jitter=0.02,
    ):
        with attempt:
            async with (
                acquired(pool, acquire_seconds) as connection,
                connection.transaction(isolation="repeatable_read"),
            ):
                bucket_key = await connection.fetchval(LOCK_BUCKET, bucket_id)
                if bucket_key is None:
                    raise Denied("no bucket of this id", status=404)
                counted = await count(connection, bucket_key)
                partitions = sorted(end_offsets)
                ends = [end_offsets[partition] for partition in partitions]
                await connection.execute(_FENCE, bucket_id, topic, partitions, ends)
                await connection.execute(_NEW_KEY, bucket_id, bucket_key)
                return counted
    raise AssertionError("unreachable: the last attempt returns or raises")
