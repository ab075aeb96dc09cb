-- Accounts and buckets as their calls need them.

-- An address counts as its user's once he has shown that he reads its mail; users made by an operator are trusted.
ALTER TABLE users ADD COLUMN email_confirmed_at timestamptz;
UPDATE users SET email_confirmed_at = created_at;
ALTER TABLE users ADD CHECK (email <> '' AND length(email) <= 254);

-- plan: a name from the settings; null: their default plan. secret_id is kept twice: encrypted, to be shown to the
-- owner, and as SHA-256, for whoever has only to compare it.
ALTER TABLE buckets
    ADD COLUMN comment             text NOT NULL DEFAULT '',
    ADD COLUMN app_url             text NOT NULL DEFAULT '',
    ADD COLUMN configuration       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(configuration) = 'object'),
    ADD COLUMN public_id           text NOT NULL UNIQUE DEFAULT replace(gen_random_uuid()::text, '-', ''),
    ADD COLUMN secret_id_encrypted bytea,
    ADD COLUMN secret_id_sha256    bytea UNIQUE CHECK (octet_length(secret_id_sha256) = 32),
    ADD COLUMN plan                text,
    ADD COLUMN trial_plan          text,
    ADD COLUMN trial_started_at    timestamptz,
    ADD COLUMN trial_ends_at       timestamptz,
    ADD COLUMN subscription_id     text,
    ADD COLUMN subscribed_at       timestamptz,
    ADD CHECK ((secret_id_encrypted IS NULL) = (secret_id_sha256 IS NULL)),
    ADD CHECK ((trial_plan IS NULL) = (trial_started_at IS NULL)),
    ADD CHECK ((trial_plan IS NULL) = (trial_ends_at IS NULL)),
    ADD CHECK ((subscription_id IS NULL) = (subscribed_at IS NULL));
CREATE INDEX buckets_workspace ON buckets (workspace_id);
CREATE INDEX workspace_members_user ON workspace_members (user_id);

ALTER TABLE bucket_members
    ADD COLUMN notification text NOT NULL DEFAULT 'email' CHECK (notification IN ('email', 'none')),
    ADD COLUMN joined_at    timestamptz NOT NULL DEFAULT now();
-- A bucket has one owner at any moment.
CREATE UNIQUE INDEX bucket_members_owner ON bucket_members (bucket_id) WHERE role = 'owner';

-- What a user wants of a bucket for himself; he need not be a member of it (his workspace may be enough).
CREATE TABLE bucket_user_options (
    bucket_id text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    user_id   text NOT NULL REFERENCES users ON DELETE CASCADE,
    options   jsonb NOT NULL CHECK (jsonb_typeof(options) = 'object'),
    PRIMARY KEY (bucket_id, user_id)
);

-- email is lower case. The secret goes out by mail: who brings it back reads the mail of that address.
CREATE TABLE bucket_invitations (
    bucket_id     text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    email         text NOT NULL CHECK (email = lower(email)),
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('admin', 'user')),
    secret_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(secret_sha256) = 32),
    invited_by    text REFERENCES users ON DELETE SET NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket_id, email)
);
CREATE INDEX bucket_invitations_email ON bucket_invitations (email);

CREATE TABLE bucket_feedback (
    feedback_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    bucket_id   text NOT NULL REFERENCES buckets ON DELETE CASCADE,
    user_id     text REFERENCES users ON DELETE SET NULL,
    feedback    text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- Sent by mail, good once: to set a new password, or to show that an address is one's own.
CREATE TABLE mail_tokens (
    secret_sha256 bytea PRIMARY KEY CHECK (octet_length(secret_sha256) = 32),
    user_id       text NOT NULL REFERENCES users ON DELETE CASCADE,
    purpose       text NOT NULL CHECK (purpose IN ('reset', 'confirm')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz
);
CREATE INDEX mail_tokens_user ON mail_tokens (user_id);

-- A session of the console gives its refresh token up for another at each use; whoever brings a replaced one back
-- has stolen it, or was stolen from, and the whole session ends. Other clients keep the token that they have.
ALTER TABLE refresh_tokens
    ADD COLUMN client_id   text NOT NULL DEFAULT '',
    ADD COLUMN session_id  text CHECK (session_id ~ '^[0-9a-f]{24}$'),
    ADD COLUMN replaced_at timestamptz,
    ADD COLUMN expires_at  timestamptz;
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id) WHERE session_id IS NOT NULL;

-- An access token is a user's, or stands for an API key: then it may what the key may, as long as the key stands.
ALTER TABLE access_tokens
    ALTER COLUMN user_id DROP NOT NULL,
    ADD COLUMN key_id text REFERENCES api_keys ON DELETE CASCADE,
    ADD CHECK ((user_id IS NULL) <> (key_id IS NULL));
CREATE INDEX access_tokens_refresh ON access_tokens (refresh_token_id) WHERE refresh_token_id IS NOT NULL;
CREATE INDEX access_tokens_expiry ON access_tokens (expires_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON bucket_user_options, bucket_invitations, bucket_feedback, mail_tokens
    TO weir_api;
