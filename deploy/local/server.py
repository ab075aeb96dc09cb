"""One server program of somebody else's, run for us: begun, found again, ended.

Neighbours: `kafka` and `timescale` say what to run and when it serves; `spawning` is the fork itself.
Guarantee: a server dies with the process that started it, whichever thread asked, unless it was started
detached; a detached one is found again by its process number and moment of creation together, so a number
that was used again is never mistaken for it. Ending it is bounded: after the grace it is killed.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local.account import Account
from deploy.local.rotation import last_lines
from deploy.local.spawning import spawn
from schema.errors import Unavailable

POLL_SECONDS = 0.05
KILL_SECONDS = 10.0
KEPT_OUTPUT_BYTES = 4 * 1024 * 1024
LAST_WORDS = 15
# Beside the number of a process: how closely two readings of its creation agree, in seconds.
CREATION_TOLERANCE_SECONDS = 0.02


class ServerProcess:
    """The process behind a server. `record` remembers it for others of ours; `output` is what it prints."""

    def __init__(self, name: str, *, record: Path, output: Path, end_signal: signal.Signals) -> None:
        self.name = name
        self._record = record
        self._output = output
        self._end_signal = end_signal
        self._own: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process number while it runs, whoever started it; else None."""
        if self._own is not None and self._own.poll() is None:
            return self._own.pid
        found = self._recorded()
        return found.pid if found is not None else None

    def begin(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        account: Account | None = None,
        detached: bool = False,
    ) -> None:
        """Start the command; returns before it serves.

        Raises:
            Unavailable: it runs already, or cannot be started.
        """
        running = self.pid
        if running is not None:
            raise Unavailable(f"{self.name} runs already, as process {running}")
        keep_short(self._output)
        # The signal is asked for after the change of user, which would forget it.
        become = [] if account is None else account.become
        death = [] if detached else ["--pdeathsig", self._end_signal.name.removeprefix("SIG")]
        launched = ["setpriv", *become, *death, "--", *command] if become or death else list(command)
        self._own = spawn(launched, environment=environment, directory=directory, output=self._output)
        with suppress(psutil.NoSuchProcess):
            created_at = psutil.Process(self._own.pid).create_time()
            self._record.write_text(
                json.dumps({"pid": self._own.pid, "created_at": created_at}), encoding="ascii"
            )

    def wait_until(self, serves: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Ask `serves` until it says yes.

        Raises:
            Unavailable: the process ended before, or the time is over; its last words are in the message. It
                is not left running.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.pid is None:
                raise Unavailable(f"{self.name} ended while it started\n{self.last_words()}")
            if serves():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise Unavailable(
                    f"{self.name} does not serve after {timeout_seconds:g} s\n{self.last_words()}"
                )
            time.sleep(POLL_SECONDS)

    def end(self, *, grace_seconds: float) -> bool:
        """Ask it to end and wait; kill it after the grace. True if it ended by itself."""
        pid = self.pid
        if pid is None:
            return True
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(self._end_signal)
        if self._gone_within(grace_seconds):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End it at once, as a crash would.

        Raises:
            Unavailable: the kernel has not let go of it within a bounded time.
        """
        pid = self.pid
        if pid is None:
            return
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        if not self._gone_within(KILL_SECONDS):
            raise Unavailable(f"{self.name}: process {pid} does not end, not even killed")

    def last_words(self) -> str:
        """The last lines that it printed, indented, for a message."""
        return "\n".join(f"    {line}" for line in last_lines(self._output, LAST_WORDS))

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _recorded(self) -> psutil.Process | None:
        try:
            record = json.loads(self._record.read_text(encoding="ascii"))
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created_at"]) < CREATION_TOLERANCE_SECONDS
            alive = same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None
        return process if alive else None


def keep_short(output: Path) -> None:
    """Put a long output aside under `….1`, so that starts over months do not fill a disk."""
    with suppress(FileNotFoundError):
        if output.stat().st_size > KEPT_OUTPUT_BYTES:
            output.replace(output.with_name(output.name + ".1"))
