"""Databases for tests: one migrated template a run, a clone of it for each test.

PostgreSQL copies a database only while nobody is connected to it, and TimescaleDB keeps a scheduler connected
to every database that it may connect to: a template therefore allows no connections once it is migrated. That
holds on servers of our own and on given ones, in both editions, and needs no setting of the server's.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

CONNECT_SECONDS = 10
COPY_PATIENCE_SECONDS = 20.0
COPY_RETRY_SECONDS = 0.1


def dsn_of(server_dsn: str, database: str) -> str:
    """The DSN of another database of the same server, for the same user."""
    return urlunsplit(urlsplit(server_dsn)._replace(path=f"/{quote(database)}"))


def unique_name(purpose: str) -> str:
    """A name that no other run uses, so that several may share a server."""
    return f"weir_test_{purpose}_{secrets.token_hex(5)}"


def execute(server_dsn: str, statement: str, *names: str) -> None:
    """Run one statement outside of a transaction; each `{}` in it becomes a quoted name."""
    with psycopg.connect(server_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def new_database(server_dsn: str, purpose: str) -> Iterator[str]:
    """An empty database; yields its name and drops it afterwards, whoever is connected."""
    name = unique_name(purpose)
    execute(server_dsn, "CREATE DATABASE {} TEMPLATE template0", name)
    try:
        yield name
    finally:
        drop(server_dsn, name)


def drop(server_dsn: str, name: str) -> None:
    """Drop a database, ending the connections to it."""
    execute(server_dsn, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def close_to_connections(server_dsn: str, name: str) -> None:
    """Let nobody connect to a database any more, TimescaleDB's scheduler included, and end who is."""
    execute(server_dsn, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", name)
    with psycopg.connect(server_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name]
        )


@contextmanager
def clone_of(server_dsn: str, template: str, purpose: str = "clone") -> Iterator[str]:
    """A copy of a closed template; yields its DSN and drops it afterwards."""
    name = unique_name(purpose)
    deadline = time.monotonic() + COPY_PATIENCE_SECONDS
    while True:
        try:
            execute(server_dsn, "CREATE DATABASE {} TEMPLATE {}", name, template)
            break
        except psycopg.errors.ObjectInUse:
            # Another test process may be copying the same template at this moment.
            if time.monotonic() > deadline:
                raise
            time.sleep(COPY_RETRY_SECONDS)
    try:
        copy_rights(server_dsn, template, name)
        yield dsn_of(server_dsn, name)
    finally:
        drop(server_dsn, name)


def copy_rights(server_dsn: str, source: str, target: str) -> None:
    """Give roles the rights on `target` that they have on `source`: a copied database comes without them."""
    with psycopg.connect(server_dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        rights = connection.execute(
            "SELECT pg_get_userbyid(grantee), privilege_type FROM pg_database, aclexplode(datacl)"
            " WHERE datname = %s AND grantee <> 0 AND grantee <> datdba",
            [source],
        ).fetchall()
        kept = connection.execute(
            "SELECT has_database_privilege('public', %s, 'TEMPORARY')", [source]
        ).fetchone()
        if kept == (False,):
            connection.execute(
                sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(target))
            )
        for role, right in rights:
            connection.execute(
                sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
                    sql.SQL(right), sql.Identifier(target), sql.Identifier(role)
                )
            )
