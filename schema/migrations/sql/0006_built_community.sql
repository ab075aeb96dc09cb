-- What questions read of each rung: what is materialized, up to the watermark. The aggregates stay in real time for
-- whoever else reads them; but a question knows the watermark, and reads what lies above it by itself. The part that
-- counts raw rows, which every reading of a real-time aggregate carries, took over half of a histogram's time.
DO $$
DECLARE
    rung record;
BEGIN
    FOR rung IN
        SELECT view_name, materialization_hypertable_schema AS schema, materialization_hypertable_name AS name,
            CASE view_name
                WHEN 'event_counts_minute' THEN 'bucket_key, period, name, event_count'
                WHEN 'device_counts_day' THEN 'bucket_key, period, device, name, event_count'
                ELSE 'bucket_key, period, name, app, server, event_count'
            END AS columns
        FROM timescaledb_information.continuous_aggregates
        WHERE view_schema = 'public' AND view_name IN (
            'event_counts_minute', 'event_counts_hour', 'event_counts_day', 'device_counts_day'
        )
        ORDER BY view_name
    LOOP
        EXECUTE format(
            'CREATE VIEW %I AS SELECT %s FROM %I.%I', rung.view_name || '_built', rung.columns, rung.schema, rung.name
        );
    END LOOP;
END
$$;

-- Up to where each rung is complete: its watermark, read as a row, so that it belongs to the reader's snapshot.
-- Nothing is materialized while it lies before all of time.
CREATE OR REPLACE VIEW rollup_coverage AS
    SELECT user_view_name::text COLLATE "default" AS rollup,
        greatest(_timescaledb_functions.to_timestamp(watermark), TIMESTAMPTZ '1970-01-01 00:00:00+00')
            AS complete_until
    FROM _timescaledb_catalog.continuous_agg
    JOIN _timescaledb_catalog.continuous_aggs_watermark USING (mat_hypertable_id)
    WHERE user_view_schema = 'public' AND user_view_name IN (
        'event_counts_minute', 'event_counts_hour', 'event_counts_day', 'device_counts_day'
    );

GRANT SELECT ON event_counts_minute_built, event_counts_hour_built, event_counts_day_built, device_counts_day_built
    TO weir_api;
