-- One role for each duty, with least rights (see 0001_grants). Cluster-wide and without login: a deployment
-- makes its users members of the duty that they have.
CREATE EXTENSION IF NOT EXISTS timescaledb;

DO $$
DECLARE
    duty text;
BEGIN
    -- Another database of the cluster may be migrating too, and roles belong to all of them: hence the handler.
    FOREACH duty IN ARRAY ARRAY['weir_gateway', 'weir_writer', 'weir_maintenance', 'weir_api'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', duty);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT weir_maintenance TO %I', current_user);
    END IF;
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO weir_maintenance', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO weir_writer', current_database());
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO weir_maintenance;
GRANT USAGE ON SCHEMA public TO weir_gateway, weir_writer, weir_api;
