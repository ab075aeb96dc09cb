-- Rights that nobody used: what a role may not do, whoever takes hold of its process cannot do either.

-- Gateway: of accounts and buckets only what a key's grant is made of; no mail address, no password's hash, no
-- secret, encrypted or not, but the digests that it compares.
REVOKE SELECT ON api_keys, buckets, users, partition_offsets FROM weir_gateway;
GRANT SELECT (secret_sha256, scope, user_id, bucket_id, revoked_at) ON api_keys TO weir_gateway;
GRANT SELECT (bucket_id, workspace_id, retention_days, events_per_second, deleted_at, public_id, secret_id_sha256)
    ON buckets TO weir_gateway;
GRANT SELECT (user_id, superuser) ON users TO weir_gateway;
GRANT SELECT (topic, partition, epoch, next_offset, last_record_at) ON partition_offsets TO weir_gateway;

-- Writer: of a bucket only its key and whether it stands.
REVOKE SELECT ON buckets, bucket_keys FROM weir_writer;
GRANT SELECT (bucket_id, bucket_key, deleted_at) ON buckets TO weir_writer;

-- Query API: it deletes no user, workspace or bucket (a bucket that is deleted is marked), and moves no fence away.
-- What belongs to a deleted row goes with it by the tables' own rules.
REVOKE DELETE ON users, workspaces, workspace_members, buckets, fences, refresh_tokens FROM weir_api;
REVOKE UPDATE ON workspaces FROM weir_api;
