"""Real processes to measure: Weir's own, and those of the bench. Bounded starts, bounded ends.

Each is started with its output in a file, dies with the bench (the kernel sees to it), and is ended by
its process number.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.ports import free_port
from tests.bench.accounting import resident_bytes

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
MODULES = {"gateway": "ingest.gateway.process", "writer": "ingest.writer.process", "api": "api.process"}


@dataclass(slots=True)
class Running:
    """A process that runs. ``url`` is empty where nothing listens."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def freeze(self) -> None:
        """Stop it in its tracks, as an overloaded machine would."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def resident_bytes(self) -> int:
        """Memory of its own that is in use."""
        return resident_bytes(self.pid)

    def last_words(self) -> str:
        """The end of its output."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def check(self) -> None:
        """Raise RuntimeError when it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}")

    def finished(self, timeout_seconds: float) -> None:
        """Wait until it ends by itself. Raises RuntimeError when it fails or takes longer."""
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.name} did not end within {timeout_seconds:g} s") from None
        if code != 0:
            raise RuntimeError(f"{self.name} ended with {code}:\n{self.last_words()}")


@contextmanager
def weir(role: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """The gateway, a writer or the query API, ready."""
    port = free_port()
    variables = {**environment, f"WEIR_{role.upper()}_PORT": str(port), "WEIR_LOG_LEVEL": "warning"}
    program = f"import sys; from {MODULES[role]} import main; sys.exit(main())"
    with started(role, ["-c", program], folder, variables, f"http://127.0.0.1:{port}") as running:
        wait_ready(running, "/readyz")
        yield running


@contextmanager
def started(
    name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], url: str = ""
) -> Iterator[Running]:
    """A Python process with these arguments; ended with the block."""
    log = folder / f"{name}-{time.monotonic_ns()}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("WEIR_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, **environment},
            cwd=ROOT,
        )
    running = Running(name, process, log, url)
    try:
        yield running
    finally:
        end(running)


def end(running: Running) -> None:
    """SIGTERM, and SIGKILL after a grace; a frozen process is let go first."""
    if running.process.poll() is None:
        with suppress(ProcessLookupError):
            running.thaw()
            running.process.terminate()
        try:
            running.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait(STOP_SECONDS)


def wait_ready(running: Running, path: str) -> None:
    """Until ``path`` answers 200. Raises RuntimeError with its last words."""
    deadline = time.monotonic() + READY_SECONDS
    answer = "no answer"
    while time.monotonic() < deadline:
        running.check()
        try:
            with urllib.request.urlopen(running.url + path, timeout=3):
                return
        except urllib.error.HTTPError as error:
            answer = error.read().decode(errors="replace")
        except OSError as error:
            answer = repr(error)
        time.sleep(0.05)
    raise RuntimeError(
        f"{running.name} is not ready after {READY_SECONDS:g} s: {answer}\n{running.last_words()}"
    )
