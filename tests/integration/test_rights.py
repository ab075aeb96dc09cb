"""Each role may do what its duty needs, table by table, and nothing else: tried, not only read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from tests.support.databases import clone_of

Connection = psycopg.Connection[tuple[object, ...]]
ROLES = ("weir_gateway", "weir_writer", "weir_api")
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")

R, RI, RIU, RID, ALL = "S", "SI", "SIU", "SID", "SIUD"
# Letters: select, insert, update, delete. Columns in brackets: only these may be read. What is missing from a
# role's list it may not touch.
MAY: dict[str, dict[str, str]] = {
    "weir_gateway": {
        "store_state": R,
        "alembic_version": R,
        "bucket_members": R,
        "workspace_members": R,
        "api_keys": "(secret_sha256,scope,user_id,bucket_id,revoked_at)",
        "buckets": "(bucket_id,workspace_id,retention_days,events_per_second,deleted_at,public_id,"
        "secret_id_sha256)",
        "users": "(user_id,superuser)",
        "partition_offsets": "(topic,partition,epoch,next_offset,last_record_at)",
    },
    "weir_writer": {
        "store_state": R,
        "alembic_version": R,
        "fences": R,
        "buckets": "(bucket_id,bucket_key,deleted_at)",
        "events": RI,
        "node_reports": RI,
        "dead_letters": RI,
        "late_hours": RI,
        "partition_offsets": RIU,
        # In the Apache edition; nobody writes to a continuous aggregate.
        "event_counts_minute": RIU,
        "event_counts_hour": RIU,
        "event_counts_day": RIU,
    },
    "weir_api": {
        "store_state": R,
        "alembic_version": R,
        "events": R,
        "node_reports": R,
        "event_counts_minute": R,
        "event_counts_hour": R,
        "event_counts_day": R,
        "device_counts_day": R,
        "event_counts_minute_built": R,
        "event_counts_hour_built": R,
        "event_counts_day_built": R,
        "device_counts_day_built": R,
        "partition_offsets": R,
        "late_hours": R,
        "rollup_stale_hours": R,
        "rollup_coverage": R,
        "dead_letters": R,
        "workspaces": RI,
        "workspace_members": RIU,
        "users": RIU,
        "buckets": RIU,
        "bucket_keys": RIU,
        "fences": RIU,
        "refresh_tokens": RIU,
        "bucket_members": ALL,
        "api_keys": ALL,
        "access_tokens": ALL,
        "bucket_user_options": ALL,
        "bucket_invitations": ALL,
        "bucket_feedback": ALL,
        "mail_tokens": ALL,
        "devices": ALL,
        "node_retirements": RID,
        "stream_names": R,
    },
}
ROLLUPS = ("event_counts_minute", "event_counts_hour", "event_counts_day", "device_counts_day")
VIEWS = ("rollup_stale_hours", "rollup_coverage", *(f"{rollup}_built" for rollup in ROLLUPS))


@pytest.fixture(scope="module")
def connection(database_server: str, template_database: str) -> Iterator[Connection]:
    """A superuser's, who takes the roles on."""
    with clone_of(database_server, template_database) as dsn, psycopg.connect(dsn) as found:
        yield found


def relations(connection: Connection) -> dict[str, list[str]]:
    """Tables and views of ours, with their columns."""
    rows = connection.execute(
        "SELECT relname, array_agg(attname::text ORDER BY attnum) FROM pg_class"
        " JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') GROUP BY 1"
    ).fetchall()
    return {str(name): list(columns) for name, columns in rows}  # type: ignore[call-overload]


def has_right(connection: Connection, role: str, table: str, verb: str) -> bool:
    row = connection.execute("SELECT has_table_privilege(%s, %s, %s)", [role, table, verb]).fetchone()
    return row == (True,)


def refused(connection: Connection, role: str, statement: sql.Composed | bytes) -> bool:
    """Whether a role may not even try. Nothing of the attempt stays."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return True
        except psycopg.Error:
            # Its rights were enough; the values were not.
            return False
    return False


_ATTEMPTS: dict[str, LiteralString] = {
    "SELECT": "SELECT {column} FROM {table} LIMIT 0",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
}


def attempt(verb: str, table: str, column: str) -> sql.Composed:
    named = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
    return sql.SQL(_ATTEMPTS[verb]).format(**named)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_does_what_it_must_and_nothing_else(connection: Connection, role: str) -> None:
    (edition,) = connection.execute("SELECT edition FROM store_state").fetchone() or ("",)
    for table, columns in relations(connection).items():
        may = MAY[role].get(table, "")
        if edition == "community" and table in ROLLUPS and role == "weir_writer":
            may = ""
        readable = may[1:-1].split(",") if may.startswith("(") else columns if "S" in may else []
        assert set(readable) <= set(columns), f"{table} has no longer the columns {readable}"
        for column in columns:
            allowed = column in readable
            assert refused(connection, role, attempt("SELECT", table, column)) != allowed, (table, column)
        for verb in VERBS[1:]:
            allowed = not may.startswith("(") and verb[0] in may and verb != "TRUNCATE"
            if table in VIEWS or (edition == "community" and table in ROLLUPS):
                # What is no table says so before it looks at rights.
                assert has_right(connection, role, table, verb) == allowed, (table, verb)
            else:
                assert refused(connection, role, attempt(verb, table, columns[-1])) != allowed, (table, verb)


FORBIDDEN = {
    "become the owner": b"SET ROLE weir_maintenance",
    "become a superuser": b"ALTER ROLE CURRENT_USER SUPERUSER",
    "make a role": b"CREATE ROLE weir_more",
    "make a table": b"CREATE TABLE mine (a int)",
    "make a schema": b"CREATE SCHEMA mine",
    "make a function": b"CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make an extension": b"CREATE EXTENSION dblink",
    "change a table": b"ALTER TABLE events ADD COLUMN mine int",
    "drop a table": b"DROP TABLE events",
    "put a trigger on a table": b"CREATE TRIGGER mine BEFORE UPDATE ON fences"
    b" FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "drop chunks": b"SELECT drop_chunks('events', now())",
    "read a file": b"SELECT pg_read_file('/etc/passwd')",
    "list a folder": b"SELECT pg_ls_dir('.')",
    "write a file": b"COPY (SELECT 1) TO '/tmp/weir-mine'",
    "run a program": b"COPY (SELECT 1) TO PROGRAM 'true'",
    "read passwords of roles": b"SELECT rolpassword FROM pg_authid",
    "lift a limit of the server": b"SET log_statement = 'none'",
    "skip constraints": b"SET session_replication_role = replica",
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_process_can_go_beyond_the_tables(connection: Connection, role: str, what: str) -> None:
    # A superuser may take on any role again: the session has to be the role's own.
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL SESSION AUTHORIZATION {}").format(sql.Identifier(role)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(FORBIDDEN[what])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        b"INSERT INTO users (user_id, email, username, superuser) VALUES (repeat('a', 24), 'a@b', 'a', true)",
        b"UPDATE users SET superuser = true",
        b"UPDATE users SET email = 'a@b.c', superuser = DEFAULT WHERE false",
    ],
    ids=["made", "changed", "changed among others"],
)
def test_no_process_makes_a_superuser(connection: Connection, role: str, statement: bytes) -> None:
    assert refused(connection, role, statement)


def test_the_query_api_still_makes_users(connection: Connection) -> None:
    statement = b"INSERT INTO users (user_id, email, username) VALUES (repeat('a', 24), 'a@b.c', 'a')"
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE weir_api")
        connection.execute(statement)
        connection.execute("SELECT username FROM users FOR UPDATE")
        connection.execute("UPDATE users SET password_hash = '', email_confirmed_at = now()")
        assert connection.execute("SELECT superuser FROM users").fetchall() == [(False,)]


@pytest.mark.parametrize("role", ROLES)
def test_only_the_writer_makes_temporary_tables(connection: Connection, role: str) -> None:
    assert refused(connection, role, b"CREATE TEMPORARY TABLE mine (a int)") == (role != "weir_writer")


@pytest.mark.parametrize("role", [*ROLES, "weir_maintenance"])
def test_no_role_of_ours_is_more_than_its_rights(connection: Connection, role: str) -> None:
    """Nobody can log in as one without being made a member; none is more than an ordinary role."""
    row = connection.execute(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
        " EXISTS (SELECT FROM pg_auth_members WHERE member = pg_roles.oid) FROM pg_roles WHERE rolname = %s",
        [role],
    ).fetchone()
    assert row == (False,) * 7
