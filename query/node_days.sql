-- The nodes of a bucket on one UTC day, by host and ip. A report holds until the node's next one, for at most three
-- of its intervals; then the node is OFFLINE. $1: bucket id, $2: start of the day, $3: its end, or now if that is
-- earlier, $4: reports up to here are too old for a node to be listed, $5: so many nodes are looked at.
-- Innermost: the report that holds from before the day, and those of the day, each with the moment of the next one;
-- then the retirement that ends it, if any; then from when to when it counts as observed, and as online.
-- The nodes are found by hopping in the index from one to the next: seven days of reports are not read for them.
WITH RECURSIVE nodes AS (
    (
        SELECT ip, host, 1 AS number FROM node_reports
        WHERE bucket_id = $1::text AND observed_at > $4::timestamptz AND observed_at < $3::timestamptz
        ORDER BY ip, host LIMIT 1
    )
    UNION ALL
    SELECT following.ip, following.host, nodes.number + 1
    FROM nodes
    CROSS JOIN LATERAL (
        SELECT ip, host FROM node_reports
        WHERE bucket_id = $1::text AND (ip, host) > (nodes.ip, nodes.host)
            AND observed_at > $4::timestamptz AND observed_at < $3::timestamptz
        ORDER BY ip, host LIMIT 1
    ) AS following
    WHERE nodes.number < $5::integer
)
SELECT nodes.number, day.uptime_percent IS NOT NULL AND day.retired_at IS NULL AS is_listed, nodes.ip, nodes.host,
    day.uptime_percent, day.average_latency_ms, day.version, day.status, day.last_updated_at, day.last_latency_ms
FROM nodes
CROSS JOIN LATERAL (
    SELECT array_agg(retired_at) AS moments
    FROM node_retirements
    WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host AND retired_at < $3::timestamptz
) AS retirements
CROSS JOIN LATERAL (
    SELECT
        round(
            100 * extract(epoch FROM observed - not_online) / nullif(extract(epoch FROM observed), 0), 2
        )::double precision AS uptime_percent,
        average_latency_ms, version, status, last_updated_at, last_latency_ms, retired_at
    FROM (
        SELECT
            -- One report holds until the next, so what is observed is all of it but for retirements, and what is
            -- online all of that but for exceptions: only those are added up.
            $3::timestamptz - min(held_from) - coalesce(
                sum(next_at - greatest(retired_at, held_from)) FILTER (WHERE retired_at IS NOT NULL), INTERVAL '0'
            ) AS observed,
            coalesce(sum(observed_until - online_until) FILTER (WHERE observed_until > online_until), INTERVAL '0')
                AS not_online,
            -- Whole numbers are added as such: exact, like numeric, and an eighth of its time.
            round(
                (
                    coalesce(sum(latency_ms::integer) FILTER (WHERE whole_latency), 0)
                    + coalesce(sum(latency_ms::numeric) FILTER (WHERE NOT whole_latency), 0)
                ) / nullif(count(whole_latency), 0)
            )::double precision AS average_latency_ms,
            max(version) FILTER (WHERE is_last) AS version,
            CASE WHEN max(held_until) FILTER (WHERE is_last) < $3::timestamptz THEN 'OFFLINE'
                ELSE max(status) FILTER (WHERE is_last) END AS status,
            max(observed_at) AS last_updated_at,
            last(latency_ms, observed_at) FILTER (WHERE latency_ms IS NOT NULL) AS last_latency_ms,
            max(retired_at) FILTER (WHERE is_last) AS retired_at
        FROM (
            SELECT *,
                greatest(observed_at, $2::timestamptz) AS held_from,
                greatest(least(next_at, retired_at), observed_at, $2::timestamptz) AS observed_until,
                CASE WHEN status = 'ONLINE' THEN greatest(held_until, observed_at, $2::timestamptz)
                    ELSE greatest(observed_at, $2::timestamptz) END AS online_until,
                next_at = $3::timestamptz AS is_last,
                CASE WHEN observed_at >= $2::timestamptz
                    THEN latency_ms = trunc(latency_ms) AND latency_ms < 1000000000 END AS whole_latency
            FROM (
                SELECT *,
                    observed_at + interval_seconds * INTERVAL '3 seconds' AS held_until,
                    CASE WHEN retirements.moments IS NOT NULL THEN (
                        SELECT min(retired_at) FROM unnest(retirements.moments) AS retired_at
                        WHERE retired_at >= in_order.observed_at AND retired_at < in_order.next_at
                    ) END AS retired_at
                FROM (
                    SELECT *, lag(observed_at, 1, $3::timestamptz) OVER (ORDER BY observed_at DESC) AS next_at
                    FROM (
                        (
                            SELECT observed_at, version, status, latency_ms, interval_seconds FROM node_reports
                            WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host
                                AND observed_at < $2::timestamptz
                            ORDER BY observed_at DESC LIMIT 1
                        )
                        UNION ALL
                        (
                            SELECT observed_at, version, status, latency_ms, interval_seconds FROM node_reports
                            WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host
                                AND observed_at >= $2::timestamptz AND observed_at < $3::timestamptz
                            ORDER BY observed_at DESC
                        )
                    ) AS reports
                ) AS in_order
                -- A fence: without it, what ends a report is worked out anew for each sum above.
                OFFSET 0
            ) AS ended
        ) AS held
    ) AS added
) AS day
ORDER BY nodes.host COLLATE "C", nodes.ip COLLATE "C"
