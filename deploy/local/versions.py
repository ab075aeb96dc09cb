"""The versions of everything that the local stack fetches, in one place.

Neighbours: `kafka` hands its numbers to Maven, `timescale` its own to APT.
Guarantee: nothing else in the local stack names a version of Kafka, PostgreSQL or TimescaleDB.
"""

KAFKA_VERSION = "4.3.0"
KAFKA_SCALA_SERIES = "2.13"
# The version of log4j-core that this Kafka brings: a back end must be of the same release.
LOG4J_VERSION = "2.25.4"
MAVEN_DEPENDENCY_PLUGIN_VERSION = "3.8.1"
JAVA_LEAST_VERSION = 17

POSTGRESQL_MAJOR = "17"
# Debian fixes bugs within a series; the series itself does not move within a release.
TIMESCALEDB_SERIES = "2.19"
DEBIAN_SUITE = "trixie"
