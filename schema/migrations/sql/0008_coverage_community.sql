-- Up to where each rung is complete, as before, but through a function, of which PostgreSQL notes no more than its text. A
-- view on TimescaleDB's own tables is in the way of updates of the extension that make these anew, such as those to 2.25
-- and to 2.28: they fail while anything depends on them. The planner puts the function's text in its place.
CREATE FUNCTION rollup_watermarks() RETURNS TABLE (rollup text, complete_until timestamptz) LANGUAGE sql STABLE AS $$
    SELECT user_view_name::text,
        -- Nothing is materialized while it lies before all of time.
        greatest(_timescaledb_functions.to_timestamp(watermark), TIMESTAMPTZ '1970-01-01 00:00:00+00')
    FROM _timescaledb_catalog.continuous_agg
    JOIN _timescaledb_catalog.continuous_aggs_watermark USING (mat_hypertable_id)
    WHERE user_view_schema = 'public' AND user_view_name IN (
        'event_counts_minute', 'event_counts_hour', 'event_counts_day', 'device_counts_day'
    )
$$;

CREATE OR REPLACE VIEW rollup_coverage AS SELECT rollup, complete_until FROM rollup_watermarks();
