"""Ends what a supervisor that was killed left behind, and clears its files away.

Our own processes die with their supervisor; a Kafka or a database that is still on its way down, or whose
kernel could not tie it to its parent, is found by the state file: by process number and moment of creation
together.

Neighbours: `deploy.local.stack` sweeps before it starts, `weir down` when nobody supervises any more.
Guarantee: no process is touched that the state file does not name exactly; all that it names are gone
afterwards.
"""

import contextlib
import signal
from pathlib import Path

import psutil

from deploy.local.credentials import remove_credentials
from deploy.local.state import read_state, remove_state, survivors

SWEEP_SECONDS = 8.0
# SIGTERM makes PostgreSQL wait for its clients; SIGINT is its orderly way to end at once.
GENTLE_SIGNALS = {"database": signal.SIGINT}


def sweep(home: Path) -> list[str]:
    """End the processes of a stale state file, remove it and the credentials; returns the names of those
    ended.
    """
    state = read_state(home)
    living = survivors(state) if state is not None else {}
    for name, process in living.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(GENTLE_SIGNALS.get(name, signal.SIGTERM))
    _, stubborn = psutil.wait_procs(list(living.values()), timeout=SWEEP_SECONDS)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=SWEEP_SECONDS)
    remove_credentials(home)
    remove_state(home)
    return list(living)
