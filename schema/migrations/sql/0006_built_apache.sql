-- What questions read of each rung. Here that is the table itself.
CREATE VIEW event_counts_minute_built AS
    SELECT bucket_key, period, name, event_count FROM event_counts_minute;
CREATE VIEW event_counts_hour_built AS
    SELECT bucket_key, period, name, app, server, event_count FROM event_counts_hour;
CREATE VIEW event_counts_day_built AS
    SELECT bucket_key, period, name, app, server, event_count FROM event_counts_day;
CREATE VIEW device_counts_day_built AS
    SELECT bucket_key, period, device, name, event_count FROM device_counts_day;

GRANT SELECT ON event_counts_minute_built, event_counts_hour_built, event_counts_day_built, device_counts_day_built
    TO weir_api;
