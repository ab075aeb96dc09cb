"""Bring a database to the newest revision; safe to call at any time, from many places at once.

One advisory lock keeps concurrent callers apart; a database that is up to date is left as it is. The
edition of TimescaleDB is detected here and kept in ``store_state``, where every process reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from schema.errors import NO_DSN, Invalid, Unavailable
from schema.tables import LOCK_MIGRATION
from schema.timescale import refusal

HERE = Path(__file__).parent
LOCK_TIMEOUT_SECONDS = 60
# Retention drops whole days, so a day has to be a whole number of chunks.
HOURS_OF_A_DAY = 24

# What is there, or would be made.
_SQL_RELEASE = """
SELECT coalesce(
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
    (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb')
)
"""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What ``upgrade`` found and did. ``edition``: ``apache`` or ``community``."""

    edition: str
    revision_before: str | None
    revision_after: str


def upgrade(dsn: str) -> MigrationReport:
    """Migrate the database at ``dsn`` (a superuser's, or the owner's once the extension is there).

    Raises Invalid when that is no DSN, or its TimescaleDB of a release that does not serve (nothing was
    changed then), Unavailable when it cannot be reached or another migration holds the lock.
    """
    try:
        url = make_url(dsn).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise Invalid(NO_DSN) from None
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.connect() as connection:
            _lock(connection)
            _check_release(connection)
            before = MigrationContext.configure(connection).get_current_revision()
            connection.commit()
            configuration = configured()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            connection.commit()
            edition = connection.exec_driver_sql("SELECT edition FROM store_state").scalar_one()
            after = MigrationContext.configure(connection).get_current_revision()
            connection.commit()
            assert after is not None
            return MigrationReport(edition, before, after)
    except OperationalError as error:
        raise Unavailable(f"database: {error.orig}") from error
    finally:
        engine.dispose()


def set_chunk_hours(dsn: str, hours: int) -> None:
    """Let new chunks of ``events`` span so many hours; those that are there stay as they are.

    Raises Invalid when a day is no multiple of it, Unavailable when the database cannot be reached.
    """
    if hours < 1 or HOURS_OF_A_DAY % hours:
        raise Invalid(
            f"--chunk-hours: {hours} is no divisor of {HOURS_OF_A_DAY}; try 1, 2, 3, 4, 6, 8, 12 or 24"
        )
    try:
        with psycopg.connect(dsn, connect_timeout=10) as connection:
            connection.execute(
                "SELECT set_chunk_time_interval('events', make_interval(hours => %s))", [hours]
            )
    except psycopg.OperationalError as error:
        raise Unavailable(f"database: {error}") from error


def newest_revision() -> str:
    """The revision that this code wants."""
    head = ScriptDirectory.from_config(configured()).get_current_head()
    assert head is not None
    return head


def configured() -> Config:
    """Alembic's configuration, without a file of its own."""
    configuration = Config()
    configuration.set_main_option("script_location", str(HERE))
    return configuration


def run_sql(connection: Connection, name: str) -> None:
    """Execute ``sql/<name>.sql`` as it stands (several statements, no parameters)."""
    cursor = connection.connection.cursor()
    text = (HERE / "sql" / f"{name}.sql").read_text()
    cursor.execute(text)
    cursor.close()


def _check_release(connection: Connection) -> None:
    version = connection.exec_driver_sql(_SQL_RELEASE).scalar_one()
    # Without any, the first statement of the first revision says so.
    if version is not None and (reason := refusal(version)):
        raise Invalid(f"database: {reason}")


def _lock(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    try:
        # Held by the session, so that it outlives Alembic's own transactions, and ends with it at the latest.
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_MIGRATION})")
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise Unavailable("database: another migration is running") from error
        raise
