"""What a server needs before anything of ours can work with it: topics, migrations, somebody to begin with.

Neighbours: `deploy.local.stack` calls this as soon as the one server or the other serves; `weir migrate` too.
Guarantee: all of it may be done again at any time, and then changes nothing that is there already.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from api.tenancy.administration import (
    FirstRun,
    administration,
    create_access_token,
    first_run,
    revoke_access_tokens,
)
from deploy.local.credentials import read_first_run, write_first_run
from schema.errors import Unavailable
from schema.migrations.migrate import MigrationReport, set_chunk_hours, upgrade
from schema.settings import KafkaSettings
from schema.topics import ensure_topics

# `weir down` ends the token; this only bounds what a supervisor that was killed leaves behind.
ACCESS_TOKEN_LIFETIME = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A prepared database, and who may use it."""

    dsn: str
    first: FirstRun
    access_token: str


def make_topics(bootstrap: str) -> None:
    """Make the topics of the settings on this Kafka, unless they are there.

    Raises:
        Unavailable: Kafka does not answer, or refuses.
    """
    asyncio.run(ensure_topics(KafkaSettings(kafka_bootstrap=bootstrap)))


def migrated(dsn: str, *, chunk_hours: int | None = None) -> MigrationReport:
    """Bring a database to the newest revision; if given, new chunks of events span so many hours.

    Raises:
        Invalid: no chunk can span that, or its TimescaleDB is of a release that does not serve.
        Unavailable: it cannot be reached, or refuses (no TimescaleDB, no right); the message is the server's.
    """
    try:
        report = upgrade(dsn)
        if chunk_hours is not None:
            set_chunk_hours(dsn, chunk_hours)
    except (SQLAlchemyError, psycopg.Error) as error:
        said = str(getattr(error, "orig", error)).strip().splitlines()
        raise Unavailable(f"database: {said[0] if said else type(error).__name__}") from error
    return report


def make_tenancy(dsn: str, home: Path) -> Tenancy:
    """The first run's workspace, user, bucket and keys, made once and kept in `home`; a new access token.

    Raises:
        Unavailable: the database does not answer.
    """
    kept = read_first_run(home)
    with administration(dsn) as connection:
        first = first_run(connection, kept, key_name=f"local stack in {home}")
        # Those of a supervisor that was killed before it could.
        revoke_access_tokens(connection, first.refresh_token)
        access_token = create_access_token(
            connection, first.user_id, lifetime=ACCESS_TOKEN_LIFETIME, refresh_token=first.refresh_token
        )
    if first != kept:
        write_first_run(home, first)
    return Tenancy(dsn, first, access_token)


def end_tenancy(tenancy: Tenancy) -> None:
    """Revoke the access token; all else stays.

    Raises:
        Unavailable: the database does not answer.
    """
    with administration(tenancy.dsn) as connection:
        revoke_access_tokens(connection, tenancy.first.refresh_token)
