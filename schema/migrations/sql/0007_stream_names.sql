-- Which names the events of a stream have, of devices: never fewer than there are. A stream with more than STREAM_NAMES
-- of them (schema.tables) has at least one more than that here, and not necessarily all.
CREATE TABLE stream_names (
    bucket_key integer NOT NULL,
    stream     text NOT NULL,
    name       text NOT NULL,
    PRIMARY KEY (bucket_key, stream, name)
);

-- They are noted a closed day at a time, up to here. Of an hour in the late ledger they may be missing.
ALTER TABLE store_state ADD COLUMN stream_names_until timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00';

GRANT SELECT ON stream_names TO weir_api;
