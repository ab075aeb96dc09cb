"""What all the others agree on. Imports nothing of ours.

In the order in which an event meets them: ``settings`` (what a process is told), ``errors`` (the four
kinds), ``identities`` (who may), ``events`` (what an event and a node report are), ``cloud_events`` (what a
CloudEvent is to us), ``records`` (how they travel), ``topics`` (on what, and by which
partition), ``receipts`` (where they went), ``tables`` (where they end, and the rollup ladder),
``timescale`` (which of its releases serve), ``migrations`` (how the tables are made), ``connections``
(asyncpg pools and aiokafka clients), ``logs`` and ``metrics`` (what a process says of itself), ``memory``
(how it stays small).
"""
