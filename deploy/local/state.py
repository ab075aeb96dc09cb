"""What another shell may know about a running stack: `.weir/state.json`, and the lock that says it is true.

Neighbours: the supervisor writes; `weir status`, `logs`, `down` and a second `weir up` read.
Guarantee: the file is replaced whole, never seen half written. It is believed only while the lock beside it
is held: the kernel lets go of a lock with its holder, so the file of a supervisor that was killed is
recognised as stale, however its process number is used again.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict

from deploy.local.private_files import write_private

STATE_FILE = "state.json"
LOCK_FILE = "supervisor.lock"


class Phase(StrEnum):
    """Where the stack as a whole stands."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class Standing(StrEnum):
    """Where one process of the stack stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"
    RESTARTING = "restarting"
    CRASH_LOOP = "crash loop"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ProcessState(BaseModel):
    """One process of the stack. `pid_created_at` (Unix seconds) tells a reused process number apart."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    standing: Standing = Standing.WAITING
    pid: int | None = None
    pid_created_at: float | None = None
    url: str | None = None
    log: Path | None = None
    restarts: int = 0
    note: str = ""
    since: datetime | None = None


class StackState(BaseModel):
    """The stack: its supervisor and its processes in the order of their start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    supervisor_pid: int
    supervisor_created_at: float
    started_at: datetime
    phase: Phase = Phase.STARTING
    note: str = ""
    database_dsn: str | None = None
    kafka_bootstrap: str | None = None
    processes: tuple[ProcessState, ...] = ()

    @classmethod
    def begun(cls, processes: tuple[ProcessState, ...]) -> Self:
        """The first state of a stack that this very process supervises."""
        return cls(
            supervisor_pid=os.getpid(),
            supervisor_created_at=psutil.Process().create_time(),
            started_at=datetime.now(UTC),
            processes=processes,
        )


class AlreadyUpError(RuntimeError):
    """Another supervisor holds the lock of this home."""


@contextmanager
def supervisor_lock(home: Path) -> Iterator[None]:
    """Hold the lock that makes this process the one supervisor of `home`.

    Raises:
        AlreadyUpError: another process holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUpError(f"a stack with its data in {home} is up already") from None
        yield
    finally:
        os.close(descriptor)


def is_supervised(home: Path) -> bool:
    """Whether a living supervisor holds the lock of `home`."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_state(home: Path, state: StackState) -> None:
    """Replace the state file of `home` (mode 0600: the DSN of a given database may hold a password)."""
    write_private(home / STATE_FILE, state.model_dump_json(indent=2))


def read_state(home: Path) -> StackState | None:
    """The state file of `home` as it stands, stale or not; None where there is none, or none that can be
    read.
    """
    try:
        return StackState.model_validate_json((home / STATE_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def remove_state(home: Path) -> None:
    """Remove the state file: the stack is down and nothing is left to know."""
    (home / STATE_FILE).unlink(missing_ok=True)


def survivors(state: StackState) -> dict[str, psutil.Process]:
    """The processes named in a state that still live, by their names in it."""
    found = {process.name: living_process(process.pid, process.pid_created_at) for process in state.processes}
    return {name: process for name, process in found.items() if process is not None}


def living_process(pid: int | None, created_at: float | None) -> psutil.Process | None:
    """The living process that has this number and was created at that moment (Unix seconds), if there is
    one.
    """
    if pid is None or created_at is None:
        return None
    try:
        process = psutil.Process(pid)
        # The kernel counts creation in hundredths of a second since a boot whose moment is an estimate.
        same = abs(process.create_time() - created_at) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
