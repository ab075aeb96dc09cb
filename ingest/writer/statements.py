"""The SQL of the writer's transaction, in the order in which it runs."""

from __future__ import annotations

from schema.tables import EVENT_COLUMNS, LOCK_RAW_FLOOR, NODE_REPORT_COLUMNS

# Excludes only the moment at which retention moves the raw floor; writers do not exclude each other.
BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared({LOCK_RAW_FLOOR})"

# Compare-and-set of every partition in the batch. A partition that does not move has another writer by now.
# Parameters: topic, partitions, epochs, expected offsets, next offsets, record ids, last records' moments.
MOVE_OFFSETS = """
WITH moved AS (
    UPDATE partition_offsets AS stands
    SET next_offset = wanted.next_offset, record_id = wanted.record_id,
        last_record_at = wanted.last_record_at, stored_at = now()
    FROM unnest($2::int[], $3::int[], $4::bigint[], $5::bigint[], $6::bytea[], $7::timestamptz[])
        AS wanted (partition, epoch, expected_offset, next_offset, record_id, last_record_at)
    WHERE stands.topic = $1 AND stands.partition = wanted.partition
      AND stands.epoch = wanted.epoch AND stands.next_offset = wanted.expected_offset
    RETURNING stands.partition
)
SELECT coalesce(array_agg(partition), '{}') AS moved, now() AS started_at,
       (SELECT raw_floor FROM store_state) AS raw_floor
FROM moved
"""

# The same without moving them, for a transaction that stores but a part of a record.
# Parameters: topic, partitions, epochs, expected offsets.
HOLD_OFFSETS = """
WITH held AS (
    SELECT stands.partition
    FROM partition_offsets AS stands
    JOIN unnest($2::int[], $3::int[], $4::bigint[]) AS wanted (partition, epoch, expected_offset)
      ON stands.partition = wanted.partition
    WHERE stands.topic = $1 AND stands.epoch = wanted.epoch AND stands.next_offset = wanted.expected_offset
    FOR UPDATE OF stands
)
SELECT coalesce(array_agg(partition), '{}') AS moved, now() AS started_at,
       (SELECT raw_floor FROM store_state) AS raw_floor
FROM held
"""

# How events are cut into chunks: what one made now spans, in microseconds, and since when there are any.
CHUNKS = """
SELECT (extract(epoch FROM time_interval) * 1000000)::bigint AS width, raw_floor
FROM timescaledb_information.dimensions, store_state
WHERE hypertable_schema = 'public' AND hypertable_name = 'events' AND dimension_number = 1
"""

# Read after the offsets moved, so that a bucket emptied before a record was sent has its new key here.
BUCKETS = """
SELECT bucket_id, bucket_key, deleted_at IS NOT NULL AS deleted FROM buckets WHERE bucket_id = ANY($1::text[])
"""

FENCES = """
SELECT bucket_id, partition, epoch, fence_offset, fenced_at
FROM fences WHERE topic = $1 AND bucket_id = ANY($2::text[])
"""

# Events whose moment the gateway stamped are identified by their id alone, within 24 hours.
STAMPED_KNOWN = """
SELECT wanted.position
FROM unnest($1::int[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
    AS wanted (bucket_key, id, observed_at, position)
CROSS JOIN LATERAL (
    SELECT FROM events AS known
    WHERE known.bucket_key = wanted.bucket_key AND known.id = wanted.id
        AND known.observed_at > wanted.observed_at - INTERVAL '24 hours'
        AND known.observed_at < wanted.observed_at + INTERVAL '24 hours'
        AND known.observed_at > $4 AND known.observed_at < $5
    LIMIT 1
) AS known
"""

# Which of many events are stored already. Asked once a COPY has met one that is. Row by row in the identity's
# index: left to choose, the planner takes young chunks for small ones, and sorts and joins all their rows.
KNOWN = """
SELECT wanted.position
FROM unnest($1::int[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
    AS wanted (bucket_key, id, observed_at, position)
CROSS JOIN LATERAL (
    SELECT FROM events AS known
    WHERE known.bucket_key = wanted.bucket_key AND known.id = wanted.id
        AND known.observed_at = wanted.observed_at
        AND known.observed_at >= $4 AND known.observed_at <= $5
    LIMIT 1
) AS known
"""

# The same where some chunks may be compressed, which a join takes apart once and not row by row.
KNOWN_AMONG_COMPRESSED = """
SELECT wanted.position
FROM unnest($1::int[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
    AS wanted (bucket_key, id, observed_at, position)
JOIN events AS known USING (bucket_key, id, observed_at)
WHERE known.observed_at >= $4 AND known.observed_at <= $5
"""

STAGE_EVENTS = """
CREATE TEMPORARY TABLE IF NOT EXISTS stage_events (LIKE events) ON COMMIT DELETE ROWS
"""

STAGE_NODE_REPORTS = """
CREATE TEMPORARY TABLE IF NOT EXISTS stage_node_reports (LIKE node_reports INCLUDING CONSTRAINTS)
    ON COMMIT DELETE ROWS
"""

# Sorted, so that two writers with the same events wait for each other instead of deadlocking.
INSERT_STAGED_EVENTS = f"""
WITH inserted AS (
    INSERT INTO events ({", ".join(EVENT_COLUMNS)})
    SELECT {", ".join(EVENT_COLUMNS)} FROM stage_events ORDER BY bucket_key, id, observed_at
    ON CONFLICT DO NOTHING
    RETURNING bucket_key, name, app, server, observed_at
)
SELECT bucket_key, name, app, server,
       floor(extract(epoch FROM observed_at - TIMESTAMPTZ '2000-01-01 00:00:00+00') / 60)::bigint AS minute,
       count(*) AS event_count
FROM inserted GROUP BY 1, 2, 3, 4, 5
"""

INSERT_STAGED_NODE_REPORTS = f"""
INSERT INTO node_reports ({", ".join(NODE_REPORT_COLUMNS)})
SELECT {", ".join(NODE_REPORT_COLUMNS)} FROM stage_node_reports ORDER BY bucket_id, ip, host, observed_at
ON CONFLICT DO NOTHING
"""

# Rollups of the Apache edition. Sorted by key: two writers that want the same rows take them in one order.
ADD_MINUTES = """
INSERT INTO event_counts_minute AS kept (bucket_key, name, period, shard, event_count)
SELECT bucket_key, name, period, shard, event_count
FROM unnest($1::int[], $2::text[], $3::timestamptz[], $4::smallint[], $5::bigint[])
    AS delta (bucket_key, name, period, shard, event_count)
ORDER BY bucket_key, name, period, shard
ON CONFLICT (bucket_key, name, period, shard)
DO UPDATE SET event_count = kept.event_count + excluded.event_count
"""

ADD_PERIODS = """
INSERT INTO {table} AS kept (bucket_key, name, app, server, period, shard, event_count)
SELECT bucket_key, name, app, server, period, shard, event_count
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::smallint[], $7::bigint[])
    AS delta (bucket_key, name, app, server, period, shard, event_count)
ORDER BY bucket_key, name, period, app, server, shard
ON CONFLICT (bucket_key, name, period, app, server, shard)
DO UPDATE SET event_count = kept.event_count + excluded.event_count
"""
ADD_HOURS = ADD_PERIODS.format(table="event_counts_hour")
ADD_DAYS = ADD_PERIODS.format(table="event_counts_day")

NOTE_LATE_HOURS = "INSERT INTO late_hours (hour) SELECT unnest($1::timestamptz[])"

ADD_DEAD_LETTERS = """
INSERT INTO dead_letters (topic, partition, epoch, record_offset, position, bucket_id, reason, payload)
SELECT $1, * FROM unnest($2::int[], $3::int[], $4::bigint[], $5::int[], $6::text[], $7::text[], $8::bytea[])
ON CONFLICT DO NOTHING
"""
