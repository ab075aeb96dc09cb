"""Which database a command means, and its migration.

Neighbours: `deploy.cli.keys` and `weir migrate`; the migrations themselves are in `schema.migrations`.
"""

from deploy.local.paths import local_paths
from deploy.local.settings import LocalSettings
from deploy.local.state import is_supervised, read_state
from schema.errors import Invalid


def meant_dsn() -> str:
    """The database of WEIR_DATABASE_DSN, or that of the local stack while it is up.

    Raises:
        Invalid: neither is there.
    """
    given = LocalSettings().database_dsn
    if given is not None:
        return given
    home = local_paths().home
    state = read_state(home) if is_supervised(home) else None
    if state is None or state.database_dsn is None:
        raise Invalid("no database: the local stack is down (weir up), and WEIR_DATABASE_DSN is not set")
    return state.database_dsn


def show_migration(chunk_hours: int | None) -> int:
    """`weir migrate`: bring it to the newest revision and say what was done."""
    # Alembic is slow to import, and only this command needs it.
    from deploy.local.preparation import migrated

    report = migrated(meant_dsn(), chunk_hours=chunk_hours)
    before = report.revision_before or "nothing"
    if report.revision_before == report.revision_after:
        print(f"the database is at revision {before} already ({report.edition} edition)")
    else:
        print(f"migrated from {before} to revision {report.revision_after} ({report.edition} edition)")
    if chunk_hours is not None:
        print(f"new chunks of events span {chunk_hours} h")
    return 0
