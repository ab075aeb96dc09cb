-- Events and node reports, and what the writer keeps about its own progress.
-- Absent labels are empty strings, never null, so that keys and sums need no special case.
CREATE TABLE events (
    bucket_key  integer NOT NULL,
    name        text NOT NULL,
    stream      text NOT NULL,
    app         text NOT NULL,
    server      text NOT NULL,
    observed_at timestamptz NOT NULL,
    id          text NOT NULL,
    received_at timestamptz NOT NULL,
    device      text NOT NULL,
    data        jsonb NOT NULL
);
SELECT create_hypertable('events', by_range('observed_at', INTERVAL '1 day'), create_default_indexes => false);
-- The identity: what makes a retry a retry.
CREATE UNIQUE INDEX events_identity ON events (bucket_key, id, observed_at);
-- The newest events of a name, and raw counts at the edges of a histogram.
CREATE INDEX events_name ON events (bucket_key, name, observed_at DESC);
-- A device's journal and streams. Events without a device do not pay for it.
CREATE INDEX events_device ON events (bucket_key, device, name, observed_at DESC) WHERE device <> '';

-- By bucket id, not by key: emptying a bucket of its events gives it a new key and must leave its nodes.
CREATE TABLE node_reports (
    bucket_id        text NOT NULL,
    observed_at      timestamptz NOT NULL,
    host             text NOT NULL,
    ip               text NOT NULL,
    received_at      timestamptz NOT NULL,
    version          text NOT NULL,
    status           text NOT NULL CHECK (status IN ('ONLINE', 'OFFLINE', 'DISCONNECTED')),
    latency_ms       double precision CHECK (latency_ms >= 0 AND latency_ms < 'Infinity'), -- no NaN either
    interval_seconds integer NOT NULL CHECK (interval_seconds BETWEEN 1 AND 3600)
);
SELECT create_hypertable('node_reports', by_range('observed_at', INTERVAL '7 days'), create_default_indexes => false);
CREATE UNIQUE INDEX node_reports_identity ON node_reports (bucket_id, ip, host, observed_at DESC);

-- Where each partition's writer stands: moved by compare-and-set in the transaction that stores the rows.
-- record_id is the identity of the record before next_offset: a log that holds another one there is not the log
-- that we read, and gets a new epoch.
CREATE TABLE partition_offsets (
    topic          text NOT NULL,
    partition      integer NOT NULL,
    epoch          integer NOT NULL DEFAULT 1,
    next_offset    bigint NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    record_id      bytea,
    last_record_at timestamptz,
    stored_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- What a deletion fenced: records of the bucket before fence_offset are dropped by the writer.
CREATE TABLE fences (
    bucket_id    text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    epoch        integer NOT NULL,
    fence_offset bigint NOT NULL,
    fenced_at    timestamptz NOT NULL,
    PRIMARY KEY (bucket_id, topic, partition)
);

-- The late ledger: closed hours that got rows after they were closed. Whoever refreshes an hour strikes the
-- entries that it had read before, by id.
CREATE TABLE late_hours (
    late_hour_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    hour         timestamptz NOT NULL,
    noted_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX late_hours_hour ON late_hours (hour);

CREATE TABLE dead_letters (
    dead_letter_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    epoch          integer NOT NULL,
    record_offset  bigint NOT NULL,
    -- Position of the event in its record; -1: the record as a whole.
    position       integer NOT NULL,
    bucket_id      text,
    reason         text NOT NULL,
    payload        bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (topic, partition, epoch, record_offset, position)
);
CREATE INDEX dead_letters_bucket ON dead_letters (bucket_id, created_at);
