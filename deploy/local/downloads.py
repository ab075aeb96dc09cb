"""Fetching: commands with a deadline and a progress report, and folders that appear whole or not at all.

Neighbours: `kafka` and `timescale` install through this; the command line shows what `Progress` says.
Guarantee: no step without an end (the whole process group is killed at its deadline); a folder that exists
under its final name is complete; two installations at once wait for each other.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from schema.errors import Unavailable

LAST_LINES = 15
LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one part has come. `fraction` is between 0 and 1, None while it cannot be known."""

    part: str
    text: str
    fraction: float | None = None


ProgressCallback = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """A progress callback for whoever does not want to know."""


def run_bounded(
    command: Sequence[str],
    *,
    timeout_seconds: float,
    purpose: str,
    on_line: Callable[[str], None] = lambda _line: None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> list[str]:
    """Run a command to its end; returns its lines, both streams together. `on_line` sees each at once.

    Raises:
        Unavailable: it cannot be started, failed, or was not done after `timeout_seconds`; its last lines are
            in the message.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=None if environment is None else dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{purpose}: {command[0]} cannot be started: {error.strerror}") from error
    assert process.stdout is not None
    expired = threading.Event()

    def end_it() -> None:
        expired.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    alarm = threading.Timer(timeout_seconds, end_it)
    alarm.daemon = True
    alarm.start()
    lines: list[str] = []
    try:
        with process.stdout as output:
            for line in output:
                lines.append(line.rstrip())
                on_line(lines[-1])
        process.wait()
    except BaseException:
        # Ctrl-C reaches us alone: the command has a session of its own.
        end_it()
        process.wait()
        raise
    finally:
        alarm.cancel()
    if expired.is_set():
        raise Unavailable(f"{purpose}: not done after {timeout_seconds:g} s\n" + last_of(lines))
    if process.returncode != 0:
        raise Unavailable(f"{purpose}: {command[0]} ended with {process.returncode}\n" + last_of(lines))
    return lines


def last_of(lines: Sequence[str]) -> str:
    """The last lines of an output, for a message."""
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A fresh folder beside `final`, which takes its place when the block succeeds.

    Whatever a broken-off installation left behind is removed first.
    """
    fresh = final.with_name(final.name + ".partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    shutil.rmtree(final, ignore_errors=True)
    fresh.rename(final)


@contextmanager
def installation_lock(folder: Path, *, timeout_seconds: float) -> Iterator[None]:
    """Let one installation into `folder` at a time; the kernel lets go of the lock with its holder.

    Raises:
        Unavailable: another one is still at it after `timeout_seconds`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with (folder / ".lock").open("a", encoding="ascii") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another installation into {folder} does not end") from None
                time.sleep(LOCK_POLL_SECONDS)
        yield
