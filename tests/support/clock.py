"""A database whose clock a test sets: ``now()`` of Weir's statements, on the real server.

A schema before ``pg_catalog`` in the database's search path holds a ``now()`` of the test's own, which every
statement that says ``now()`` without a schema then finds, in any session that begins afterwards. Defaults of
columns keep the server's, and so does whatever the server does by itself.
"""

from __future__ import annotations

from datetime import datetime

import psycopg
from psycopg import sql

from tests.support.databases import CONNECT_SECONDS

_MAKE = """
CREATE SCHEMA clock;
CREATE TABLE clock.hand (shown_at timestamptz NOT NULL, set_at timestamptz NOT NULL, pace float8 NOT NULL);
INSERT INTO clock.hand VALUES (pg_catalog.now(), pg_catalog.now(), 1);
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT shown_at + (pg_catalog.now() - set_at) * pace FROM clock.hand
$$;
GRANT USAGE ON SCHEMA clock TO PUBLIC;
GRANT SELECT ON clock.hand TO PUBLIC;
"""
_SET = "UPDATE clock.hand SET shown_at = %s, set_at = clock_timestamp(), pace = %s"
_PATH = "ALTER DATABASE {} SET search_path = clock, pg_catalog, public"


class Clock:
    """The clock of one database, for sessions that begin after it was made. ``dsn``: a superuser's."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        with psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(_MAKE)
            connection.execute(sql.SQL(_PATH).format(sql.Identifier(connection.info.dbname)))

    def show(self, at: datetime, *, pace: float = 0.0) -> None:
        """Stand at this moment, or go on from it, ``pace`` times as fast as time does."""
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(_SET, [at, pace])
