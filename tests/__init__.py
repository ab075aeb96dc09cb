"""The tests of Weir.

support/      what several tests share: servers, databases, topics
unit/         pure parts, without any server
integration/  parts of Weir against the real Kafka and the real TimescaleDB
e2e/          the three processes as real processes, through their sockets
"""
