"""Where the local stack keeps its programs and its data.

    <home>/programs/…     what was fetched; can be deleted at any time, `make setup` fetches it again
    <home>/data/…         what the servers stored

The home is `.weir/` in the project, or what `WEIR_HOME` says. PostgreSQL refuses to run as root: under root
its programs and its data have to be where another user can enter, so if the home is closed to that user (a
clone in root's own home is), PostgreSQL's part lives under `/var/lib/weir/` instead.

Neighbours: `kafka`, `timescale` and the supervisor ask; `account` says who that other user is.
Guarantee: asking creates nothing.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from deploy.local.account import Account, can_enter, server_account
from deploy.local.versions import KAFKA_VERSION, POSTGRESQL_MAJOR, TIMESCALEDB_SERIES

HOME_VARIABLE = "WEIR_HOME"
OPEN_HOME = Path("/var/lib/weir")


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of one local stack; `database_home` is `home` unless that is closed to PostgreSQL."""

    home: Path
    database_home: Path

    @property
    def kafka_program(self) -> Path:
        """The folder of Kafka's jars."""
        return self.home / "programs" / f"kafka-{KAFKA_VERSION}"

    @property
    def kafka_data(self) -> Path:
        """The folder of the local broker."""
        return self.home / "data" / "kafka"

    @property
    def timescale_program(self) -> Path:
        """The root folder into which PostgreSQL's and TimescaleDB's packages are unpacked."""
        return (
            self.database_home
            / "programs"
            / f"timescaledb-{TIMESCALEDB_SERIES}-postgresql-{POSTGRESQL_MAJOR}"
        )

    @property
    def timescale_data(self) -> Path:
        """The folder of the local database server."""
        return self.database_home / "data" / "timescale"


def project_root() -> Path:
    """The clone this code runs from; the current folder when it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def local_paths(home: Path | None = None) -> Paths:
    """The paths of the stack at `home` (default: `WEIR_HOME`, else `.weir/` of the project)."""
    given = home or os.environ.get(HOME_VARIABLE) or project_root() / ".weir"
    chosen = Path(given).expanduser().absolute()
    return Paths(home=chosen, database_home=database_home(chosen, server_account()))


def database_home(home: Path, account: Account | None) -> Path:
    """`home` where the account can enter it, else a folder of this home's own under `/var/lib/weir/`.

    The name has a digest of the home in it, so that two closed clones do not share a database.
    """
    if account is None or can_enter(account, home):
        return home
    return OPEN_HOME / hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
