"""`weir up` to `weir down`, as a person and a program meet them: the whole stack with servers of its own."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import kafka, timescale
from deploy.local.paths import local_paths
from deploy.local.ports import free_port
from deploy.local.state import StackState, read_state, survivors
from tests.support.secret_search import secrets_in
from tests.support.servers import temporary_folder
from tests.support.topics import TopicNames

pytestmark = pytest.mark.timeout(300)

PROCESSES = {"kafka", "database", "api", "gateway", "writer", "agent"}
UP_SECONDS = 180
DOWN_SECONDS = 10
PORTS = ("KAFKA", "KAFKA_CONTROLLER", "DATABASE", "API", "GATEWAY", "WRITER", "AGENT")


@dataclass(slots=True)
class LocalStack:
    """A home of its own for the `weir` command, with free ports."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = {f"WEIR_{part}_PORT": str(free_port()) for part in PORTS}
        self.settings = {
            "WEIR_HOME": str(self.home),
            "WEIR_AGENT_INTERVAL_SECONDS": "1",
            **ports,
            **self.settings,
        }

    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        return ours | self.settings

    def weir(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        answer = self.weir("up", "--detach", seconds=UP_SECONDS)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer

    def state(self) -> StackState:
        state = read_state(self.home)
        assert state is not None
        return state

    def pid(self, name: str) -> int | None:
        return next(process.pid for process in self.state().processes if process.name == name)

    def credentials(self) -> Any:
        return json.loads((self.home / "credentials.json").read_text())

    def ask(self, url: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """A POST with a JSON body, or a GET without one; the status and what was answered."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json", **named})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def read_events(self, body: object, *, path: str = "", **headers: str) -> tuple[int, Any]:
        known = self.credentials()
        url = f"{known['api']}/api/bucket/{known['bucket']['id']}/data/events{path}"
        return self.ask(url, body, Authorization=f"Bearer {known['user']['access_token']}", **headers)

    def send_event(self, body: object) -> Any:
        known = self.credentials()
        status, answer = self.ask(
            f"{known['gateway']}/v1/events", body, X_Api_Key=known["bucket"]["ingest_key"]
        )
        assert status == 202, answer
        return answer


def until(condition: Callable[[], bool], *, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home whose programs are links to those that the project fetched already."""
    kafka.install()
    timescale.install()
    fetched = local_paths()
    with temporary_folder("stack") as folder:
        own = local_paths(folder)
        for link, program in (
            (own.kafka_program, fetched.kafka_program),
            (own.timescale_program, fetched.timescale_program),
        ):
            link.parent.mkdir(parents=True, exist_ok=True)
            if program.exists():
                link.symlink_to(program)
        yield folder


@pytest.fixture(scope="module")
def module_stack(home: Path) -> Iterator[LocalStack]:
    stack = LocalStack(home)
    yield stack
    stack.weir("down")
    for log in (home / "logs").iterdir():
        assert not secrets_in(log.read_text(errors="replace")), f"{log.name} holds a secret"


@pytest.fixture
def stack(module_stack: LocalStack) -> LocalStack:
    """The stack, up: a test may leave it down or half dead."""
    module_stack.up()
    until(lambda: module_stack.weir("status").returncode == 0, within_seconds=60)
    return module_stack


def test_an_event_is_sent_read_back_with_its_receipt_and_the_agents_events_are_counted(
    stack: LocalStack,
) -> None:
    sent = stack.send_event({"name": "hello", "data": {"answer": 42}})
    assert (sent["accepted"], sent["rejected"]) == (1, [])

    status, events = stack.read_events({"event_name": "hello", "limit": 1}, X_Weir_Receipt=sent["receipt"])
    assert status == 200
    assert [(event["event_name"], event["data"]) for event in events] == [("hello", {"answer": 42})]

    def agent_events() -> int:
        status, points = stack.read_events(
            {"event_name": "system.load", "interval": "minute", "days": 1}, path="/stats"
        )
        assert status == 200
        return sum(count for _, count in points)

    before = agent_events()
    until(lambda: agent_events() > before, within_seconds=30)


def test_the_credentials_are_private_and_complete_while_it_is_up(stack: LocalStack) -> None:
    path = stack.home / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    known = stack.credentials()
    assert set(known) == {"api", "gateway", "user", "bucket"}
    assert set(known["user"]) == {"email", "access_token", "refresh_token"}
    assert set(known["bucket"]) == {"id", "ingest_key", "read_key"}
    assert known["api"] == f"http://127.0.0.1:{stack.settings['WEIR_API_PORT']}"
    assert known["gateway"] == f"http://127.0.0.1:{stack.settings['WEIR_GATEWAY_PORT']}"
    for log in (stack.home / "logs").iterdir():
        text = log.read_text(errors="replace")
        for secret in (
            known["user"]["access_token"],
            known["bucket"]["ingest_key"],
            known["bucket"]["read_key"],
        ):
            assert secret not in text, f"{log.name} holds a secret"


def test_status_doctor_and_logs_know_every_process(stack: LocalStack) -> None:
    assert {process.name for process in stack.state().processes} == PROCESSES
    status = stack.weir("status")
    assert status.returncode == 0
    for name in ("Kafka", "TimescaleDB", "query API", "gateway", "writer", "agent"):
        assert f"{name} " in status.stdout

    doctor = stack.weir("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert "edition" in doctor.stdout
    assert "newest revision" in doctor.stdout

    logs = stack.weir("logs", "--lines", "2")
    for name in ("Kafka", "TimescaleDB", "query API", "gateway", "writer", "agent"):
        assert any(line.startswith(f"{name} ") for line in logs.stdout.splitlines()), name
    for name in ("query API", "gateway", "writer", "agent"):
        assert f"{name} " in doctor.stdout


def test_a_second_up_says_that_it_is_up_and_changes_nothing(stack: LocalStack) -> None:
    before = stack.state()
    again = stack.weir("up")
    assert again.returncode == 0
    assert "up already" in again.stdout
    after = stack.state()
    assert [process.pid for process in after.processes] == [process.pid for process in before.processes]


def test_keys_are_made_used_listed_and_revoked(stack: LocalStack) -> None:
    made = stack.weir("key", "create", "--scope", "read", "--name", "a dashboard")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    known = stack.credentials()
    url = f"{known['api']}/api/bucket/{known['bucket']['id']}/data/events"
    assert stack.ask(url, {"event_name": "hello"}, X_Api_Key=key)[0] == 200

    listed = stack.weir("key", "list")
    assert "a dashboard" in listed.stdout
    assert key not in listed.stdout

    assert stack.weir("key", "revoke", key).returncode == 0
    assert "a dashboard" not in stack.weir("key", "list").stdout
    until(lambda: stack.ask(url, {"event_name": "hello"}, X_Api_Key=key)[0] == 401, within_seconds=35)


@pytest.mark.parametrize("name", ["writer", "gateway", "kafka", "database"])
def test_a_killed_process_is_started_again_and_the_way_of_an_event_is_whole(
    stack: LocalStack, name: str
) -> None:
    killed = stack.pid(name)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def restarted() -> bool:
        process = next(process for process in stack.state().processes if process.name == name)
        return process.restarts >= 1 and process.pid not in {None, killed}

    until(restarted, within_seconds=60)
    until(lambda: stack.weir("status").returncode == 0, within_seconds=60)
    assert "killed" in (stack.home / "logs" / "supervisor.log").read_text()

    def readable() -> bool:
        sent = stack.send_event({"name": f"after.{name}"})
        status, events = stack.read_events({"event_name": f"after.{name}"}, X_Weir_Receipt=sent["receipt"])
        return status == 200 and len(events) > 0

    until(readable, within_seconds=60)


def test_down_ends_everything_in_time_and_up_comes_back_with_the_same_bucket_and_events(
    stack: LocalStack,
) -> None:
    sent = stack.send_event({"name": "kept"})
    assert stack.read_events({"event_name": "kept"}, X_Weir_Receipt=sent["receipt"])[0] == 200
    before, state = stack.credentials(), stack.state()

    began = time.monotonic()
    down = stack.weir("down")
    took = time.monotonic() - began
    assert down.returncode == 0, down.stdout
    assert took < DOWN_SECONDS
    assert survivors(state) == {}
    assert not (stack.home / "credentials.json").exists()
    assert not (stack.home / "state.json").exists()
    assert stack.weir("status").returncode == 3

    stack.up()
    after = stack.credentials()
    assert after["bucket"] == before["bucket"]
    assert after["user"]["refresh_token"] == before["user"]["refresh_token"]
    assert len(stack.read_events({"event_name": "kept"})[1]) == 1
    # The former access token ended with the former run.
    url = f"{after['api']}/api/bucket/{after['bucket']['id']}/data/events"
    former = f"Bearer {before['user']['access_token']}"
    assert stack.ask(url, {"event_name": "kept"}, Authorization=former)[0] == 401


def test_nothing_outlives_a_supervisor_that_is_killed_and_the_next_up_clears_up_after_it(
    stack: LocalStack,
) -> None:
    state = stack.state()
    children = list(survivors(state).values())
    assert len(children) == len(PROCESSES)

    os.kill(state.supervisor_pid, signal.SIGKILL)
    _, living = psutil.wait_procs(children, timeout=DOWN_SECONDS)
    assert living == []
    status = stack.weir("status")
    assert status.returncode == 3
    assert "ended without taking it down" in status.stdout

    stack.up()
    assert stack.state().supervisor_pid != state.supervisor_pid
    assert stack.weir("status").returncode == 0


@pytest.fixture
def given_servers(kafka_bootstrap: str, empty_database_dsn: str, topics: TopicNames) -> dict[str, str]:
    """The settings of a stack whose servers are somebody else's."""
    return {
        "WEIR_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "WEIR_DATABASE_DSN": empty_database_dsn,
        "WEIR_KAFKA_EVENTS_TOPIC": topics.events,
        "WEIR_KAFKA_DEAD_LETTERS_TOPIC": topics.dead_letters,
        "WEIR_KAFKA_GROUP": topics.group,
    }


def test_given_servers_are_used_and_not_started(given_servers: dict[str, str]) -> None:
    with temporary_folder("given") as home:
        stack = LocalStack(home, given_servers)
        try:
            stack.up()
            assert {process.name for process in stack.state().processes} == PROCESSES - {"kafka", "database"}
            sent = stack.send_event({"name": "hello"})
            status, events = stack.read_events({"event_name": "hello"}, X_Weir_Receipt=sent["receipt"])
            assert (status, len(events)) == (200, 1)
        finally:
            assert stack.weir("down").returncode == 0
        assert not (home / "data").exists()


def test_ctrl_c_in_the_foreground_ends_everything_in_time(given_servers: dict[str, str]) -> None:
    with temporary_folder("foreground") as home:
        stack = LocalStack(home, given_servers)
        with (home / "screen").open("w") as screen:
            foreground = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "up"],
                env=stack.environment(),
                stdout=screen,
                stderr=screen,
            )
        try:
            until(lambda: "Ctrl-C" in (home / "screen").read_text(), within_seconds=UP_SECONDS)
            shown = (home / "screen").read_text()
            state = stack.state()
            assert stack.credentials()["user"]["access_token"] in shown
            began = time.monotonic()
            foreground.send_signal(signal.SIGINT)
            assert foreground.wait(DOWN_SECONDS) == 0
            assert time.monotonic() - began < DOWN_SECONDS
            assert survivors(state) == {}
        finally:
            foreground.kill()
            foreground.wait()
