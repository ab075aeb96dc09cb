"""The ground that measurements run on: the two servers, and for each part a database and topics of its own.

The servers keep what they promise in production (fsync, full pages); `--kafka` and `--database` name given
ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg

from deploy.local.kafka import KafkaServer
from deploy.local.timescale import TimescaleServer
from schema.identities import new_bucket_id, new_secret, secret_digest, secret_prefix
from schema.migrations.migrate import upgrade
from schema.settings import KafkaSettings
from schema.topics import ensure_topics
from tests.bench.workload import Bucket
from tests.support import databases, servers
from tests.support.topics import delete_topics, unique_prefix

# The suite's servers are quick and forgetful; these are as the local stack has them.
HONEST_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "log_min_messages": "log",
    # It comes once a minute, to whichever table has grown: not to all rounds alike.
    "autovacuum": "off",
}
PARTITIONS = 8

# The same columns and the same indexes as events, and nothing that goes with it.
EVENTS_TWIN = """
CREATE TABLE {table} (LIKE events);
SELECT create_hypertable(
    '{table}', by_range('observed_at', INTERVAL '1 day'), create_default_indexes => false
);
"""
_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'events'"


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers. ``broker_pid``, ``postmaster_pid``: None where they are given and not ours to look at."""

    folder: Path
    kafka_bootstrap: str
    database_server: str
    template: str
    kafka: KafkaServer | None
    database: TimescaleServer | None

    @property
    def broker_pid(self) -> int | None:
        """The broker's process."""
        return self.kafka.pid if self.kafka else None

    @property
    def postmaster_pid(self) -> int | None:
        """The database server's process."""
        return self.database.pid if self.database else None


@dataclass(frozen=True, slots=True)
class Plot:
    """One part's own piece of ground."""

    ground: Ground
    dsn: str
    prefix: str
    buckets: list[Bucket]

    @property
    def events_topic(self) -> str:
        """The topic that gateway and writer share."""
        return f"{self.prefix}.events"

    def kafka_settings(self) -> KafkaSettings:
        """Settings that name this plot's topics."""
        return KafkaSettings(
            kafka_bootstrap=self.ground.kafka_bootstrap,
            kafka_events_topic=self.events_topic,
            kafka_dead_letters_topic=f"{self.prefix}.dead-letters",
            kafka_group=f"{self.prefix}.writer",
            kafka_partitions=PARTITIONS,
        )

    def environment(self) -> dict[str, str]:
        """The same for processes."""
        settings = self.kafka_settings()
        return {
            "WEIR_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "WEIR_KAFKA_EVENTS_TOPIC": settings.kafka_events_topic,
            "WEIR_KAFKA_DEAD_LETTERS_TOPIC": settings.kafka_dead_letters_topic,
            "WEIR_KAFKA_GROUP": settings.kafka_group,
            "WEIR_KAFKA_PARTITIONS": str(PARTITIONS),
            "WEIR_DATABASE_DSN": self.dsn,
        }


@contextmanager
def prepared(kafka_bootstrap: str | None, database_dsn: str | None) -> Iterator[Ground]:
    """Start the servers that are not given, and migrate a template database."""
    with ExitStack() as stack:
        folder = stack.enter_context(servers.temporary_folder("bench"))
        kafka = None if kafka_bootstrap else stack.enter_context(servers.new_kafka())
        database = None if database_dsn else stack.enter_context(servers.new_timescale(HONEST_SETTINGS))
        if kafka is not None:
            kafka_bootstrap = kafka.bootstrap
        if database is not None:
            database_dsn = databases.dsn_of(database.dsn, "postgres")
        assert kafka_bootstrap is not None
        assert database_dsn is not None
        template = stack.enter_context(databases.new_database(database_dsn, "bench"))
        upgrade(databases.dsn_of(database_dsn, template))
        databases.close_to_connections(database_dsn, template)
        yield Ground(folder, kafka_bootstrap, database_dsn, template, kafka, database)


@asynccontextmanager
async def plot(ground: Ground, *, buckets: int = 4) -> AsyncIterator[Plot]:
    """A migrated database with buckets and a table for raw COPY, and topics; both are removed afterwards."""
    prefix = unique_prefix()
    async with AsyncExitStack() as stack:
        dsn = stack.enter_context(databases.clone_of(ground.database_server, ground.template, "bench"))
        piece = Plot(ground, dsn, prefix, _make_buckets(dsn, buckets))
        with psycopg.connect(dsn, autocommit=True) as connection:
            definitions = [row[0] for row in connection.execute(_INDEXES)]
            for table in ("raw_events", "plain_events"):
                connection.execute(EVENTS_TWIN.format(table=table))
                for definition in definitions:
                    # CREATE INDEX events_… ON public.events …
                    twin = definition.replace(" events_", f" {table}_", 1).replace(
                        ".events ", f".{table} ", 1
                    )
                    connection.execute(twin.encode())
        await ensure_topics(piece.kafka_settings())
        try:
            yield piece
        finally:
            await delete_topics(ground.kafka_bootstrap, prefix)


def _make_buckets(dsn: str, count: int) -> list[Bucket]:
    made = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        workspace_id = new_bucket_id()
        connection.execute("INSERT INTO workspaces VALUES (%s, 'bench')", [workspace_id])
        for _ in range(count):
            bucket_id, key = new_bucket_id(), new_secret("ingest")
            read_key = new_secret("read")
            row = connection.execute(
                "INSERT INTO bucket_keys (bucket_id) VALUES (%s) RETURNING bucket_key", [bucket_id]
            ).fetchone()
            assert row is not None
            connection.execute(
                # Rate 0: unlimited.
                "INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name, events_per_second)"
                " VALUES (%s, %s, %s, 'bench', 0)",
                [bucket_id, row[0], workspace_id],
            )
            for scope, secret in (("ingest", key), ("read", read_key)):
                connection.execute(
                    "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, bucket_id)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    [new_bucket_id(), secret_prefix(secret), secret_digest(secret), scope, bucket_id],
                )
            made.append(Bucket(bucket_id, row[0], key, read_key))
    return made


async def connected(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of the bench's own, as the superuser."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        dsn, timeout=10, command_timeout=300, server_settings={"application_name": "bench"}
    )
    return connection
