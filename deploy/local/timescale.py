"""TimescaleDB on PostgreSQL on this machine: fetched, set up and run without touching the system.

The packages are Debian 13's. A machine that has them installed runs its own; every other one gets them
unpacked into a folder of ours.

Neighbours: `debian_packages` fetches, `timescale_configuration` holds the settings, `postgres_leftovers`
clears up after a crash, `server` runs the process.
Guarantee: `start` returns once the server takes queries, or raises; after `kill` at any moment the next start
recovers everything that was committed. The superuser's password is random and only in a file that its owner
alone can read.
"""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from deploy.local.account import can_enter, server_account
from deploy.local.debian_packages import Apt, give_own_loader, machine_source, unpack
from deploy.local.downloads import (
    Progress,
    ProgressCallback,
    installation_lock,
    new_folder,
    run_bounded,
    silent,
)
from deploy.local.paths import Paths, local_paths
from deploy.local.ports import LOOPBACK
from deploy.local.postgres_leftovers import clear_leftovers, end_orphans
from deploy.local.private_files import write_private
from deploy.local.server import ServerProcess
from deploy.local.timescale_configuration import CONFIGURATION_FILE, configuration, server_environment
from deploy.local.versions import DEBIAN_SUITE, POSTGRESQL_MAJOR, TIMESCALEDB_SERIES
from schema.errors import Unavailable

PACKAGE = f"postgresql-{POSTGRESQL_MAJOR}-timescaledb"
SYSTEM_PROGRAM = Path("/")
BINARIES = Path("usr/lib/postgresql") / POSTGRESQL_MAJOR / "bin"
LIBRARY = Path("usr/lib/postgresql") / POSTGRESQL_MAJOR / "lib" / "timescaledb.so"
PATCHED = (
    "postgres",
    "initdb",
    "pg_ctl",
    "pg_controldata",
    "pg_isready",
    "psql",
    "pg_dump",
    "pg_restore",
    "pgbench",
)
COMPLETE = "complete"
SUPERUSER = "weir"
DATABASE = "weir"

INSTALL_SECONDS = 420.0
INITDB_SECONDS = 90.0
START_SECONDS = 90.0
STOP_SECONDS = 10.0
CONNECT_SECONDS = 5


def install(progress: ProgressCallback = silent, *, paths: Paths | None = None) -> Path:
    """Fetch PostgreSQL with TimescaleDB unless they are there; returns the root folder they lie below.

    Raises:
        Unavailable: not a Debian machine, or the download failed.
    """
    program = system_program() or (paths or local_paths()).timescale_program
    if is_installed(program):
        return program
    with installation_lock(program.parent, timeout_seconds=INSTALL_SECONDS):
        if not is_installed(program):
            fetch(program, progress)
    progress(Progress("database", f"TimescaleDB {TIMESCALEDB_SERIES} is there", 1.0))
    return program


def system_program() -> Path | None:
    """`/` if this machine has the very packages installed, else None."""
    have = all((SYSTEM_PROGRAM / part).exists() for part in (BINARIES / "postgres", LIBRARY))
    return SYSTEM_PROGRAM if have else None


def is_installed(program: Path) -> bool:
    """Whether the folder holds a whole installation, and lies where it was made for."""
    if program == SYSTEM_PROGRAM:
        return True
    try:
        # The programs know their loader by its full path: a folder that was moved has to be made again.
        return (program / COMPLETE).read_text(encoding="utf-8") == str(program.resolve())
    except OSError:
        return False


def fetch(program: Path, progress: ProgressCallback) -> None:
    """Fetch and unpack the packages into `program`, and make the programs use the libraries beside them."""
    progress(Progress("database", "reading Debian's package lists", 0.0))
    with (
        tempfile.TemporaryDirectory(prefix="weir-packages-", dir=program.parent) as folder,
        new_folder(program) as fresh,
    ):
        apt = Apt(Path(folder))
        apt.prepare(machine_source(), DEBIAN_SUITE)
        packages = [found for found in apt.needed_by(PACKAGE) if is_used(found[0])]
        versions = dict(packages)
        if not versions.get(PACKAGE, "").startswith(f"{TIMESCALEDB_SERIES}."):
            raise Unavailable(
                f"{DEBIAN_SUITE} offers TimescaleDB {versions.get(PACKAGE)}, not {TIMESCALEDB_SERIES}"
            )
        seen = 0

        def count(line: str) -> None:
            nonlocal seen
            if line.startswith("Get:"):
                seen += 1
                name = next((word for word in line.split() if word in versions), "packages")
                progress(Progress("database", name, 0.2 + 0.6 * seen / max(len(packages), 1)))

        archives = apt.download(packages, count)
        progress(Progress("database", "unpacking", 0.8))
        unpack(archives, fresh)
        for name in PATCHED:
            give_own_loader(fresh / BINARIES / name, fresh, program)
        (fresh / COMPLETE).write_text(str(program.resolve()), encoding="utf-8")
        fresh.chmod(0o755)


def is_used(package: str) -> bool:
    """Whether a package's files take part when the server runs.

    Perl serves Debian's wrappers, LLVM and z3 the compilation of queries (off here), locales are built in.
    """
    if package.startswith(("libllvm", "libz3", "libperl", "libpam-modules", "libc-bin", "libc-l10n")):
        return False
    if package.endswith("-perl"):
        return False
    return package.startswith(
        ("lib", "zlib", f"postgresql-{POSTGRESQL_MAJOR}", f"postgresql-client-{POSTGRESQL_MAJOR}")
    )


class TimescaleServer:
    """A database server of our own. `pid`, `stop` and `kill` also find one that was started elsewhere.

    In the folder: `cluster/` (the data), `socket/`, `server.log`, `superuser-password` (mode 0600).

    Args:
        data_directory: where all of that lies; under root, a folder that the server's account can enter.
        port: where it listens, on the loopback address and in the socket's name.
        settings: PostgreSQL settings that replace or complete ours, by name.
    """

    def __init__(
        self,
        data_directory: Path,
        port: int,
        *,
        settings: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self.data_directory = data_directory.absolute()
        self.port = port
        self.log = self.data_directory / "server.log"
        self._cluster = self.data_directory / "cluster"
        self._password_file = self.data_directory / "superuser-password"
        self._settings = dict(settings or {})
        self._program = program
        self._account = server_account()
        self._process = ServerProcess(
            "PostgreSQL",
            record=self.data_directory / "process.json",
            output=self.log,
            # Fast shutdown: what it does not wait for is clients that stay connected.
            end_signal=signal.SIGINT,
        )

    @property
    def dsn(self) -> str:
        """The superuser's DSN of the database `weir`.

        Raises:
            Unavailable: the server was never started, so it has no password yet.
        """
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The superuser's DSN of a database of this server."""
        try:
            password = self._password_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise Unavailable(f"there is no database server in {self.data_directory} yet") from None
        return f"postgresql://{SUPERUSER}:{quote(password)}@{LOOPBACK}:{self.port}/{quote(database)}"

    @property
    def pid(self) -> int | None:
        """The process number of the postmaster while it runs."""
        return self._process.pid

    def start(self, *, detached: bool = False, timeout_seconds: float = START_SECONDS) -> None:
        """Start the server and wait until it takes queries; a new folder gets a cluster first.

        Raises:
            Unavailable: not installed, running already, or not serving in time (its last words are in the
                message).
        """
        program = self._program or system_program() or local_paths().timescale_program
        if not is_installed(program):
            raise Unavailable("TimescaleDB is not installed yet: make setup")
        binaries = program / BINARIES
        self._prepare_folder()
        if not (self._cluster / "PG_VERSION").is_file():
            self._make_cluster(binaries)
        clear_leftovers(self._cluster)
        socket = self.data_directory / "socket"
        (self._cluster / CONFIGURATION_FILE).write_text(
            configuration(port=self.port, socket=socket, changes=self._settings), encoding="utf-8"
        )
        self._process.begin(
            [str(binaries / "postgres"), "-D", str(self._cluster)],
            environment=server_environment(os.environ),
            directory=self._cluster,
            account=self._account,
            detached=detached,
        )
        self._process.wait_until(self._serves, timeout_seconds=timeout_seconds)
        self._ensure_database()

    def stop(self, grace_seconds: float = STOP_SECONDS) -> bool:
        """Let it break its connections and end; kill it after the grace. True if it ended by itself."""
        ended = self._process.end(grace_seconds=grace_seconds)
        if not ended:
            end_orphans(self._cluster)
        return ended

    def kill(self) -> None:
        """End it at once, as a crash of the postmaster would; what it leaves behind is ended too."""
        self._process.kill()
        end_orphans(self._cluster)

    def _prepare_folder(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True)
        if self._account is None:
            (self.data_directory / "socket").mkdir(mode=0o700, exist_ok=True)
            return
        if not can_enter(self._account, self.data_directory):
            raise Unavailable(
                f"PostgreSQL refuses to run as root, and the user {self._account.name}, its stand-in, "
                f"cannot enter {self.data_directory}. Give a folder open to others in WEIR_HOME."
            )
        for folder, mode in ((self._cluster, 0o700), (self.data_directory / "socket", 0o755)):
            folder.mkdir(mode=mode, exist_ok=True)
            os.chown(folder, self._account.user_id, self._account.group_id)

    def _make_cluster(self, binaries: Path) -> None:
        password = secrets.token_urlsafe(32)
        shutil.rmtree(self._cluster, ignore_errors=True)
        self._prepare_folder()
        with tempfile.NamedTemporaryFile(
            "w", dir=self.data_directory, prefix=".password-", encoding="ascii"
        ) as file:
            if self._account is not None:
                os.fchown(file.fileno(), self._account.user_id, self._account.group_id)
            file.write(password)
            file.flush()
            become = [] if self._account is None else ["setpriv", *self._account.become, "--"]
            run_bounded(
                [
                    *become,
                    *(str(binaries / "initdb"), "--pgdata", str(self._cluster), "--username", SUPERUSER),
                    *("--auth=scram-sha-256", f"--pwfile={file.name}", "--encoding=UTF8"),
                    # Built in: the order of texts does not change with the machine's C library.
                    *(
                        "--locale-provider=builtin",
                        "--locale=C.UTF-8",
                        "--data-checksums",
                        "--no-instructions",
                    ),
                ],
                timeout_seconds=INITDB_SECONDS,
                purpose="making the database's folder",
                environment=server_environment(os.environ),
                directory=self.data_directory,
            )
        write_private(self._password_file, password)
        with (self._cluster / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude = '{CONFIGURATION_FILE}'\n")

    def _serves(self) -> bool:
        try:
            with psycopg.connect(self.dsn_of("postgres"), connect_timeout=CONNECT_SECONDS) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_database(self) -> None:
        with psycopg.connect(
            self.dsn_of("postgres"), connect_timeout=CONNECT_SECONDS, autocommit=True
        ) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
