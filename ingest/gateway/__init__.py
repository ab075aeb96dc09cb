"""The way into Kafka: HTTP requests become records of the events topic, acknowledged before the 202.

In the order in which a request meets them: ``process`` (the process and what lives as long as it), ``app``
(the routes; their ``paths``, and how they are ``described``), ``intake`` (the steps that every write has in
common), ``keys`` and ``grants`` (the ingest key: whose it is and what it allows), ``backlog`` (whether the
topic may take more; epochs and the raw floor), ``idempotency`` (the key that makes a request repeatable),
``dialects`` (a body becomes events), ``admission`` and ``json_text`` (which events may be stored, and their
encoding), ``quota`` (a bucket's rate), ``pm2`` (the door of PM2's agent), ``publisher`` (gathering into
records, acknowledgements), ``producing`` (the Kafka producer, given up and made anew when it is stuck).
"""
