"""The tests of Weir.

support/        what several tests share: servers, databases, topics, processes, callers
unit/           pure parts, without any server
integration/    parts of Weir against the real Kafka and the real TimescaleDB
e2e/            the processes as real processes, through their sockets
access_matrix/  every route, every kind of caller, and what is answered
fuzz/           hostile bytes for every reader
conformance/    both doors held to their own descriptions
chaos/          everything broken under load, and counted afterwards
bench/          how fast, beside the raw limits of the machine
"""
