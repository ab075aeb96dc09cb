"""Connections to PostgreSQL and Kafka, made in one place so that none is made without its bounds.

Every pool connects under the role of its duty (``role`` as a startup parameter: the user of the DSN is
that role or a member of it) and has a deadline for each statement on the client's side, because a
frozen server answers no timeout of its own. Every producer is idempotent with acks=all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, TypeAlias

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from schema.errors import Unavailable
from schema.settings import DatabaseSettings, KafkaSettings
from schema.topics import MAX_RECORD_BYTES

if not structlog.is_configured():
    # Whoever holds a DSN imports this module. Until logs are configured (schema.logs), structlog would write
    # the local variables of every traceback, passwords among them.
    structlog.configure(
        [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )

log = structlog.get_logger(__name__)

_MAX_BATCH_BYTES = 1024 * 1024

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Duty(StrEnum):
    """The database role of a process."""

    GATEWAY = "weir_gateway"
    WRITER = "weir_writer"
    MAINTENANCE = "weir_maintenance"
    API = "weir_api"


async def open_pool(
    settings: DatabaseSettings,
    duty: Duty,
    *,
    dsn: str | None = None,
    server_settings: dict[str, str] | None = None,
    command_seconds: float | None = None,
    clean_sessions: bool = False,
) -> Pool:
    """A pool that connects when first used, so that a process starts while the database is away.

    ``clean_sessions``: its users promise to leave no setting, lock or listener in a session; that saves a
    round trip each time a connection comes back (an open transaction is rolled back all the same).
    """
    return await asyncpg.create_pool(
        dsn or settings.database_dsn,
        min_size=0,
        max_size=settings.database_pool_size,
        reset=_nothing_to_reset if clean_sessions else None,
        **_options(settings, duty, server_settings, command_seconds),
    )


async def _nothing_to_reset(_connection: Connection) -> None:
    """Takes the place of the statement that clears a session."""


async def open_connection(
    settings: DatabaseSettings,
    duty: Duty,
    *,
    dsn: str | None = None,
    server_settings: dict[str, str] | None = None,
    command_seconds: float | None = None,
) -> Connection:
    """One connection, for whoever keeps it. Raises Unavailable."""
    with database_errors(), _refusals():
        return await asyncpg.connect(
            dsn or settings.database_dsn, **_options(settings, duty, server_settings, command_seconds)
        )


def _options(
    settings: DatabaseSettings,
    duty: Duty,
    server_settings: dict[str, str] | None,
    command_seconds: float | None,
) -> dict[str, Any]:
    return {
        "timeout": settings.database_connect_seconds,
        "command_timeout": command_seconds or settings.database_command_seconds,
        "statement_cache_size": settings.database_statement_cache,
        "server_settings": {
            "role": duty.value,
            "application_name": duty.value,
            "timezone": "UTC",
            "jit": "off",
            **(server_settings or {}),
        },
    }


async def close_pool(pool: Pool, grace_seconds: float) -> None:
    """Close a pool within ``grace_seconds``: a connection that is checked out does not hold us up."""
    try:
        await asyncio.wait_for(pool.close(), grace_seconds)
    except TimeoutError:
        pool.terminate()


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn "the database is away" in all its forms into Unavailable; let other errors through."""
    try:
        yield
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise Unavailable(f"database: {error!r}") from error
    except asyncpg.InternalClientError as error:
        # What asyncpg says when the connection goes in the middle of a COPY.
        raise Unavailable(f"database: {error!r}") from error
    except (
        asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
        asyncpg.TooManyConnectionsError,
        asyncpg.QueryCanceledError,
        asyncpg.InternalServerError,
    ) as error:
        raise Unavailable(f"database: {error!r}") from error


@contextmanager
def _refusals() -> Iterator[None]:
    """Whatever refuses a connection (no such database, role, password): to us the server is away."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise Unavailable(f"database: no connection, {error!r}") from error


@asynccontextmanager
async def acquired(pool: Pool, timeout_seconds: float) -> AsyncIterator[PooledConnection]:
    """A connection of the pool, waited for within a bound. Raises Unavailable."""
    with database_errors():
        with _refusals():
            connection = await pool.acquire(timeout=timeout_seconds)
        try:
            yield connection
        finally:
            await pool.release(connection)


def new_producer(settings: KafkaSettings, record_bytes: int = MAX_RECORD_BYTES) -> AIOKafkaProducer:
    """An idempotent producer with acks=all; the caller starts and stops it, with deadlines of its own.

    ``record_bytes``: size of a record at most, headers included.
    """
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        # A larger record still goes, alone. One request carries a batch of every partition, and the client
        # copies it several times over: this bounds what that costs after a pause of the broker's.
        max_batch_size=min(record_bytes, _MAX_BATCH_BYTES),
        max_request_size=record_bytes,
        linger_ms=0,
        request_timeout_ms=int(settings.kafka_request_seconds * 1000),
        retry_backoff_ms=100,
    )


def new_group_consumer(settings: KafkaSettings, session_seconds: float) -> AIOKafkaConsumer:
    """A consumer of the writers' group: offsets are kept in PostgreSQL, never in Kafka."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        group_id=settings.kafka_group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        session_timeout_ms=int(session_seconds * 1000),
        heartbeat_interval_ms=int(session_seconds * 1000 / 4),
        max_poll_interval_ms=300_000,
        # Partition modulo shards stays with one writer for as long as the numbers allow.
        partition_assignment_strategy=[RoundRobinPartitionAssignor],
        fetch_max_bytes=8 * 1024 * 1024,
        # A larger record still arrives, alone; this bounds what is fetched ahead of the database.
        max_partition_fetch_bytes=1024 * 1024,
        fetch_max_wait_ms=50,
        # A topic that was deleted and made anew is found again within this time.
        metadata_max_age_ms=10_000,
        request_timeout_ms=int(settings.kafka_request_seconds * 1000) + 5_000,
    )


def new_reader(settings: KafkaSettings) -> AIOKafkaConsumer:
    """A consumer without a group, for looking at offsets and single records."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        request_timeout_ms=int(settings.kafka_request_seconds * 1000),
    )


def new_tail(settings: KafkaSettings) -> AIOKafkaConsumer:
    """A consumer without a group, for following the end of a topic."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        fetch_max_bytes=4 * 1024 * 1024,
        # A larger record still arrives, alone; this bounds what is fetched ahead of its reader.
        max_partition_fetch_bytes=512 * 1024,
        fetch_max_wait_ms=250,
        # A topic that was deleted and made anew is found again within this time.
        metadata_max_age_ms=10_000,
        request_timeout_ms=int(settings.kafka_request_seconds * 1000),
        retry_backoff_ms=100,
    )


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Turn every failure of the Kafka client into Unavailable.

    A cancellation that nobody asked for is one: the client lets those of its own futures out that it cancels
    when a connection ends.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("Kafka: the client lost its connection") from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka: {error!r}") from error


async def stop_within(stopping: Awaitable[None], grace_seconds: float, what: str) -> None:
    """Await a client's ``stop()`` no longer than its grace: with a dead broker it may never return."""
    task = asyncio.ensure_future(stopping)
    done, _ = await asyncio.wait({task}, timeout=grace_seconds)
    if not done:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, KafkaError, OSError):
            await asyncio.wait({task}, timeout=1.0)
        log.warning("client did not stop in time", client=what, grace_seconds=grace_seconds)
    elif task.cancelled():
        log.warning("client was cancelled while it stopped", client=what)
    elif (error := task.exception()) is not None:
        log.warning("client stopped with an error", client=what, error=repr(error))


async def stop_consumer(consumer: AIOKafkaConsumer, grace_seconds: float, what: str) -> None:
    """Stop a consumer no longer than its grace, connections and all."""
    await stop_within(_stopped(consumer), grace_seconds, what)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # While a broker is away the client trips over a fetch that it has cancelled itself (0.14), and leaves
        # its connections and what looks after them running for ever.
        await consumer._client.close()  # noqa: SLF001
