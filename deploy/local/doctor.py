"""Looks for what is wrong with this machine or with the stack on it, and says what helps.

Three groups, in the order in which trouble with one explains trouble with the next: the machine, the stack's
folder and programs, the stack as it runs.

Neighbours: `deploy.cli.checkup` shows the findings.
Guarantee: looks only, changes nothing; every wait is bounded; a check that fails itself becomes a finding.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from deploy.local import kafka, timescale
from deploy.local.account import can_enter, server_account
from deploy.local.credentials import CREDENTIALS_FILE, FIRST_RUN_FILE, KEY_FILE
from deploy.local.downloads import run_bounded
from deploy.local.kafka_probe import broker_answers
from deploy.local.occupancy import conflicts
from deploy.local.paths import Paths
from deploy.local.readiness import readiness
from deploy.local.settings import LocalSettings
from deploy.local.state import STATE_FILE, StackState, is_supervised, read_state, survivors
from deploy.local.titles import title
from deploy.local.versions import (
    JAVA_LEAST_VERSION,
    KAFKA_VERSION,
    POSTGRESQL_MAJOR,
    TIMESCALEDB_SERIES,
)
from schema.errors import WeirError
from schema.timescale import refusal

LEAST_PYTHON = (3, 11)
LEAST_FREE_DISK_BYTES = 3_000_000_000
# What all of it may come to under load: Kafka's heap, PostgreSQL's buffers, four processes of ours.
LEAST_FREE_MEMORY_BYTES = 2_000_000_000
COMMAND_SECONDS = 15.0
# Maven colours its version, even for a pipe.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check-up. `remedy` is what to do about it when it is not well."""

    subject: str
    well: bool
    text: str
    remedy: str = ""


Check = Callable[[], Finding]


def examine(settings: LocalSettings, paths: Paths) -> Iterator[Finding]:
    """All findings, each as soon as it is known."""
    state = read_state(paths.home) if is_supervised(paths.home) else None
    checks: list[Check] = [python_finding]
    if settings.kafka_bootstrap is None:
        checks += [java_finding, lambda: maven_finding(paths)]
    checks += [lambda: disk_finding(paths.home), lambda: memory_finding(running=state is not None)]
    checks += [lambda: folder_finding(paths), lambda: secrets_finding(paths.home)]
    if settings.kafka_bootstrap is None:
        checks.append(lambda: kafka_program_finding(paths))
    if settings.database_dsn is None:
        checks.append(lambda: database_program_finding(paths))
    if state is None:
        checks += [lambda: supervisor_finding(paths.home), lambda: ports_finding(settings)]
    for check in checks:
        yield guarded(check)
    yield from running_findings(settings, state)


def running_findings(settings: LocalSettings, state: StackState | None) -> Iterator[Finding]:
    """What can be asked of servers and processes that run."""
    bootstrap = state.kafka_bootstrap if state is not None else settings.kafka_bootstrap
    dsn = state.database_dsn if state is not None else settings.database_dsn
    if bootstrap is not None:
        yield guarded(lambda: broker_finding(bootstrap))
    if dsn is not None:
        edition = guarded(lambda: edition_finding(dsn))
        yield edition
        if edition.well:
            yield guarded(lambda: migrations_finding(dsn))
    if state is not None:
        for process in state.processes:
            if process.url is not None and process.url.startswith("http"):
                yield guarded(partial(process_finding, process.name, process.url))


def guarded(check: Check) -> Finding:
    """The check's finding; a check that fails is one, too."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        message = error.message if isinstance(error, WeirError) else f"{type(error).__name__}: {error}"
        return Finding("check-up", well=False, text=message)


# --- the machine


def python_finding() -> Finding:
    """Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    well = sys.version_info >= LEAST_PYTHON
    return Finding(
        "Python", well, version, "" if well else "needs 3.11 or later: delete .venv, then make setup"
    )


def java_finding() -> Finding:
    """There is a Java that Kafka runs on."""
    try:
        java = kafka.java_program()
    except WeirError as error:
        said, _, remedy = error.message.rpartition(": ")
        return Finding("Java", well=False, text=said, remedy=remedy)
    version = subprocess.run(
        [java, "-version"], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    ).stderr.partition("\n")[0]
    return Finding("Java", well=True, text=f"{version} ({java}); needs {JAVA_LEAST_VERSION} or later")


def maven_finding(paths: Paths) -> Finding:
    """Maven is there, or no longer needed."""
    maven = shutil.which("mvn")
    if maven is not None:
        said = run_bounded([maven, "--version"], timeout_seconds=COMMAND_SECONDS, purpose="Maven")
        return Finding("Maven", well=True, text=COLOURS.sub("", said[0]) if said else maven)
    if kafka.is_installed(paths.kafka_program):
        return Finding("Maven", well=True, text="missing, but Kafka is fetched already")
    return Finding("Maven", well=False, text="missing; it fetches Kafka", remedy="apt-get install maven")


def disk_finding(home: Path) -> Finding:
    """There is room for programs, the topic's days and the events."""
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 1e9:.1f} GB free in {place}"
    if free >= LEAST_FREE_DISK_BYTES:
        return Finding("disk", well=True, text=text)
    return Finding(
        "disk",
        well=False,
        text=f"{text}; the stack needs {LEAST_FREE_DISK_BYTES / 1e9:.0f} GB to begin with",
        remedy="make room, or give a folder elsewhere in WEIR_HOME",
    )


def memory_finding(*, running: bool) -> Finding:
    """There is memory for all processes; those that run have theirs already."""
    available = psutil.virtual_memory().available
    text = f"{available / 1e9:.1f} GB available"
    if running or available >= LEAST_FREE_MEMORY_BYTES:
        return Finding("memory", well=True, text=text)
    return Finding(
        "memory",
        well=False,
        text=f"{text}; the stack may take {LEAST_FREE_MEMORY_BYTES / 1e9:.0f} GB under load",
        remedy="end other programs, or give Kafka a smaller heap in WEIR_KAFKA_HEAP_MB",
    )


def ports_finding(settings: LocalSettings) -> Finding:
    """Every port that the stack wants is free."""
    found = conflicts(settings)
    if found:
        return Finding(
            "ports", well=False, text=f"{len(found)} of those wanted taken", remedy="\n".join(found)
        )
    return Finding(
        "ports", well=True, text=f"{', '.join(str(port) for _, port, _ in settings.ports().values())} free"
    )


# --- the stack's folder and programs


def folder_finding(paths: Paths) -> Finding:
    """We may write into the stack's folder, and the database's account may enter it."""
    for folder in {paths.home, paths.database_home}:
        place = next(part for part in (folder, *folder.parents) if part.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            return Finding(
                "folder",
                well=False,
                text=f"no right to write into {place}",
                remedy="give another in WEIR_HOME",
            )
    account = server_account()
    if account is not None and not can_enter(account, paths.database_home):
        return Finding(
            "folder",
            well=False,
            text=f"the user {account.name}, whom PostgreSQL runs as, cannot enter {paths.database_home}",
            remedy="give a folder open to others in WEIR_HOME",
        )
    elsewhere = "" if paths.database_home == paths.home else f"; the database's part in {paths.database_home}"
    return Finding("folder", well=True, text=f"{paths.home}{elsewhere}")


def secrets_finding(home: Path) -> Finding:
    """Nobody else can read the files with secrets."""
    for name in (CREDENTIALS_FILE, FIRST_RUN_FILE, KEY_FILE, STATE_FILE):
        try:
            mode = stat.S_IMODE((home / name).stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & 0o077:
            return Finding(
                "secrets",
                well=False,
                text=f"others can read {home / name}",
                remedy=f"chmod 600 {home / name}",
            )
    return Finding("secrets", well=True, text="readable by you alone")


def kafka_program_finding(paths: Paths) -> Finding:
    """Kafka is fetched."""
    if kafka.is_installed(paths.kafka_program):
        return Finding("Kafka", well=True, text=f"{KAFKA_VERSION} in {paths.kafka_program}")
    return Finding(
        "Kafka", well=False, text=f"{KAFKA_VERSION} is not fetched yet", remedy="make setup, or weir up"
    )


def database_program_finding(paths: Paths) -> Finding:
    """PostgreSQL with TimescaleDB is fetched, or is the system's."""
    program = timescale.system_program() or paths.timescale_program
    version = f"TimescaleDB {TIMESCALEDB_SERIES} on PostgreSQL {POSTGRESQL_MAJOR}"
    if timescale.is_installed(program):
        return Finding("database", well=True, text=f"{version} in {program}")
    return Finding(
        "database", well=False, text=f"{version} is not fetched yet", remedy="make setup, or weir up"
    )


def supervisor_finding(home: Path) -> Finding:
    """Nothing is left of a supervisor that was killed."""
    state = read_state(home)
    left = survivors(state) if state is not None else {}
    if left:
        names = ", ".join(f"{title(name)} (process {process.pid})" for name, process in left.items())
        return Finding("stack", well=False, text=f"down, but left behind: {names}", remedy="weir down")
    return Finding("stack", well=True, text="down; weir up starts it")


# --- the stack as it runs


def broker_finding(bootstrap: str) -> Finding:
    """A broker answers."""
    host, _, port = bootstrap.partition(",")[0].strip().rpartition(":")
    if not host or not port.isdecimal():
        return Finding(
            "broker",
            well=False,
            text=f"{bootstrap} names no host and port",
            remedy="write it like kafka.example:9092 in WEIR_KAFKA_BOOTSTRAP",
        )
    if broker_answers(host.strip("[]"), int(port), timeout_seconds=CONNECT_SECONDS):
        return Finding("broker", well=True, text=f"answers at {bootstrap}")
    return Finding(
        "broker",
        well=False,
        text=f"does not answer at {bootstrap}",
        remedy="weir logs kafka may say why; or start yours",
    )


def edition_finding(dsn: str) -> Finding:
    """The database answers, and has TimescaleDB in one of its editions and of a release that serves."""
    import psycopg  # noqa: PLC0415

    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute(f"SET statement_timeout = '{CONNECT_SECONDS}s'")
            row = connection.execute(
                "SELECT current_setting('server_version'), current_setting('timescaledb.license', true),"
                " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
            ).fetchone()
    except psycopg.OperationalError as error:
        return Finding(
            "edition",
            well=False,
            text=f"the database does not answer: {str(error).strip()}",
            remedy="weir logs database",
        )
    assert row is not None
    server, licence, extension = row
    if extension is None:
        return Finding(
            "edition", well=False, text=f"PostgreSQL {server} without TimescaleDB", remedy="weir migrate"
        )
    if reason := refusal(extension):
        return Finding(
            "edition",
            well=False,
            text=reason,
            remedy="install a newer one, then ALTER EXTENSION timescaledb UPDATE",
        )
    edition = "community" if licence == "timescale" else "Apache"
    return Finding(
        "edition", well=True, text=f"{edition} edition, TimescaleDB {extension} on PostgreSQL {server}"
    )


def migrations_finding(dsn: str) -> Finding:
    """The database is at the newest revision."""
    import psycopg  # noqa: PLC0415

    from schema.migrations.migrate import newest_revision  # noqa: PLC0415

    newest = newest_revision()
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    revision = "none" if row is None else str(row[0])
    if revision == newest:
        return Finding("migrations", well=True, text=f"at the newest revision, {newest}")
    return Finding(
        "migrations", well=False, text=f"at revision {revision}, not {newest}", remedy="weir migrate"
    )


def process_finding(name: str, url: str) -> Finding:
    """A process is ready, by its own account."""
    shown = title(name)
    answer = readiness(f"{url}/readyz")
    if answer.missing is not None:
        return Finding(
            shown,
            well=False,
            text=f"not ready at {url}: {answer.missing}",
            remedy=f"weir logs {shown} may say why",
        )
    degraded = f", degraded: {answer.degraded}" if answer.degraded else ""
    return Finding(shown, well=True, text=f"ready at {url}{degraded}")
