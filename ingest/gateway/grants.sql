-- What each asked (key, bucket) may do, as the rows of ingest.gateway.grants. $1: SHA-256 of keys, $2: the
-- buckets that the requests named ('' if none). Unknown and revoked keys have no row.
SELECT
    asked.position::integer AS position,
    api_keys.scope,
    api_keys.user_id,
    api_keys.bucket_id AS key_bucket_id,
    coalesce(users.superuser, false) AS superuser,
    buckets.bucket_id,
    buckets.retention_days,
    buckets.events_per_second,
    bucket_members.role AS bucket_role,
    workspace_members.role AS workspace_role
FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS asked (secret_sha256, bucket_id, position)
JOIN api_keys ON api_keys.secret_sha256 = asked.secret_sha256 AND api_keys.revoked_at IS NULL
LEFT JOIN users ON users.user_id = api_keys.user_id
LEFT JOIN buckets
    ON buckets.bucket_id = coalesce(api_keys.bucket_id, asked.bucket_id) AND buckets.deleted_at IS NULL
LEFT JOIN bucket_members
    ON bucket_members.bucket_id = buckets.bucket_id AND bucket_members.user_id = api_keys.user_id
LEFT JOIN workspace_members
    ON workspace_members.workspace_id = buckets.workspace_id AND workspace_members.user_id = api_keys.user_id
