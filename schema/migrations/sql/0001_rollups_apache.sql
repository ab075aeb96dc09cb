-- The rollup ladder for the Apache edition: hypertables of the names and columns that the community edition has as
-- continuous aggregates. The writer adds to the first three in its transaction; maintenance builds the device days.
-- shard spreads one period's count over several rows, so that two writers seldom want the same one. Maintenance merges
-- the rows of closed periods into one with shard -1; what is not merged yet has an index of its own to be found by.
CREATE TABLE event_counts_minute (
    bucket_key  integer NOT NULL,
    period      timestamptz NOT NULL,
    name        text NOT NULL,
    shard       smallint NOT NULL,
    event_count bigint NOT NULL
) WITH (fillfactor = 80);
SELECT create_hypertable('event_counts_minute', by_range('period', INTERVAL '7 days'), create_default_indexes => false);
CREATE UNIQUE INDEX event_counts_minute_key ON event_counts_minute (bucket_key, name, period, shard);
CREATE INDEX event_counts_minute_unmerged ON event_counts_minute (bucket_key, name, period) WHERE shard >= 0;

CREATE TABLE event_counts_hour (
    bucket_key  integer NOT NULL,
    period      timestamptz NOT NULL,
    name        text NOT NULL,
    app         text NOT NULL,
    server      text NOT NULL,
    shard       smallint NOT NULL,
    event_count bigint NOT NULL
) WITH (fillfactor = 80);
SELECT create_hypertable('event_counts_hour', by_range('period', INTERVAL '90 days'), create_default_indexes => false);
CREATE UNIQUE INDEX event_counts_hour_key ON event_counts_hour (bucket_key, name, period, app, server, shard);
CREATE INDEX event_counts_hour_unmerged ON event_counts_hour (bucket_key, name, period) WHERE shard >= 0;

CREATE TABLE event_counts_day (
    bucket_key  integer NOT NULL,
    period      timestamptz NOT NULL,
    name        text NOT NULL,
    app         text NOT NULL,
    server      text NOT NULL,
    shard       smallint NOT NULL,
    event_count bigint NOT NULL
) WITH (fillfactor = 80);
SELECT create_hypertable('event_counts_day', by_range('period', INTERVAL '365 days'), create_default_indexes => false);
CREATE UNIQUE INDEX event_counts_day_key ON event_counts_day (bucket_key, name, period, app, server, shard);
CREATE INDEX event_counts_day_unmerged ON event_counts_day (bucket_key, name, period) WHERE shard >= 0;

CREATE TABLE device_counts_day (
    bucket_key  integer NOT NULL,
    period      timestamptz NOT NULL,
    device      text NOT NULL,
    name        text NOT NULL,
    event_count bigint NOT NULL
);
SELECT create_hypertable('device_counts_day', by_range('period', INTERVAL '30 days'), create_default_indexes => false);
CREATE UNIQUE INDEX device_counts_day_key ON device_counts_day (bucket_key, device, name, period);

-- Which periods of which rung a reader must not trust: here only device days, since the writer keeps the others.
CREATE VIEW rollup_stale_hours AS
    SELECT 'device_counts_day'::text AS rollup, hour FROM late_hours GROUP BY hour;

-- Up to where each rung is complete.
CREATE VIEW rollup_coverage AS
    SELECT rollup, complete_until FROM (VALUES
        ('event_counts_minute', 'infinity'::timestamptz),
        ('event_counts_hour', 'infinity'::timestamptz),
        ('event_counts_day', 'infinity'::timestamptz)
    ) AS maintained (rollup, complete_until)
    UNION ALL
    SELECT 'device_counts_day', device_days_until FROM store_state;
