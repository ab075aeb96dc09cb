"""Forks from one thread that lives as long as this process.

The kernel ties a child's life to the thread that forked it, not to its process: a server started from a
pool's thread would be ended as soon as the pool lets the thread go.

Neighbours: `server`; the processes of the tests.
Guarantee: a child spawned here outlives the thread that asked for it, never the process.
"""

import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from schema.errors import Unavailable

SPAWN_SECONDS = 30.0


class _Spawner:
    """The thread, begun by the first spawn; after a fork of this process, the child begins one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner_pid = 0
        self._orders: queue.SimpleQueue[tuple[Order, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()

    def place(self, order: "Order") -> Future[subprocess.Popen[bytes]]:
        """Have the thread carry out an order; the answer is the started process, or the OSError."""
        answer: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._owner_pid != os.getpid():
                self._orders = queue.SimpleQueue()
                threading.Thread(target=self._work, args=(self._orders,), name="spawner", daemon=True).start()
                self._owner_pid = os.getpid()
        self._orders.put((order, answer))
        return answer

    @staticmethod
    def _work(orders: "queue.SimpleQueue[tuple[Order, Future[subprocess.Popen[bytes]]]]") -> None:
        while True:
            order, answer = orders.get()
            try:
                answer.set_result(order.carry_out())
            except OSError as error:
                answer.set_exception(error)
            # Held on to, the child could not be collected by whoever asked for it.
            del order, answer


class Order:
    """What to start, and with what."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path, output: Path
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._directory = directory
        self._output = output

    def carry_out(self) -> subprocess.Popen[bytes]:
        """Start it, from the calling thread."""
        with self._output.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
                # Ctrl-C at the terminal must not reach servers on its own: the supervisor knows the order.
                start_new_session=True,
            )


_SPAWNER = _Spawner()


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], directory: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Start a command with its own session, nothing on its input, and its output added to a file.

    Raises:
        Unavailable: the system cannot start it.
    """
    try:
        return _SPAWNER.place(Order(command, environment, directory, output)).result(SPAWN_SECONDS)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be started: {error.strerror or error}") from error
