"""Weir's own processes for end-to-end tests: real ones, on free ports, ended with the test or its runner.

A `Weir` is one deployment on given servers: any number of gateways and writers, a query API, a bucket with
an ingest and a read key. Nothing here looks inside a process: tests kill, stop and ask over the sockets only.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psycopg

from deploy.local.child import LAUNCHER
from deploy.local.ports import free_port
from deploy.local.spawning import spawn
from schema.identities import new_bucket_id, new_secret, secret_digest, secret_prefix
from tests.support import secret_search
from tests.support.topics import TopicNames

READY_SECONDS = 40.0
STOP_SECONDS = 12.0
_IS_SECRET = re.compile("KEY$|SECRET|PASSWORD")
# The command that `make setup` installed beside this Python.
WEIR = Path(sys.executable).parent / "weir"


@dataclass(slots=True)
class Process:
    """One child: its role, where it listens, where it logs."""

    role: str
    port: int
    log_path: Path
    child: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.child.kill()
        self.child.wait(timeout=5)

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM; the exit code. Fails the test when it takes longer than ``seconds``."""
        self.child.terminate()
        return self.child.wait(timeout=seconds)

    def freeze(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    @property
    def resident_bytes(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.role} has no resident memory: it ended")

    def log(self) -> str:
        """All that it has logged."""
        return self.log_path.read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a test calls with."""

    bucket_id: str
    ingest_key: str
    read_key: str
    access_token: str


@dataclass(slots=True)
class Weir:
    """A deployment: its settings as environment variables, and its running processes."""

    kafka_bootstrap: str
    database_dsn: str
    topics: TopicNames
    folder: Path
    credentials: Credentials
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, role: str, *, ready: bool = True, **settings: str) -> Process:
        """Start one process of a role; with ``ready``, return once /readyz is content."""
        port = int(settings.get(f"WEIR_{role.upper()}_PORT") or free_port())
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WEIR_")},
            "WEIR_KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "WEIR_KAFKA_EVENTS_TOPIC": self.topics.events,
            "WEIR_KAFKA_DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "WEIR_KAFKA_GROUP": self.topics.group,
            "WEIR_KAFKA_PARTITIONS": "4",
            "WEIR_DATABASE_DSN": self.database_dsn,
            f"WEIR_{role.upper()}_PORT": str(port),
            **self.settings,
            **settings,
        }
        log_path = self.folder / f"{role}-{len(self.processes)}.log"
        # The kernel ends it with this process: nobody else would, should the test runner be killed.
        command = [*LAUNCHER, str(WEIR), role]
        child = spawn(command, environment=environment, directory=Path.cwd(), output=log_path)
        process = Process(role, port, log_path, child)
        self.processes.append(process)
        if ready:
            wait_ready(process)
        return process

    def end(self) -> None:
        """End what still runs, by its process id."""
        for process in self.processes:
            if process.child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.thaw()
                process.child.terminate()
        for process in self.processes:
            try:
                process.child.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._search_logs()

    def _search_logs(self) -> None:
        """Fails where a process has logged a secret."""
        secret_search.note(*(value for name, value in self.settings.items() if _IS_SECRET.search(name)))
        for process in self.processes:
            found = secret_search.secrets_in(process.log())
            assert not found, f"secrets in the log of the {process.role}: {found}"


@contextlib.contextmanager
def deployed(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, folder: Path, **settings: str
) -> Iterator[Weir]:
    """A deployment without processes yet; those that the test starts end with the block."""
    weir = Weir(kafka_bootstrap, database_dsn, topics, folder, make_bucket(database_dsn), settings)
    try:
        yield weir
    finally:
        weir.end()


def wait_ready(process: Process, seconds: float = READY_SECONDS) -> None:
    """Until /readyz answers 200. Fails with the log when the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    answer = "no answer"
    while time.monotonic() < deadline:
        if process.child.poll() is not None:
            raise AssertionError(
                f"{process.role} ended with {process.child.returncode}:\n{process.log()[-3000:]}"
            )
        try:
            with urllib.request.urlopen(f"{process.url}/readyz", timeout=3):
                return
        except urllib.error.HTTPError as error:
            answer = error.read().decode(errors="replace")
        except OSError as error:
            answer = repr(error)
        time.sleep(0.1)
    raise AssertionError(f"{process.role} is not ready after {seconds} s: {answer}\n{process.log()[-3000:]}")


def make_bucket(dsn: str) -> Credentials:
    """A workspace, its owner with an access token, a bucket with an ingest key and a read key."""
    workspace_id, user_id, bucket_id = (new_bucket_id() for _ in range(3))
    ingest_key, read_key, access_token = (new_secret(kind) for kind in ("ingest", "read", "access"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO workspaces VALUES (%s, 'tests')", [workspace_id])
        connection.execute(
            "INSERT INTO users (user_id, email, username) VALUES (%s, %s, 'tester')",
            [user_id, f"{secrets.token_hex(4)}@example.com"],
        )
        connection.execute("INSERT INTO workspace_members VALUES (%s, %s, 'owner')", [workspace_id, user_id])
        row = connection.execute(
            "INSERT INTO bucket_keys (bucket_id) VALUES (%s) RETURNING bucket_key", [bucket_id]
        ).fetchone()
        assert row is not None
        connection.execute(
            "INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name) VALUES (%s, %s, %s, 'tests')",
            [bucket_id, row[0], workspace_id],
        )
        connection.execute("INSERT INTO bucket_members VALUES (%s, %s, 'owner')", [bucket_id, user_id])
        for scope, key in (("ingest", ingest_key), ("read", read_key)):
            connection.execute(
                "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, bucket_id)"
                " VALUES (%s, %s, %s, %s, %s)",
                [new_bucket_id(), secret_prefix(key), secret_digest(key), scope, bucket_id],
            )
        connection.execute(
            "INSERT INTO access_tokens (secret_sha256, user_id, expires_at)"
            " VALUES (%s, %s, now() + INTERVAL '1 day')",
            [secret_digest(access_token), user_id],
        )
    return Credentials(bucket_id, ingest_key, read_key, access_token)


def call(
    process: Process, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, object]:
    """One request; (status, the body as JSON)."""
    data = None if body is None else orjson.dumps(body)
    request = urllib.request.Request(process.url + path, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, orjson.loads(error.read() or b"null")
