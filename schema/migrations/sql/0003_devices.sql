-- What is known of devices beyond their events, and of nodes beyond their reports. By bucket id, as node reports
-- are: emptying a bucket of its events leaves both.
CREATE TABLE devices (
    bucket_id     text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    device        text NOT NULL CHECK (device <> '' AND length(device) <= 200),
    name          text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    attributes    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    registered_at timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket_id, device)
);

-- A node is out of the statistics from retired_at until its next report. All retirements are kept, so that the
-- statistics of a past day stay what they were.
CREATE TABLE node_retirements (
    bucket_id  text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    ip         text NOT NULL,
    host       text NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket_id, ip, host, retired_at)
);

-- The device first: one descent finds its events in whichever of a caller's thousands of buckets they are. Time
-- before the name: its newest events are read from the newest on, and a journal of one name passes over the others.
DROP INDEX events_device;
CREATE INDEX events_device ON events (device, bucket_key, observed_at DESC, name) WHERE device <> '';

GRANT SELECT, INSERT, UPDATE, DELETE ON devices TO weir_api;
GRANT SELECT, INSERT, DELETE ON node_retirements TO weir_api;
