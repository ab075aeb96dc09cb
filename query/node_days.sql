-- The nodes of a bucket on one UTC day, by host and ip. A report holds until the node's next one, for at most three
-- of its intervals; then the node is OFFLINE. $1: bucket id, $2: start of the day, $3: its end, or now if that is
-- earlier, $4: reports up to here are too old for a node to be listed, $5: so many nodes are looked at.
-- Of each node: the report that holds from before the day (carried), what the day's own reports add up to (added), and
-- the last report of both (latest). Reports are many and nodes are few, so whatever concerns one report alone is looked
-- up for itself, and of the many only sums are made. A retirement ends a report before the next one does.
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
SELECT nodes.number, day.observed <> INTERVAL '0' AND latest.retired_at IS NULL AS is_listed, nodes.ip, nodes.host,
    round(
        100 * extract(epoch FROM day.observed - day.not_online) / nullif(extract(epoch FROM day.observed), 0), 2
    )::double precision AS uptime_percent,
    round(
        CASE WHEN added.latencies = 0 THEN NULL
            WHEN added.whole AND added.latency_sum < 1e15 THEN added.latency_sum::bigint::numeric
            ELSE (
                SELECT sum(latency_ms::numeric) FROM node_reports
                WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host
                    AND observed_at >= $2::timestamptz AND observed_at < $3::timestamptz
            ) END / added.latencies
    )::double precision AS average_latency_ms,
    latest.version,
    CASE WHEN latest.held_until < $3::timestamptz THEN 'OFFLINE' ELSE latest.status END AS status,
    latest.observed_at AS last_updated_at,
    coalesce(
        latest.latency_ms,
        CASE WHEN added.latencies > 0 THEN (
            SELECT latency_ms FROM node_reports
            WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host AND latency_ms IS NOT NULL
                AND observed_at >= $2::timestamptz AND observed_at < $3::timestamptz
            ORDER BY observed_at DESC LIMIT 1
        ) END,
        carried.latency_ms
    ) AS last_latency_ms
FROM nodes
CROSS JOIN LATERAL (
    SELECT array_agg(retired_at) AS moments
    FROM node_retirements
    WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host AND retired_at < $3::timestamptz
) AS retirements
LEFT JOIN LATERAL (
    SELECT observed_at, status, latency_ms, observed_at + interval_seconds * INTERVAL '3 seconds' AS held_until
    FROM node_reports
    WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host AND observed_at < $2::timestamptz
    ORDER BY observed_at DESC LIMIT 1
) AS carried ON true
CROSS JOIN LATERAL (
    SELECT
        min(observed_at) AS first_at,
        sum(next_at - retired_at) FILTER (WHERE retired_at IS NOT NULL) AS retired,
        -- What is online is all that is observed but for exceptions: only those are added up.
        sum(
            greatest(
                least(next_at, retired_at) - CASE WHEN status = 'ONLINE' THEN held_until ELSE observed_at END,
                INTERVAL '0'
            )
        ) FILTER (WHERE held_until < next_at OR status <> 'ONLINE') AS not_online,
        -- Whole numbers add up exactly below 2^53.
        sum(latency_ms) AS latency_sum, count(latency_ms) AS latencies,
        bool_and(latency_ms = trunc(latency_ms)) AS whole
    FROM (
        SELECT *,
            observed_at + interval_seconds * INTERVAL '3 seconds' AS held_until,
            CASE WHEN retirements.moments IS NOT NULL THEN (
                SELECT min(retired_at) FROM unnest(retirements.moments) AS retired_at
                WHERE retired_at >= in_order.observed_at AND retired_at < in_order.next_at
            ) END AS retired_at
        FROM (
            SELECT observed_at, status, latency_ms, interval_seconds,
                lag(observed_at, 1, $3::timestamptz) OVER (ORDER BY observed_at DESC) AS next_at
            FROM node_reports
            WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host
                AND observed_at >= $2::timestamptz AND observed_at < $3::timestamptz
        ) AS in_order
        -- A fence: without it, what ends a report is worked out anew wherever it stands above.
        OFFSET 0
    ) AS ended
) AS added
CROSS JOIN LATERAL (
    SELECT observed_at, version, status, latency_ms,
        observed_at + interval_seconds * INTERVAL '3 seconds' AS held_until,
        (
            SELECT min(retired_at) FROM unnest(retirements.moments) AS retired_at
            WHERE retired_at >= node_reports.observed_at
        ) AS retired_at
    FROM node_reports
    WHERE bucket_id = $1::text AND ip = nodes.ip AND host = nodes.host AND observed_at < $3::timestamptz
    ORDER BY observed_at DESC LIMIT 1
) AS latest
CROSS JOIN LATERAL (
    SELECT coalesce(added.first_at, $3::timestamptz) AS next_at, (
        SELECT min(retired_at) FROM unnest(retirements.moments) AS retired_at
        WHERE retired_at >= carried.observed_at AND retired_at < coalesce(added.first_at, $3::timestamptz)
    ) AS retired_at
) AS carried_end
CROSS JOIN LATERAL (
    SELECT
        $3::timestamptz - CASE WHEN carried.observed_at IS NULL THEN added.first_at ELSE $2::timestamptz END
            - coalesce(added.retired, INTERVAL '0')
            - CASE WHEN carried_end.retired_at IS NULL THEN INTERVAL '0'
                ELSE carried_end.next_at - greatest(carried_end.retired_at, $2::timestamptz) END
            AS observed,
        coalesce(added.not_online, INTERVAL '0')
            + CASE WHEN carried.observed_at IS NULL THEN INTERVAL '0' ELSE greatest(
                greatest(least(carried_end.next_at, carried_end.retired_at), $2::timestamptz)
                    - CASE WHEN carried.status = 'ONLINE' THEN greatest(carried.held_until, $2::timestamptz)
                        ELSE $2::timestamptz END,
                INTERVAL '0'
            ) END
            AS not_online
) AS day
ORDER BY nodes.host COLLATE "C", nodes.ip COLLATE "C"
