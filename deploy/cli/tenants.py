"""`weir user`, `weir workspace`, `weir bucket`: made, listed and changed by an operator.

Neighbours: `api.tenancy.administration` and `api.tenancy.registry` do it; `deploy.cli.database` says in which
database.
Guarantee: what is made is printed alone on standard output, by its id, so that a script can take it. A
password is read from the terminal without echo, or from standard input, never from the command line, where
others could see it.
"""

import getpass
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.tenancy import registry
from api.tenancy.administration import (
    add_workspace_member,
    administration,
    create_bucket,
    create_user,
    create_workspace,
)
from deploy.cli.database import meant_dsn
from schema.errors import Invalid

TABLE_WIDTH = 200
WORKSPACE_ROLES = ("owner", "admin", "member")


def make_user(email: str, username: str | None, *, superuser: bool, password: bool) -> int:
    """Make a user and print the id."""
    if "@" not in email:
        raise Invalid(f"{email} is no mail address")
    password_hash = hashed(asked_password()) if password else None
    with administration(meant_dsn()) as connection:
        user_id = create_user(
            connection, email, username=username, superuser=superuser, password_hash=password_hash
        )
    print(user_id)
    return 0


def show_users() -> int:
    """Print a table of users."""
    with administration(meant_dsn()) as connection:
        users = registry.list_users(connection)
    show(
        ("id", "email", "name", "superuser", "password", "confirmed", "created"),
        (
            (
                user.user_id,
                user.email,
                user.username,
                mark(user.superuser),
                mark(user.has_password),
                mark(user.confirmed),
                f"{user.created_at:%Y-%m-%d %H:%M}",
            )
            for user in users
        ),
    )
    return 0


def change_superuser(user: str, *, superuser: bool) -> int:
    """Make a user a superuser, or an ordinary one."""
    with administration(meant_dsn()) as connection:
        user_id = registry.find_user(connection, user)
        registry.set_superuser(connection, user_id, superuser=superuser)
    print(f"user {user_id} is {'a superuser' if superuser else 'an ordinary user'} now", file=sys.stderr)
    return 0


def change_password(user: str) -> int:
    """Give a user a password."""
    password_hash = hashed(asked_password())
    with administration(meant_dsn()) as connection:
        user_id = registry.find_user(connection, user)
        registry.set_password(connection, user_id, password_hash)
    print(f"user {user_id} has a new password; every session has ended", file=sys.stderr)
    return 0


def make_workspace(name: str, owner: str | None) -> int:
    """Make a workspace and print its id."""
    with administration(meant_dsn()) as connection:
        owner_id = registry.find_user(connection, owner) if owner else None
        workspace_id = create_workspace(connection, name)
        if owner_id is not None:
            add_workspace_member(connection, workspace_id, owner_id, "owner")
    print(workspace_id)
    return 0


def show_workspaces() -> int:
    """Print a table of workspaces."""
    with administration(meant_dsn()) as connection:
        workspaces = registry.list_workspaces(connection)
    show(
        ("id", "name", "members", "buckets", "created"),
        (
            (
                one.workspace_id,
                one.name,
                str(one.members),
                str(one.buckets),
                f"{one.created_at:%Y-%m-%d %H:%M}",
            )
            for one in workspaces
        ),
    )
    return 0


def add_member(workspace: str, user: str, role: str) -> int:
    """Give a user a role in a workspace."""
    if role not in WORKSPACE_ROLES:
        raise Invalid(f"a role in a workspace is {', '.join(WORKSPACE_ROLES)}; not {role}")
    with administration(meant_dsn()) as connection:
        workspace_id = registry.find_workspace(connection, workspace)
        user_id = registry.find_user(connection, user)
        add_workspace_member(connection, workspace_id, user_id, role)
    print(f"user {user_id} is {role} of workspace {workspace_id} now", file=sys.stderr)
    return 0


def make_bucket(name: str, owner: str, workspace: str, retention_days: int | None) -> int:
    """Make a bucket and print its id."""
    with administration(meant_dsn()) as connection:
        bucket_id = create_bucket(
            connection,
            registry.find_workspace(connection, workspace),
            name,
            owner_id=registry.find_user(connection, owner),
            retention_days=retention_days,
        )
    print(bucket_id)
    return 0


def show_buckets() -> int:
    """Print a table of buckets."""
    with administration(meant_dsn()) as connection:
        buckets = registry.list_buckets(connection)
    show(
        ("id", "name", "workspace", "owner", "plan", "retention", "created"),
        (
            (
                one.bucket_id,
                one.name,
                one.workspace,
                one.owner or "",
                one.plan or "default",
                f"{one.retention_days} days" if one.retention_days else "unlimited",
                f"{one.created_at:%Y-%m-%d %H:%M}",
            )
            for one in buckets
        ),
    )
    return 0


def end_bucket(bucket_id: str, *, sure: bool) -> int:
    """Delete a bucket with all that is in it."""
    if not sure:
        raise Invalid(f"this deletes all events of bucket {bucket_id} for good; say --yes if that is meant")
    with administration(meant_dsn()) as connection:
        registry.delete_bucket(connection, bucket_id)
    print(f"bucket {bucket_id} is deleted; gateways refuse its keys within 30 seconds", file=sys.stderr)
    return 0


def asked_password() -> str:
    """A password from the terminal, twice, or the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise Invalid("the two are not the same")
    return password


def hashed(password: str) -> str:
    """The argon2id hash of a password. Raises Invalid when it is too short."""
    from api.tenancy.passwords import hash_password

    return hash_password(password)


def mark(value: object) -> str:
    """A yes or nothing."""
    return "yes" if value else ""


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; ids are there to be copied, so a line that is too long is the terminal's to break."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=TABLE_WIDTH, highlight=False).print(table)
