-- What node statistics read of a report stands in its identity's index, so that a day of many nodes is read in the order
-- of the index alone, and not page by page of a table in which the nodes' reports lie by turns.
CREATE UNIQUE INDEX node_reports_covering ON node_reports (bucket_id, ip, host, observed_at DESC)
    INCLUDE (status, latency_ms, interval_seconds);
DROP INDEX node_reports_identity;
ALTER INDEX node_reports_covering RENAME TO node_reports_identity;
