-- Who owns what, and by which secrets they come in. Secrets are kept as SHA-256 only.
CREATE TABLE store_state (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    edition    text NOT NULL CHECK (edition IN ('apache', 'community')),
    -- Raw rows before this moment are gone: nothing may be stored, refreshed or counted from rows below it.
    raw_floor  timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    -- Device rollup: days before this moment are built (Apache edition; the community edition is always complete).
    device_days_until timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00'
);

CREATE TABLE workspaces (
    workspace_id text PRIMARY KEY CHECK (workspace_id ~ '^[0-9a-f]{24}$'),
    name         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    user_id       text PRIMARY KEY CHECK (user_id ~ '^[0-9a-f]{24}$'),
    email         text NOT NULL,
    username      text NOT NULL,
    password_hash text,
    superuser     boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE workspace_members (
    workspace_id text NOT NULL REFERENCES workspaces ON DELETE CASCADE,
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    PRIMARY KEY (workspace_id, user_id)
);

-- bucket_keys outlives its bucket: a key is never used again, and is purged in the background once retired.
CREATE TABLE bucket_keys (
    bucket_key integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    bucket_id  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    purged_at  timestamptz
);
CREATE INDEX bucket_keys_to_purge ON bucket_keys (retired_at) WHERE retired_at IS NOT NULL AND purged_at IS NULL;

CREATE TABLE buckets (
    bucket_id         text PRIMARY KEY CHECK (bucket_id ~ '^[0-9a-f]{24}$'),
    bucket_key        integer NOT NULL UNIQUE REFERENCES bucket_keys,
    workspace_id      text NOT NULL REFERENCES workspaces,
    name              text NOT NULL,
    retention_days    integer CHECK (retention_days >= 1),
    events_per_second double precision CHECK (events_per_second >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz
);

CREATE TABLE bucket_members (
    bucket_id text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    user_id   text NOT NULL REFERENCES users ON DELETE CASCADE,
    role      text NOT NULL CHECK (role IN ('owner', 'admin', 'user')),
    PRIMARY KEY (bucket_id, user_id)
);
CREATE INDEX bucket_members_user ON bucket_members (user_id);

-- A key is of one bucket, or of a user (then the request names the bucket).
CREATE TABLE api_keys (
    key_id        text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{24}$'),
    prefix        text NOT NULL,
    secret_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    name          text NOT NULL DEFAULT '',
    scope         text NOT NULL CHECK (scope IN ('ingest', 'read', 'admin')),
    bucket_id     text REFERENCES buckets ON DELETE CASCADE,
    user_id       text REFERENCES users ON DELETE CASCADE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    CHECK ((bucket_id IS NULL) <> (user_id IS NULL))
);
CREATE INDEX api_keys_bucket ON api_keys (bucket_id);
CREATE INDEX api_keys_user ON api_keys (user_id);

CREATE TABLE refresh_tokens (
    refresh_token_id text PRIMARY KEY CHECK (refresh_token_id ~ '^[0-9a-f]{24}$'),
    secret_sha256    bytea NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    user_id          text NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at       timestamptz NOT NULL DEFAULT now(),
    revoked_at       timestamptz
);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

-- An access token ends at expires_at, and with the refresh token that it came from.
CREATE TABLE access_tokens (
    secret_sha256    bytea PRIMARY KEY CHECK (octet_length(secret_sha256) = 32),
    user_id          text NOT NULL REFERENCES users ON DELETE CASCADE,
    refresh_token_id text REFERENCES refresh_tokens ON DELETE CASCADE,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    revoked_at       timestamptz
);
CREATE INDEX access_tokens_user ON access_tokens (user_id);
