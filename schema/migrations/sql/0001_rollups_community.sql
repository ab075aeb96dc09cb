-- The rollup ladder for the community edition: continuous aggregates, day upon hour upon raw rows, real time.
-- No policies: maintenance is the only one that refreshes and compresses, since a refresh past an open writer's
-- transaction, or below the raw floor, would make counts wrong.
CREATE MATERIALIZED VIEW event_counts_minute
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
    SELECT bucket_key, time_bucket(INTERVAL '1 minute', observed_at) AS period, name, count(*) AS event_count
    FROM events GROUP BY 1, 2, 3
WITH NO DATA;
CREATE INDEX event_counts_minute_key ON event_counts_minute (bucket_key, name, period);

CREATE MATERIALIZED VIEW event_counts_hour
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
    SELECT bucket_key, time_bucket(INTERVAL '1 hour', observed_at) AS period, name, app, server,
           count(*) AS event_count
    FROM events GROUP BY 1, 2, 3, 4, 5
WITH NO DATA;
CREATE INDEX event_counts_hour_key ON event_counts_hour (bucket_key, name, period);

CREATE MATERIALIZED VIEW event_counts_day
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
    SELECT bucket_key, time_bucket(INTERVAL '1 day', period) AS period, name, app, server,
           sum(event_count)::bigint AS event_count
    FROM event_counts_hour GROUP BY 1, 2, 3, 4, 5
WITH NO DATA;
CREATE INDEX event_counts_day_key ON event_counts_day (bucket_key, name, period);

CREATE MATERIALIZED VIEW device_counts_day
WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS
    SELECT bucket_key, time_bucket(INTERVAL '1 day', observed_at) AS period, device, name, count(*) AS event_count
    FROM events WHERE device <> '' GROUP BY 1, 2, 3, 4
WITH NO DATA;
CREATE INDEX device_counts_day_key ON device_counts_day (bucket_key, device, name, period);

ALTER TABLE events SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'bucket_key',
    timescaledb.compress_orderby = 'observed_at DESC, id'
);
ALTER TABLE node_reports SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'bucket_id, ip, host',
    timescaledb.compress_orderby = 'observed_at DESC'
);

-- Which periods of which rung a reader must not trust: whatever got rows after it was materialized.
CREATE VIEW rollup_stale_hours AS
    SELECT rollup, hour
    FROM (SELECT hour FROM late_hours GROUP BY hour) AS late
    CROSS JOIN (VALUES ('event_counts_minute'), ('event_counts_hour'), ('event_counts_day'), ('device_counts_day'))
        AS rungs (rollup);

-- Up to where each rung is complete: real-time aggregates read what is not materialized from the raw rows.
CREATE VIEW rollup_coverage AS
    SELECT rollup, 'infinity'::timestamptz AS complete_until
    FROM (VALUES ('event_counts_minute'), ('event_counts_hour'), ('event_counts_day'), ('device_counts_day'))
        AS rungs (rollup);
