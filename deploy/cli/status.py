"""`weir status`: one line for each process, asked at this moment.

Neighbours: `deploy.local.state` says what should run, each process's /readyz whether it does.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local.kafka_probe import broker_answers
from deploy.local.paths import local_paths
from deploy.local.readiness import missing_parts
from deploy.local.state import (
    Phase,
    ProcessState,
    StackState,
    Standing,
    is_supervised,
    living_process,
    read_state,
    survivors,
)
from deploy.local.titles import title

EXIT_READY, EXIT_NOT_READY, EXIT_DOWN = 0, 1, 3
PROBE_SECONDS = 2
COLOURS = {Standing.READY: "green", Standing.STARTING: "yellow", Standing.RESTARTING: "yellow"}


def show_status() -> int:
    """Print the table; returns the exit code."""
    console = Console(highlight=False)
    home = local_paths().home
    state = read_state(home)
    if state is None or not is_supervised(home):
        return show_down(console, home, state)
    with ThreadPoolExecutor(max_workers=8) as pool:
        looks = list(pool.map(partial(looked_at, dsn=state.database_dsn), state.processes))
    table = Table(box=None, pad_edge=False)
    for column in ("process", "standing", "pid", "since", "restarts", "memory", "address"):
        table.add_column(column, no_wrap=True)
    for process in looks:
        table.add_row(*cells(process))
    console.print(table)
    for process in looks:
        if process.note:
            console.print(f"{title(process.name)}: {escape(process.note)}", soft_wrap=True)
    for part, given in (("Kafka", state.kafka_bootstrap), ("database", state.database_dsn)):
        if given is not None and part.lower() not in {process.name for process in looks}:
            console.print(f"[dim]{part} is a given one and not supervised here[/dim]")
    ready = state.phase is Phase.READY and all(process.standing is Standing.READY for process in looks)
    supervised = f"supervised by process {state.supervisor_pid}; data in {home}"
    console.print(f"\nThe stack is {state.phase}, {supervised}", soft_wrap=True)
    return EXIT_READY if ready else EXIT_NOT_READY


def show_down(console: Console, home: Path, state: StackState | None) -> int:
    """Say that nothing is up, and what the last supervisor left."""
    console.print(f"Weir is down (data in {home})", soft_wrap=True)
    if state is not None and state.phase is Phase.FAILED:
        console.print(f"The last start failed: {escape(state.note)}", soft_wrap=True)
    elif state is not None:
        console.print(f"Its supervisor (process {state.supervisor_pid}) ended without taking it down.")
        for name, process in survivors(state).items():
            console.print(f"  {title(name)} still runs as process {process.pid}; weir down ends it")
    return EXIT_DOWN


def looked_at(process: ProcessState, dsn: str | None = None) -> ProcessState:
    """A process as it is now: what it says itself counts more than what was noted of it."""
    if process.standing is not Standing.READY:
        return process
    if living_process(process.pid, process.pid_created_at) is None:
        return process.model_copy(update={"standing": Standing.RESTARTING, "note": "has just ended"})
    missing = missing_of(process, dsn)
    if missing is None:
        return process
    return process.model_copy(update={"standing": Standing.NOT_READY, "note": missing})


def missing_of(process: ProcessState, dsn: str | None) -> str | None:
    """What a process that lives says it lacks, or that it is silent; None when it is ready."""
    if process.url is None:
        return None
    if process.url.startswith("http"):
        return missing_parts(f"{process.url}/readyz")
    if process.name == "kafka":
        host, _, port = process.url.rpartition(":")
        answers = broker_answers(host, int(port), timeout_seconds=PROBE_SECONDS)
    else:
        answers = dsn is None or database_answers(dsn)
    return None if answers else f"does not answer within {PROBE_SECONDS} s"


def database_answers(dsn: str) -> bool:
    """Whether a database takes a connection; a frozen one does not."""
    import psycopg

    try:
        psycopg.connect(dsn, connect_timeout=PROBE_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True


def cells(process: ProcessState) -> tuple[str, ...]:
    """The row of a process."""
    colour = COLOURS.get(process.standing, "red")
    return (
        title(process.name),
        f"[{colour}]{process.standing}[/{colour}]",
        str(process.pid or ""),
        age(process.since),
        str(process.restarts or ""),
        memory(process.pid),
        process.url or "",
    )


def age(since: datetime | None) -> str:
    """How long ago, in the largest fitting unit."""
    if since is None:
        return ""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def memory(pid: int | None) -> str:
    """Memory of a process and its children in MB, what they share counted once."""
    if pid is None:
        return ""
    try:
        process = psutil.Process(pid)
        parts = (process, *process.children(recursive=True))
        return f"{sum(part.memory_full_info().pss for part in parts) / 1e6:.0f} MB"
    except psutil.Error:
        return ""
