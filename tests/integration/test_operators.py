"""`weir user`, `weir workspace`, `weir bucket`, as an operator's shell runs them, on a real database."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from api.tenancy.passwords import is_password
from tests.support.processes import WEIR

UNKNOWN = "f" * 24


class Shell:
    """Runs the installed command against one database."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._dsn = dsn
        self._folder = folder

    def __call__(self, *arguments: str, typed: str = "", code: int = 0) -> str:
        """Standard output of one command, which must end with ``code``; what went wrong, if it should."""
        done = subprocess.run(
            [WEIR, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=30,
            cwd=self._folder,
            env={**os.environ, "WEIR_DATABASE_DSN": self._dsn},
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout.strip() if code == 0 else done.stderr.strip()

    def row(self, query: str, *parameters: object) -> tuple[object, ...] | None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            return connection.execute(query.encode(), parameters).fetchone()


@pytest.fixture
def weir(database_dsn: str, tmp_path: Path) -> Shell:
    return Shell(database_dsn, tmp_path)


def test_from_nobody_to_a_bucket_and_back(weir: Shell) -> None:
    ada = weir("user", "create", "Ada@example.com", "--password", typed="correct horse\n")
    bob = weir("user", "create", "bob@example.com", "--name", "Bob [b]", "--superuser")
    row = weir.row("SELECT password_hash, superuser, email_confirmed_at FROM users WHERE user_id = %s", ada)
    assert row is not None
    assert is_password("correct horse", str(row[0]))
    assert row[1] is False
    assert row[2] is not None
    listed = weir("user", "list")
    assert ada in listed
    assert "Bob [b]" in listed
    weir("user", "superuser", "ada@example.com")
    weir("user", "superuser", bob, "--off")
    assert weir.row("SELECT superuser FROM users WHERE user_id = %s", ada) == (True,)
    assert weir.row("SELECT superuser FROM users WHERE user_id = %s", bob) == (False,)

    workspace = weir("workspace", "create", "lab", "--owner", "ada@example.com")
    weir("workspace", "add-member", "lab", "bob@example.com", "--role", "admin")
    members = "SELECT role FROM workspace_members WHERE workspace_id = %s AND user_id = %s"
    assert weir.row(members, workspace, ada) == ("owner",)
    assert weir.row(members, workspace, bob) == ("admin",)
    assert workspace in weir("workspace", "list")

    bucket = weir(
        "bucket", "create", "readings", "--owner", ada, "--workspace", "lab", "--retention-days", "7"
    )
    assert "7 days" in weir("bucket", "list")
    key = weir("key", "create", "--bucket", bucket)
    assert key.startswith("weir_ingest_")
    assert "--yes" in weir("bucket", "delete", bucket, code=1)
    assert weir.row("SELECT deleted_at FROM buckets WHERE bucket_id = %s", bucket) == (None,)
    weir("bucket", "delete", bucket, "--yes")
    assert bucket not in weir("bucket", "list")
    assert weir.row("SELECT count(*) FROM api_keys") == (0,)
    assert weir.row("SELECT count(*) FROM bucket_keys WHERE retired_at IS NULL") == (0,)
    weir("bucket", "delete", bucket, "--yes", code=1)


def test_a_new_password_ends_what_the_old_one_began(weir: Shell) -> None:
    user = weir("user", "create", "ada@example.com")
    weir.row(
        "INSERT INTO access_tokens (secret_sha256, user_id, expires_at)"
        " VALUES (sha256('x'), %s, now() + INTERVAL '1 hour') RETURNING 1",
        user,
    )
    weir("user", "password", "ada@example.com", typed="correct horse\n")
    assert weir.row("SELECT count(*) FROM access_tokens WHERE revoked_at IS NULL") == (0,)
    assert "characters" in weir("user", "password", user, typed="short\n", code=1)


def test_what_is_not_there_or_means_two_things_changes_nothing(weir: Shell) -> None:
    weir("user", "create", "ada@example.com")
    assert "address of a user" in weir("user", "create", "ADA@example.com", code=1)
    weir("user", "create", "no address", code=1)
    weir("workspace", "create", "twice")
    weir("workspace", "create", "twice")
    for arguments in (
        ("user", "superuser", "unknown@example.com"),
        ("workspace", "create", "x", "--owner", UNKNOWN),
        ("workspace", "add-member", "twice", "ada@example.com"),
        ("workspace", "add-member", UNKNOWN, "ada@example.com"),
        ("bucket", "create", "x", "--owner", "ada@example.com", "--workspace", "twice"),
        ("bucket", "delete", UNKNOWN, "--yes"),
    ):
        weir(*arguments, code=1)
    assert weir.row("SELECT count(*) FROM workspaces") == (2,)
    assert weir.row("SELECT count(*) FROM buckets") == (0,)
