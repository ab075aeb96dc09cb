"""Migrating: step by step or at once, again or at the same time, the database comes out the same."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from schema import timescale
from schema.errors import Invalid
from schema.migrations.migrate import configured, newest_revision, set_chunk_hours, upgrade
from tests.support import databases

# Everything that a migration makes: columns, indexes, constraints, rights, views, and what TimescaleDB knows.
# Chunks and internal tables have names of their own in each database, and are left out.
_CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, ordinal_position""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""",
    "rights": """
        SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = 'public' AND grantee LIKE 'weir\\_%' ORDER BY 1, 2, 3""",
    "owners": """
        SELECT c.relname, c.relkind, pg_get_userbyid(c.relowner) FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version' ORDER BY 1""",
    "hypertables": """
        SELECT hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions
        WHERE hypertable_schema = 'public' ORDER BY 1""",
    "aggregates": """
        SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates ORDER BY 1""",
    "state": "SELECT edition, raw_floor, device_days_until, stream_names_until FROM store_state",
    "revision": "SELECT version_num FROM alembic_version",
}
# Views of ours that PostgreSQL knows to read what is the extension's own.
_DEPENDENT = """
SELECT DISTINCT v.relname, n.nspname || '.' || t.relname
FROM pg_depend AS d
JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class AS v ON v.oid = r.ev_class AND v.relnamespace = 'public'::regnamespace
JOIN pg_class AS t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
JOIN pg_namespace AS n ON n.oid = t.relnamespace
WHERE n.nspname IN ('_timescaledb_catalog', '_timescaledb_config', 'timescaledb_information')
"""


def catalogue(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """What is in a database, in a form that can be compared."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET timezone = 'UTC'")
        return {part: connection.execute(text.encode()).fetchall() for part, text in _CATALOGUE.items()}


def upgrade_step_by_step(dsn: str) -> list[str]:
    """Every revision in a run of its own, oldest first, as a database that grew with the project had them."""
    revisions = [script.revision for script in ScriptDirectory.from_config(configured()).walk_revisions()][
        ::-1
    ]
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    for revision in revisions:
        with engine.connect() as connection:
            configuration = configured()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, revision)
            connection.commit()
    engine.dispose()
    return revisions


def test_a_grown_database_is_a_fresh_one(database_server: str, empty_database_dsn: str) -> None:
    """Migrated revision by revision, it has what a database has that was migrated at once."""
    revisions = upgrade_step_by_step(empty_database_dsn)
    assert revisions[-1] == newest_revision()
    with databases.new_database(database_server, "fresh") as name:
        fresh = databases.dsn_of(database_server, name)
        assert upgrade(fresh).revision_after == newest_revision()
        grown, made = catalogue(empty_database_dsn), catalogue(fresh)
    for part in _CATALOGUE:
        assert grown[part] == made[part], part
    assert len(made["columns"]) > 50


def test_migrating_again_changes_nothing(empty_database_dsn: str) -> None:
    """The second run finds the newest revision and leaves everything as it is."""
    first = upgrade(empty_database_dsn)
    before = catalogue(empty_database_dsn)
    second = upgrade(empty_database_dsn)
    assert (first.revision_before, second.revision_before) == (None, newest_revision())
    assert first.edition == second.edition
    assert catalogue(empty_database_dsn) == before


def test_chunks_of_less_than_a_day(database_dsn: str) -> None:
    """They are a divisor of a day, and stay as they are when the database is migrated again."""
    for hours in (0, 5, 25, 48):
        with pytest.raises(Invalid, match="--chunk-hours"):
            set_chunk_hours(database_dsn, hours)
    set_chunk_hours(database_dsn, 6)
    upgrade(database_dsn)
    spans = {name: span for name, column, span in catalogue(database_dsn)["hypertables"] if span is not None}
    assert spans["events"] == timedelta(hours=6)
    assert spans["node_reports"] != timedelta(hours=6)


def test_no_view_is_in_the_way_of_an_update_of_the_extension(database_dsn: str) -> None:
    """Updates make its tables and views anew, and fail while a view of somebody else's reads them."""
    with psycopg.connect(database_dsn) as connection:
        assert connection.execute(_DEPENDENT).fetchall() == []
        connection.execute("CREATE VIEW reading AS SELECT * FROM _timescaledb_catalog.hypertable")
        assert connection.execute(_DEPENDENT).fetchall() == [("reading", "_timescaledb_catalog.hypertable")]
        connection.rollback()


def test_a_release_that_does_not_serve_is_refused_before_anything_is_made(
    empty_database_dsn: str, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new database, and one whose extension was put back."""
    monkeypatch.setattr(timescale, "LEAST", (999, 0, 0))
    for dsn in (empty_database_dsn, database_dsn):
        with pytest.raises(Invalid, match=r"TimescaleDB 2\.\d+\.\d+ is too old: 999\.0\.0 or newer"):
            upgrade(dsn)
    with psycopg.connect(empty_database_dsn) as connection:
        assert connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is None


async def test_migrating_at_the_same_time(empty_database_dsn: str) -> None:
    """Four processes at once: one migrates, the others wait for it and find nothing to do."""
    reports = await asyncio.gather(*(asyncio.to_thread(upgrade, empty_database_dsn) for _ in range(4)))
    assert sorted(str(report.revision_before) for report in reports) == sorted(
        ["None", *[newest_revision()] * 3]
    )
