-- The bucket of each asked pair: $1: SHA-256 of secret ids, $2: public ids. A pair that does not fit has no row.
SELECT
    asked.position::integer AS position,
    buckets.bucket_id,
    buckets.retention_days,
    buckets.events_per_second
FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS asked (secret_sha256, public_id, position)
JOIN buckets
    ON buckets.public_id = asked.public_id AND buckets.secret_id_sha256 = asked.secret_sha256
    AND buckets.deleted_at IS NULL
