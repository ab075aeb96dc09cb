"""Kafka and the database as children of the supervisor.

Neighbours: `deploy.local.kafka` and `deploy.local.timescale` know how each is installed, configured and
started; `deploy.local.stack` decides when.
Guarantee: as for every child (`deploy.local.child`), except that a server keeps its own log in its data
folder; under `.weir/logs/` is a link to it.
"""

from pathlib import Path
from typing import Protocol

from deploy.local.child import ended_within


class Server(Protocol):
    """What the two servers have in common."""

    @property
    def pid(self) -> int | None:
        """The process number while it runs, whoever started it."""

    def start(self) -> None:
        """Start and wait until it serves."""

    def stop(self, grace_seconds: float) -> bool:
        """End it in order, and kill it after the grace. True if it ended by itself."""


class ServerChild:
    """A server that the supervisor restarts like any other child."""

    def __init__(self, name: str, server: Server, *, url: str, log: Path, server_log: Path) -> None:
        self.name = name
        self.log = log
        self.url: str | None = url
        self._server = server
        self._server_log = server_log

    @property
    def pid(self) -> int | None:
        """The process number while it runs."""
        return self._server.pid

    def start(self) -> None:
        """Start the server and wait until it serves. `stop` from another thread ends the wait.

        Raises:
            Unavailable: it does not come up; its last words are in the message.
        """
        link(self.log, self._server_log)
        self._server.start()

    def missing(self) -> str | None:
        """Nothing: a server that was started serves."""
        return None

    def wait(self, timeout_seconds: float) -> str | None:
        """That it ended, or None while it lives."""
        pid = self._server.pid
        try:
            lives = pid is not None and not ended_within(pid, timeout_seconds)
        except ProcessLookupError:
            lives = False
        return None if lives else "ended by itself or was killed"

    def stop(self, grace_seconds: float) -> bool:
        """End it in order; kill it when that takes longer than the grace."""
        return self._server.stop(grace_seconds)


def link(log: Path, target: Path) -> None:
    """Make `log` a link to `target`, in place of what it was."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_symlink() or log.exists():
        log.unlink()
    log.symlink_to(target)
