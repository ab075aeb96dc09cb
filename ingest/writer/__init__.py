"""From Kafka into the database, each acknowledged event exactly once.

In the order in which an event meets them: ``consumer`` (fetches, hands records to lanes, follows
rebalances), ``assignment`` (where a partition goes on, and whether its log is still the one we read),
``continuity`` (whether it still is after a silence), ``lane`` (closes batches, retries, gives up what was
lost), ``batch`` (pure: records to rows and counts), ``portions`` (pure: a batch that touches more than one
transaction should, in smaller ones), ``recent`` (which events were seen a moment ago), ``store`` (the one
transaction), ``statements`` (its SQL), ``poison`` (finds the rows that PostgreSQL refuses), ``dead_letters``
(what cannot be stored). Beside them ``maintenance`` and its steps: ``chunks``, ``refresh``, ``device_days``,
``stream_names``, ``shards``, ``retention``, ``purge``.
``process`` puts all of it together;
``resend`` is for people: dead letters on their way back.
"""
