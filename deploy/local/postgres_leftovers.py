"""What a killed PostgreSQL leaves behind, and how the next start gets past it.

Two things stop a restart. Processes of the dead server that still hold its shared memory: most end as soon as
they notice, but one that is stuck does not. And `postmaster.pid`, when its number meanwhile belongs to
another process: PostgreSQL takes that one for itself. The shared memory itself needs no care: the next server
recognises its predecessor's and removes it.

Neighbours: `timescale` calls this before a start and after a kill.
Guarantee: only processes whose working folder is this very cluster are touched (PostgreSQL's processes all
stand in their cluster's folder), and only when no postmaster leads them.
"""

from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE_SECONDS = 5.0
KILL_SECONDS = 5.0
PID_FILE = "postmaster.pid"
SERVER_NAME = "postgres"


def clear_leftovers(cluster: Path) -> None:
    """End orphans and remove a stale `postmaster.pid`. Does nothing while a postmaster runs."""
    if living_postmaster(cluster) is not None:
        return
    end_orphans(cluster)
    (cluster / PID_FILE).unlink(missing_ok=True)


def living_postmaster(cluster: Path) -> psutil.Process | None:
    """The server that holds the cluster now, by the number in its file."""
    try:
        first_line = (cluster / PID_FILE).read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        process = psutil.Process(int(first_line))
    except (OSError, ValueError, psutil.Error):
        return None
    return process if stands_in(process, cluster) else None


def end_orphans(cluster: Path) -> None:
    """Wait for a dead server's processes to notice; kill those that do not."""
    if living_postmaster(cluster) is not None:
        return
    orphans = [process for process in psutil.process_iter() if stands_in(process, cluster)]
    _, stuck = psutil.wait_procs(orphans, timeout=PATIENCE_SECONDS)
    for process in stuck:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stuck, timeout=KILL_SECONDS)


def stands_in(process: psutil.Process, cluster: Path) -> bool:
    """Whether a process is a living one of PostgreSQL's in this cluster's folder."""
    try:
        return (
            process.name() == SERVER_NAME
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(process.cwd()) == cluster.resolve()
        )
    except psutil.Error:
        return False
