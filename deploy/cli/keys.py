"""`weir key`: create, list, revoke.

Neighbours: `api.tenancy.administration` does it; `deploy.cli.database` says in which database.
Guarantee: a key's text is printed once, when it is made, alone on standard output, so that a script can take
it.
"""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.tenancy.administration import administration, create_api_key, list_api_keys, revoke_api_key
from deploy.cli.database import meant_dsn
from deploy.local.credentials import read_credentials
from deploy.local.paths import local_paths
from schema.errors import Invalid
from schema.identities import Scope

TABLE_WIDTH = 200


def create(scope: str, bucket_id: str | None, name: str) -> int:
    """Make a key and print it."""
    if scope not in set(Scope):
        raise Invalid(f"a key's scope is {', '.join(Scope)}; not {scope}")
    with administration(meant_dsn()) as connection:
        key_id, secret = create_api_key(connection, bucket_id or first_bucket_id(), Scope(scope), name=name)
    print(f"key {key_id}, shown this once:", file=sys.stderr)
    print(secret)
    return 0


def show(bucket_id: str | None, *, everything: bool) -> int:
    """Print a table of keys."""
    with administration(meant_dsn()) as connection:
        keys = list_api_keys(
            connection, bucket_id=None if everything else bucket_id or first_bucket_id(), revoked=everything
        )
    table = Table(box=None, pad_edge=False)
    for column in ("id", "prefix", "scope", "bucket", "created", "revoked", "name"):
        table.add_column(column, no_wrap=True)
    for key in keys:
        table.add_row(
            key.key_id,
            f"{key.prefix}…",
            key.scope,
            key.bucket_id or "of a user",
            f"{key.created_at:%Y-%m-%d %H:%M}",
            f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "",
            escape(key.name),
        )
    # Ids are there to be copied: a line that is too long is the terminal's to break.
    Console(width=TABLE_WIDTH, highlight=False).print(table)
    return 0


def revoke(reference: str) -> int:
    """Revoke a key."""
    with administration(meant_dsn()) as connection:
        key_id = revoke_api_key(connection, reference)
    print(f"key {key_id} is revoked; gateways refuse it within 30 seconds")
    return 0


def first_bucket_id() -> str:
    """The bucket that is meant when none is named.

    Raises:
        Invalid: the local stack is down, so there is no such bucket.
    """
    credentials = read_credentials(local_paths().home)
    if credentials is None:
        raise Invalid("name a bucket with --bucket: the local stack is down, so there is no first one")
    return credentials.bucket.id
