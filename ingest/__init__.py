"""From whoever has events into the database.

In the order in which an event meets them: ``agent`` (this machine's events, and a client library),
``gateway`` (the HTTP door into Kafka), ``writer`` (from Kafka into the database, and its upkeep).
"""
