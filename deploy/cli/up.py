"""`weir up`, in the foreground or left behind, and `weir down`.

In the foreground this very process supervises. With --detach it starts itself again in a session of its own,
shows what the state file says of that one until it is ready, and comes back.

Neighbours: `deploy.local.stack` does the work; `deploy.cli.screens` shows it.
Guarantee: Ctrl-C, SIGTERM and a closed terminal all end the stack in order; so does Ctrl-C while a detached
start is being waited for.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape

from deploy.cli.screens import Progress, called, show_last_screen
from deploy.local.credentials import Credentials, read_credentials
from deploy.local.installation import show_installation
from deploy.local.leftovers import sweep
from deploy.local.occupancy import conflicts
from deploy.local.paths import local_paths
from deploy.local.rotation import log_path, older_log
from deploy.local.settings import LocalSettings
from deploy.local.state import (
    AlreadyUpError,
    Phase,
    ProcessState,
    StackState,
    is_supervised,
    living_process,
    read_state,
)
from deploy.local.supervisor import Report

DETACHED_SECONDS = 240.0
DOWN_SECONDS = 12.0
POLL_SECONDS = 0.1
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def bring_up(*, background: bool = False) -> int:
    """Run the stack in the foreground until it is asked to end; returns the exit code.

    In the background what is printed goes to a log, which is no place for credentials.
    """
    console, settings, paths = Console(), LocalSettings(), local_paths()
    home = paths.home
    if is_supervised(home):
        return show_already_up(console, home)
    if not prepared(console, settings):
        return EXIT_FAILED
    # Imports the drivers of the database, which the checks before should not wait for.
    from deploy.local.stack import Stack, StackError, StoppedError

    progress = Progress(console)

    def announce(credentials: Credentials) -> None:
        progress.up()
        if background:
            console.print("Weir is up.")
            return
        show_last_screen(console, credentials, home, seconds=progress.seconds)
        console.print("[dim]Ctrl-C ends it. What happens to a process is shown here.[/dim]")

    with stop_signals() as stop, progress:
        try:
            Stack(settings, paths, observer=progress.report, stop=stop).run(announce)
        except AlreadyUpError:
            return show_already_up(console, home)
        except StoppedError:
            console.print("Ended before it was up.")
            return EXIT_INTERRUPTED
        except StackError as error:
            show_failure(console, str(error), error.last_words)
            return EXIT_FAILED
    console.print("Weir is down.")
    return 0


def bring_up_detached() -> int:
    """Start the stack in a session of its own and wait until it is ready; returns the exit code."""
    console, settings, paths = Console(), LocalSettings(), local_paths()
    home = paths.home
    if is_supervised(home):
        return show_already_up(console, home)
    if not prepared(console, settings):
        return EXIT_FAILED
    log = log_path(home, "supervisor")
    supervisor = background_supervisor(log)
    progress = Progress(console)
    try:
        with progress:
            state = watched(supervisor, home, progress)
    except KeyboardInterrupt:
        supervisor.terminate()
        supervisor.wait(DOWN_SECONDS)
        return EXIT_INTERRUPTED
    credentials = read_credentials(home)
    if state is None or credentials is None:
        console.print(f"\n[red]Weir did not come up.[/red] {escape(str(log))} says:", soft_wrap=True)
        console.print(log.read_text("utf-8", "replace"), markup=False, highlight=False, soft_wrap=True)
        return EXIT_FAILED
    show_last_screen(console, credentials, home, seconds=progress.seconds)
    commands = ", ".join(map(called, ("status", "logs -f", "down")))
    console.print(f"[dim]It runs in the background: {escape(commands)}.[/dim]", soft_wrap=True)
    return 0


def background_supervisor(log: Path) -> subprocess.Popen[bytes]:
    """A supervisor in a session of its own; its log begins anew, the one before is put aside."""
    if log.exists():
        log.replace(older_log(log, 1))
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "up", "--background"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def prepared(console: Console, settings: LocalSettings) -> bool:
    """Fetch what is missing and look at the ports. False: it cannot start, and why has been said."""
    kafka_ours, database_ours = settings.kafka_bootstrap is None, settings.database_dsn is None
    if not show_installation(kafka_wanted=kafka_ours, database_wanted=database_ours):
        return False
    found = conflicts(settings)
    for conflict in found:
        console.print(f"[red]✗[/red] {escape(conflict)}", highlight=False, soft_wrap=True)
    return not found


def watched(supervisor: subprocess.Popen[bytes], home: Path, progress: Progress) -> StackState | None:
    """Show what the supervisor's state file tells until it is ready; None: it ended, or took too long."""
    shown: dict[str, ProcessState] = {}
    deadline = time.monotonic() + DETACHED_SECONDS
    while supervisor.poll() is None and time.monotonic() < deadline:
        state = read_state(home)
        if state is not None and state.supervisor_pid == supervisor.pid:
            for process in state.processes:
                before = shown.get(process.name)
                if before is None or before.since != process.since:
                    progress.report(Report(process.name, process.standing, process.note))
                shown[process.name] = process
            if state.phase is Phase.READY:
                return state
        time.sleep(POLL_SECONDS)
    if supervisor.poll() is None:
        supervisor.terminate()
        supervisor.wait(DOWN_SECONDS)
    return None


def take_down() -> int:
    """End the running stack and wait for its end; clear away what a killed supervisor left."""
    console, home = Console(), local_paths().home
    state = read_state(home)
    if not is_supervised(home):
        ended = sweep(home)
        if ended:
            console.print(f"Its supervisor was gone; ended what it left behind: {', '.join(ended)}.")
        else:
            console.print("Weir is not up.")
        return 0
    supervisor = None
    if state is not None:
        supervisor = living_process(state.supervisor_pid, state.supervisor_created_at)
    if supervisor is None:
        console.print(f"A supervisor is just starting in {home}; try again in a moment.")
        return EXIT_FAILED
    began = time.monotonic()
    supervisor.terminate()
    while is_supervised(home) and time.monotonic() - began < DOWN_SECONDS:
        time.sleep(POLL_SECONDS)
    if is_supervised(home):
        console.print("[red]It did not end in time; killing its supervisor and what is left.[/red]")
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor.kill()
            supervisor.wait(DOWN_SECONDS)
        sweep(home)
    console.print(f"Weir is down, after {time.monotonic() - began:.1f} s. Its data stays in {home}.")
    return 0


def show_already_up(console: Console, home: Path) -> int:
    """Say that it is up, with its addresses."""
    state, credentials = read_state(home), read_credentials(home)
    who = f", supervised by process {state.supervisor_pid}" if state is not None else ""
    console.print(f"Weir is up already{who}, with its data in {home}.", highlight=False, soft_wrap=True)
    if credentials is not None:
        show_last_screen(console, credentials, home, seconds=None)
    return 0


def show_failure(console: Console, message: str, last_words: tuple[str, ...]) -> None:
    """Say what hindered the start, and the last lines of the log that tells why."""
    console.print(f"\n[red]Weir did not come up:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    for words in last_words:
        console.print(f"  [dim]│ {escape(words)}[/dim]", highlight=False, soft_wrap=True)
    console.print(f"{called('doctor')} looks for the cause.", highlight=False, markup=False)


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set.

    A handler runs between two instructions of the main thread, which may hold the event's own lock: so it
    only writes a byte, and a thread of its own sets the event.
    """
    stop = threading.Event()
    reading, writing = os.pipe()

    def carry() -> None:
        if os.read(reading, 1) == b"s":
            stop.set()

    carrier = threading.Thread(target=carry, name="stop signals", daemon=True)
    carrier.start()
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: os.write(writing, b"s")) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"e")
        carrier.join()
        os.close(reading)
        os.close(writing)
