"""One process of the stack, as the supervisor sees it: start, look, end.

Neighbours: `deploy.local.supervisor` drives children; `deploy.local.stack` makes them; `deploy.local.servers`
has those that are Kafka and the database.
Guarantee: a command's child dies with the thread that started it (the supervisor keeps that thread as long as
the child), has a process group of its own (Ctrl-C at the terminal reaches the supervisor alone, which knows
the order), and every byte it prints is in its rotated log.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from deploy.local.rotation import RotatingLog

# The program that asks the kernel for the signal, then becomes the command.
LAUNCHER = ("setpriv", "--pdeathsig", "KILL", "--")
READ_BYTES = 64 * 1024
# After a child's end its pipe closes at once, unless a grandchild still holds it.
PUMP_GRACE_SECONDS = 1.0


class Child(Protocol):
    """What the supervisor needs of a process. All calls come from one thread, except `pid`."""

    @property
    def name(self) -> str:
        """Its name in `weir status`, and of its log."""

    @property
    def log(self) -> Path:
        """Where what it prints is kept."""

    @property
    def url(self) -> str | None:
        """Where it answers, for people; None if nowhere."""

    @property
    def pid(self) -> int | None:
        """The process number; None before the first start."""

    def start(self) -> None:
        """Start the process. May wait until it serves. Raises when it cannot be started."""

    def missing(self) -> str | None:
        """None once it serves; else what it waits for, in words. Must return within a second or two."""

    def wait(self, timeout_seconds: float) -> str | None:
        """How the process ended, in words; None if it still lives after the timeout."""

    def stop(self, grace_seconds: float) -> bool:
        """Ask the process to end, and kill it after the grace. True if it ended by itself."""


class CommandChild:
    """A child that is a command of ours: one entry point with its environment."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        url: str | None = None,
        readiness_url: str | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.url = url
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._readiness_url = readiness_url
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process number of the newest start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the command in a process group of its own, killed by the kernel if this thread ends.

        Raises:
            OSError: the launcher cannot be started.
        """
        self._process = subprocess.Popen(
            [*LAUNCHER, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._directory,
            process_group=0,
        )
        self._pump = threading.Thread(
            target=pump, args=(self._process, RotatingLog(self.log)), name=f"log of {self.name}", daemon=True
        )
        self._pump.start()

    def missing(self) -> str | None:
        """What the process's own /readyz names; None when it is ready or has no such address."""
        if self._readiness_url is None:
            return None
        # Its import costs what a short command should not pay.
        from deploy.local.readiness import missing_parts  # noqa: PLC0415

        return missing_parts(self._readiness_url)

    def wait(self, timeout_seconds: float) -> str | None:
        """How it ended ("ended with exit code 1", "was killed by SIGKILL"), or None while it lives."""
        if self._process is None:
            return "was never started"
        # Popen.wait with a timeout asks twenty times a second; a descriptor of the process wakes up once.
        if self._process.returncode is None and not ended_within(self._process.pid, timeout_seconds):
            return None
        code = self._process.wait()
        if self._pump is not None:
            self._pump.join(PUMP_GRACE_SECONDS)
        return ending(code)

    def stop(self, grace_seconds: float) -> bool:
        """SIGTERM, and SIGKILL to its whole group after the grace."""
        if self._process is None or self._process.poll() is not None:
            return True
        self._process.terminate()
        try:
            self._process.wait(max(grace_seconds, 0.0))
            return True
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return False


def ended_within(pid: int, timeout_seconds: float) -> bool:
    """Whether a child of this process (ended, but not waited for, at most) ends within the time."""
    descriptor = os.pidfd_open(pid)
    try:
        ending_poll = select.poll()
        ending_poll.register(descriptor, select.POLLIN)
        return bool(ending_poll.poll(timeout_seconds * 1000))
    finally:
        os.close(descriptor)


def pump(process: subprocess.Popen[bytes], log: RotatingLog) -> None:
    """Carry what a process prints into its log until it closes its end."""
    assert process.stdout is not None
    with process.stdout as pipe:
        while chunk := os.read(pipe.fileno(), READ_BYTES):
            log.write(chunk)
    log.close()


def ending(code: int) -> str:
    """A return code in words; Popen gives a killing signal as its negative."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
