"""The whole local stack: which processes, in which order, and what has to be true between them.

    kafka ──── topics ────┐
                          ├──▶ gateway ──▶ agent
    database ─ migrations ┤    writer
             └ first run ─┴──▶ api

Kafka and the database start side by side; everything that waits for one of them starts as soon as that one is
there. The way down is the other way round: agent, gateway, writer, api, kafka, database, so that nothing
loses what it still wants to hand on.

Neighbours: `deploy.cli.up` runs it; `deploy.local.supervisor` keeps the processes alive; `deploy.local.state`
and `deploy.local.credentials` tell other programs of it.
Guarantee: `run` either reaches "ready" or raises `StackError` with everything ended; once `stop` is set it
has ended everything within STOP_SECONDS, and revoked the access token that it made if the database still
answers.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from deploy.local.child import CommandChild
from deploy.local.credentials import (
    Credentials,
    credentials_of,
    kept_secret_key,
    remove_credentials,
    write_credentials,
)
from deploy.local.kafka import KafkaServer
from deploy.local.leftovers import sweep
from deploy.local.paths import Paths
from deploy.local.rotation import last_lines, log_path
from deploy.local.servers import ServerChild
from deploy.local.settings import LOOPBACK, LocalSettings
from deploy.local.state import (
    Phase,
    ProcessState,
    StackState,
    Standing,
    remove_state,
    supervisor_lock,
    write_state,
)
from deploy.local.supervisor import LAST_WORDS, Guardian, Observer, Report, Supervisor
from deploy.local.timescale import TimescaleServer, system_program
from schema.errors import WeirError

if TYPE_CHECKING:
    from deploy.local.preparation import Tenancy

START_ORDER = ("kafka", "database", "api", "gateway", "writer", "agent")
STOP_ORDER = ("agent", "gateway", "writer", "api", "kafka", "database")
READY_SECONDS = 120.0
STOP_SECONDS = 9.0
REVOKE_SECONDS = 1.0
# What each of our own processes takes at most for its end, so that all of them fit into STOP_SECONDS.
PROCESS_SHUTDOWN_SECONDS = 2.0


class StackError(RuntimeError):
    """The stack cannot come up. `last_words` are the last lines of the log that tells why."""

    def __init__(self, message: str, last_words: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.last_words = last_words


class StoppedError(StackError):
    """Somebody asked for the end before the stack was up, or another part of it failed first."""


class Stack:
    """One run of the stack, supervised by the calling process.

    `stop` may be set from a signal handler at any moment. The observer hears of every change of a process.
    """

    def __init__(
        self, settings: LocalSettings, paths: Paths, *, observer: Observer, stop: threading.Event
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._home = paths.home
        self._observer = observer
        self._stop = stop
        self._abandoned = threading.Event()
        self._supervisor = Supervisor(self._noticed)
        self._writing = threading.Lock()
        self._state = StackState.begun(self._expected())
        self._tenancy: Tenancy | None = None

    def run(self, ready: Callable[[Credentials], None]) -> None:
        """Come up, call `ready`, stay until `stop` is set, go down.

        Raises:
            AlreadyUpError: another supervisor has this home.
            StackError: something does not come up; everything is down again.
            StoppedError: `stop` was set before everything was up; everything is down again.
        """
        with supervisor_lock(self._home):
            sweep(self._home)
            self._enter(Phase.STARTING)
            try:
                credentials = self._come_up()
                write_credentials(self._home, credentials)
                self._enter(Phase.READY)
                ready(credentials)
                self._stop.wait()
            except StoppedError:
                self._go_down()
                remove_state(self._home)
                raise
            except BaseException as error:
                self._go_down()
                self._enter(Phase.FAILED, str(error) or type(error).__name__)
                raise
            self._go_down()
            remove_state(self._home)

    def _expected(self) -> tuple[ProcessState, ...]:
        given = {"kafka": self._settings.kafka_bootstrap, "database": self._settings.database_dsn}
        return tuple(
            ProcessState(name=name, log=log_path(self._home, name))
            for name in START_ORDER
            if given.get(name) is None
        )

    # --- up

    def _come_up(self) -> Credentials:
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="start") as pool:
            kafka, database = pool.submit(self._kafka_side), pool.submit(self._database_side)
            for side in as_completed((kafka, database)):
                if side.exception() is not None:
                    self._abandoned.set()
        # Of two failures, the one that is not a consequence of the other is told.
        for failure in sorted(
            filter(None, (kafka.exception(), database.exception())), key=lambda e: isinstance(e, StoppedError)
        ):
            raise failure
        bootstrap, tenancy = kafka.result(), database.result()
        environment = self._environment(bootstrap, tenancy.dsn)
        settings, first = self._settings, tenancy.first
        processes = [
            self._start_process("api", environment, settings.api_url),
            self._start_process("gateway", environment, settings.gateway_url),
            self._start_process("writer", environment, settings.writer_url),
        ]
        for guardian in processes:
            self._until_ready(guardian)
        agent = {
            # Without a port it would serve neither health nor metrics.
            "WEIR_AGENT_PORT": str(settings.agent_port),
            "WEIR_AGENT_GATEWAY": settings.gateway_url,
            "WEIR_AGENT_KEY": first.ingest_key,
            "WEIR_AGENT_BUFFER_PATH": str(self._home / "agent"),
        }
        self._until_ready(self._start_process("agent", environment | agent, settings.agent_url))
        return credentials_of(
            first,
            access_token=tenancy.access_token,
            api_url=settings.api_url,
            gateway_url=settings.gateway_url,
        )

    def _kafka_side(self) -> str:
        bootstrap, guardian = self._settings.kafka_bootstrap, None
        if bootstrap is None:
            kafka = kafka_server(self._settings, self._paths)
            bootstrap, guardian = kafka.bootstrap, self._start_server("kafka", kafka, kafka.bootstrap)
        # Imports drivers, in the time that Kafka takes to start.
        from deploy.local.preparation import make_topics  # noqa: PLC0415

        if guardian is not None:
            self._until_ready(guardian)
        try:
            make_topics(bootstrap)
        except WeirError as error:
            raise StackError(f"the topics cannot be made: {error.message}") from error
        self._tell(kafka_bootstrap=bootstrap)
        return bootstrap

    def _database_side(self) -> "Tenancy":
        from deploy.local.preparation import make_tenancy, migrated  # noqa: PLC0415

        dsn = self._settings.database_dsn
        try:
            if dsn is None:
                database = database_server(self._settings, self._paths)
                self._until_ready(self._start_server("database", database, f"{LOOPBACK}:{database.port}"))
                # A new server has its password, and so its DSN, only after its first start.
                dsn = database.dsn
            migrated(dsn)
            self._tenancy = make_tenancy(dsn, self._home)
        except WeirError as error:
            raise StackError(f"the database cannot be prepared: {error.message}") from error
        self._tell(database_dsn=dsn)
        return self._tenancy

    def _environment(self, bootstrap: str, dsn: str) -> dict[str, str]:
        given = dict(os.environ)
        given.setdefault("WEIR_SHUTDOWN_SECONDS", str(PROCESS_SHUTDOWN_SECONDS))
        given.setdefault("WEIR_MAIL_FOLDER", str(self._home / "mail"))
        if "WEIR_SECRET_KEY" not in given:
            given["WEIR_SECRET_KEY"] = kept_secret_key(self._home)
        return given | {"PYTHONUNBUFFERED": "1", "WEIR_KAFKA_BOOTSTRAP": bootstrap, "WEIR_DATABASE_DSN": dsn}

    def _start_server(self, name: str, server: KafkaServer | TimescaleServer, address: str) -> Guardian:
        child = ServerChild(name, server, url=address, log=log_path(self._home, name), server_log=server.log)
        return self._supervisor.start(child)

    def _start_process(self, name: str, environment: dict[str, str], url: str) -> Guardian:
        return self._supervisor.start(
            CommandChild(
                name,
                [sys.executable, "-m", "deploy.cli", name],
                log=log_path(self._home, name),
                environment=environment,
                url=url,
                readiness_url=f"{url}/readyz",
            )
        )

    def _until_ready(self, guardian: Guardian) -> None:
        name = guardian.child.name
        deadline = time.monotonic() + READY_SECONDS
        while not guardian.settled(0.1):
            if self._stop.is_set() or self._abandoned.is_set():
                raise StoppedError("stopped before everything was up")
            if time.monotonic() > deadline:
                waited = f"{name} is not ready after {READY_SECONDS:.0f} s: {guardian.state.note}"
                raise StackError(waited, tuple(last_lines(log_path(self._home, name), LAST_WORDS)))
        if guardian.state.standing is Standing.CRASH_LOOP:
            # Its last words were reported with the crash.
            raise StackError(f"{name} {guardian.state.note.partition(';')[0]}")

    # --- down

    def _go_down(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        self._enter(Phase.STOPPING)
        remove_credentials(self._home)
        revoking = threading.Thread(target=self._revoke, name="revoke the access token", daemon=True)
        revoking.start()
        revoking.join(REVOKE_SECONDS)
        self._supervisor.stop(STOP_ORDER, budget_seconds=deadline - time.monotonic())

    def _revoke(self) -> None:
        if self._tenancy is None:
            return
        from deploy.local.preparation import end_tenancy  # noqa: PLC0415

        try:
            end_tenancy(self._tenancy)
        except WeirError as error:
            self._observer(
                Report("database", Standing.STOPPING, f"the access token was not revoked: {error.message}")
            )

    # --- told to other shells

    def _noticed(self, report: Report) -> None:
        self._write_state()
        self._observer(report)

    def _enter(self, phase: Phase, note: str = "") -> None:
        self._tell(phase=phase, note=note)

    def _tell(self, **changes: object) -> None:
        with self._writing:
            self._state = self._state.model_copy(update=changes)
        self._write_state()

    def _write_state(self) -> None:
        with self._writing:
            known = self._supervisor.states
            processes = tuple(known.get(process.name, process) for process in self._state.processes)
            self._state = self._state.model_copy(update={"processes": processes})
            write_state(self._home, self._state)


def kafka_server(settings: LocalSettings, paths: Paths) -> KafkaServer:
    """The Kafka of the stack."""
    return KafkaServer(
        paths.kafka_data,
        settings.kafka_port,
        settings.kafka_controller_port,
        settings.kafka_heap_mb,
        program=paths.kafka_program,
    )


def database_server(settings: LocalSettings, paths: Paths) -> TimescaleServer:
    """The database of the stack."""
    return TimescaleServer(
        paths.timescale_data, settings.database_port, program=system_program() or paths.timescale_program
    )
