"""A database server that was given, and what a campaign may do to it beside asking it.

It is somebody else's: a campaign makes a database of its own there and drops it again. Its processes, its
disk and its start are out of reach unless the caller says where they are; the faults that need what is out
of reach are left out, and the report names them.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil
import psycopg

from schema.errors import Unavailable
from tests.support.databases import CONNECT_SECONDS, dsn_of, new_database

# What a fault may need of the database (``Fault.needs``).
PROCESSES, START, DISK = "database processes", "database start", "database disk"
START_SECONDS = 90.0
KILL_SECONDS = 10.0
# Nobody makes a disk this large for a test; filling it would be an accident.
MOST_DISK_BYTES = 16 * 1024**3
_POLL_SECONDS = 0.1
# Lines of the file in which PostgreSQL notes its postmaster.
_PID_LINE, _STARTED_LINE, _PORT_LINE = 0, 2, 3
_STARTED_TOLERANCE_SECONDS = 10.0


class DatabaseServer(Protocol):
    """What faults do with a database server, whoever started it."""

    @property
    def dsn(self) -> str:
        """A superuser's, of the campaign's database."""

    @property
    def pid(self) -> int | None:
        """The postmaster while it runs and is within reach."""

    def start(self) -> None:
        """Returns once it serves. Raises Unavailable."""

    def kill(self) -> None:
        """End what is left of it at once."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What of a given server is within reach. ``pid_file``: its ``postmaster.pid``; ``start_command``:
    starts it when it is down, and returns; ``disk``: a folder on the small file system of its data.
    """

    pid_file: Path | None = None
    start_command: str = ""
    disk: Path | None = None

    @property
    def abilities(self) -> set[str]:
        """The needs of faults that it can meet."""
        found = {PROCESSES} if self.pid_file else set()
        if self.pid_file and self.start_command:
            found |= {START}
            # A server that found no room may have ended of it.
            found |= {DISK} if self.disk else set()
        return found


class GivenDatabase:
    """A campaign's database on a given server."""

    def __init__(self, dsn: str, reach: Reach) -> None:
        self.dsn = dsn
        self.disk = reach.disk
        self._pid_file = reach.pid_file
        self._start_command = shlex.split(reach.start_command)
        self._port = urlsplit(dsn).port or 5432

    @property
    def pid(self) -> int | None:
        """The postmaster that listens on the DSN's port, as its file says, if it is alive; else None."""
        if self._pid_file is None:
            return None
        try:
            lines = self._pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
            number, started_at, port = (int(lines[i]) for i in (_PID_LINE, _STARTED_LINE, _PORT_LINE))
            process = psutil.Process(number)
            # A number that was used again belongs to a process that began at another time.
            same = abs(process.create_time() - started_at) < _STARTED_TOLERANCE_SECONDS
            alive = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        return number if same and alive and port == self._port else None

    def start(self) -> None:
        """Have it started unless it serves already; returns once it does.

        Raises:
            Unavailable: there is nobody to start it, or it does not serve in time.
        """
        deadline = time.monotonic() + START_SECONDS
        told = ""
        while not self._serves():
            if not self._start_command:
                raise Unavailable("the given database server is down, and there is no command to start it")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the given database server does not serve after {START_SECONDS:g} s: {told}"
                )
            # Again, since what a killed server left behind may hold its folder for a moment.
            with suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    self._start_command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    timeout=max(1.0, deadline - time.monotonic()),
                )
                told = f"the command ended with {done.returncode}"
            time.sleep(_POLL_SECONDS)

    def kill(self) -> None:
        """End it at once, with all its backends, if it runs and is within reach."""
        pid = self.pid
        if pid is None:
            return
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(pid)
            family = [postmaster, *postmaster.children(recursive=True)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(family, timeout=KILL_SECONDS)

    def _serves(self) -> bool:
        try:
            with psycopg.connect(self.dsn, connect_timeout=CONNECT_SECONDS) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def given_database(server_dsn: str, reach: Reach) -> Iterator[GivenDatabase]:
    """A database of the campaign's own on the server at ``server_dsn``; dropped when the block ends.

    Raises:
        Unavailable: what was said to be within reach is not what it should be.
    """
    with new_database(server_dsn, "chaos") as name:
        server = GivenDatabase(dsn_of(server_dsn, name), reach)
        if reach.pid_file is not None and server.pid is None:
            raise Unavailable(f"{reach.pid_file} names no postmaster that listens on the DSN's port")
        if reach.disk is not None and shutil.disk_usage(reach.disk).total > MOST_DISK_BYTES:
            raise Unavailable(f"the disk of {reach.disk} is too large to be filled by a test")
        try:
            yield server
        finally:
            if START in reach.abilities and server.pid is None:
                server.start()
