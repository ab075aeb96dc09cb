-- Least rights for each duty. weir_maintenance owns everything.
GRANT SELECT ON store_state TO weir_gateway, weir_writer, weir_api;

-- Gateway: learns keys and what it must refuse; writes nothing.
GRANT SELECT ON api_keys, buckets, bucket_members, workspace_members, users, partition_offsets TO weir_gateway;

-- Writer: rows, rollups and its own progress. It cannot delete or change an event.
GRANT SELECT ON buckets, bucket_keys, fences TO weir_writer;
GRANT SELECT, INSERT ON events, node_reports, dead_letters, late_hours TO weir_writer;
GRANT SELECT, INSERT, UPDATE ON partition_offsets TO weir_writer;

-- Query API: reads; writes tenancy and fences.
GRANT SELECT ON events, node_reports, event_counts_minute, event_counts_hour, event_counts_day, device_counts_day,
    partition_offsets, late_hours, rollup_stale_hours, rollup_coverage, dead_letters TO weir_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON workspaces, users, workspace_members, buckets, bucket_members, api_keys,
    refresh_tokens, access_tokens, fences TO weir_api;
GRANT SELECT, INSERT, UPDATE ON bucket_keys TO weir_api;

DO $$
BEGIN
    -- Hypertables in the Apache edition, views (which nobody can insert into) in the community edition.
    IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = 'event_counts_minute') THEN
        GRANT SELECT, INSERT, UPDATE ON event_counts_minute, event_counts_hour, event_counts_day TO weir_writer;
    END IF;
END
$$;
