"""Empty a bucket for good: a new internal key, and fences at the log's end, in one transaction. Or end it.

Neighbours: ``log_ends`` (where the fences go), the writer (drops what lies before a fence, and learns the
new key from the bucket's row), maintenance (purges what a retired key has left). Guarantee: nothing that
was accepted before the call comes back, in rows or in counts; nothing that is sent after it returned
is dropped. A bucket that is deleted as a whole needs no fence at an offset: its row stays behind, marked, and
the writer drops whatever still comes for it, events and node reports, however late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import asyncpg
import stamina

from schema.connections import Pool, PooledConnection, acquired
from schema.errors import Denied, Unavailable

T = TypeVar("T")
_FIRST_EPOCH = 1
_ATTEMPTS = 5

LOCK_BUCKET = "SELECT bucket_key FROM buckets WHERE bucket_id = $1 AND deleted_at IS NULL FOR UPDATE"
# Asked before the log's ends, which are then of these epochs, or of a log that no writer has noticed yet.
_EPOCHS = "SELECT partition, epoch FROM partition_offsets WHERE topic = $1"
# In any other epoch the moment counts: so it always moves on, also where a log that was made anew, and that
# no writer has noticed, ends before an earlier fence.
_FENCE = f"""
INSERT INTO fences (bucket_id, topic, partition, epoch, fence_offset, fenced_at)
SELECT $1, $2, log_end.partition, log_end.epoch, log_end.end_offset, clock_timestamp()
FROM unnest($3::integer[], $4::integer[], $5::bigint[]) AS log_end (partition, epoch, end_offset)
LEFT JOIN partition_offsets AS stands ON stands.topic = $2 AND stands.partition = log_end.partition
WHERE log_end.epoch = coalesce(stands.epoch, {_FIRST_EPOCH})
ORDER BY log_end.partition
ON CONFLICT (bucket_id, topic, partition) DO UPDATE
SET epoch = greatest(fences.epoch, excluded.epoch),
    fenced_at = greatest(fences.fenced_at, excluded.fenced_at),
    fence_offset = CASE sign(fences.epoch - excluded.epoch)
        WHEN 0 THEN greatest(fences.fence_offset, excluded.fence_offset)
        WHEN -1 THEN excluded.fence_offset
        ELSE fences.fence_offset END
"""  # noqa: S608 - the epoch is a constant of ours
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


class _EpochChanged(Unavailable):
    """A writer found the log made anew since its ends were asked for."""


async def empty_bucket(
    pool: Pool,
    bucket_id: str,
    topic: str,
    end_offsets: Callable[[], Awaitable[Mapping[int, int]]],
    count: Callable[[PooledConnection, int], Awaitable[T]],
    *,
    acquire_seconds: float,
) -> T:
    """Delete all events of a bucket; return what ``count`` says of its old key, in the same snapshot.

    ``end_offsets`` asks for partition → end of the topic. Raises Denied (404 when the bucket is gone),
    Unavailable, and what ``end_offsets`` and ``count`` raise; then nothing has happened, or, when the
    connection was lost, possibly everything.
    """
    async for attempt in stamina.retry_context(
        on=(asyncpg.SerializationError, asyncpg.DeadlockDetectedError, _EpochChanged),
        attempts=_ATTEMPTS,
        timeout=None,
        wait_initial=0.01,
        wait_max=0.2,
        wait_jitter=0.02,
    ):
        with attempt:
            async with acquired(pool, acquire_seconds) as connection:
                epochs = {row["partition"]: row["epoch"] for row in await connection.fetch(_EPOCHS, topic)}
            # Without a connection in hand: Kafka may take its time.
            ends = await end_offsets()
            log_ends = [(place, epochs.get(place, _FIRST_EPOCH), end) for place, end in sorted(ends.items())]
            async with (
                acquired(pool, acquire_seconds) as connection,
                connection.transaction(isolation="repeatable_read"),
            ):
                return await _empty(connection, bucket_id, topic, log_ends, count)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _empty(
    connection: PooledConnection,
    bucket_id: str,
    topic: str,
    log_ends: Sequence[tuple[int, int, int]],
    count: Callable[[PooledConnection, int], Awaitable[T]],
) -> T:
    """``log_ends``: (partition, epoch, end offset) of each partition."""
    bucket_key = await connection.fetchval(LOCK_BUCKET, bucket_id)
    if bucket_key is None:
        raise Denied("no bucket of this id", status=404)
    counted = await count(connection, bucket_key)
    columns = [[log_end[column] for log_end in log_ends] for column in range(3)]
    status = await connection.execute(_FENCE, bucket_id, topic, *columns)
    if status != f"INSERT 0 {len(log_ends)}":
        raise _EpochChanged("the events topic was made anew just now; ask again")
    await connection.execute(_NEW_KEY, bucket_id, bucket_key)
    return counted
