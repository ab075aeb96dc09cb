"""The supervisor with small real processes: what it promises about crashes, loops, ends and orphans."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.child import CommandChild
from deploy.local.servers import ServerChild
from deploy.local.state import Standing
from deploy.local.supervisor import Report, Supervisor, share_seconds
from schema.errors import Unavailable

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
QUICK_PAUSES = (0.05, 0.1)


def until(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Watch:
    """A supervisor and everything that it reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports: list[Report] = []
        self.supervisor = Supervisor(self.reports.append, pauses_seconds=QUICK_PAUSES)

    def child(self, name: str, command: list[str]) -> CommandChild:
        return CommandChild(name, command, log=self.folder / f"{name}.log")

    def standings(self, name: str) -> list[Standing]:
        return [report.standing for report in self.reports if report.name == name]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path)
    yield watch
    watch.supervisor.stop([], budget_seconds=5)


def test_a_killed_child_is_reported_and_started_again_as_another_process(watch: Watch) -> None:
    guardian = watch.supervisor.start(watch.child("writer", SLEEPER))
    assert guardian.settled(10)
    first = guardian.state.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)

    until(lambda: watch.standings("writer").count(Standing.READY) == 2)
    assert guardian.state.pid not in {None, first}
    assert guardian.state.restarts == 1
    crash = next(report for report in watch.reports if report.standing is Standing.RESTARTING)
    assert "killed by SIGKILL" in crash.text


def test_a_child_that_keeps_ending_is_said_to_be_in_a_crash_loop_with_its_last_words(watch: Watch) -> None:
    guardian = watch.supervisor.start(
        watch.child("gateway", [sys.executable, "-c", "print('no port for me'); raise SystemExit(3)"])
    )
    # Without a readiness address a child is ready while it lives: it may settle before its loop is seen.
    until(lambda: Standing.CRASH_LOOP in watch.standings("gateway"))
    loop = next(report for report in watch.reports if report.standing is Standing.CRASH_LOOP)
    assert "exit code 3" in loop.text
    assert "no port for me" in loop.last_words
    assert guardian.state.restarts >= 4


def test_a_program_that_does_not_exist_is_a_crash_with_its_reason_in_the_log(watch: Watch) -> None:
    watch.supervisor.start(watch.child("agent", ["/nowhere/weir-agent"]))
    until(lambda: Standing.RESTARTING in watch.standings("agent"))
    assert (
        "/nowhere/weir-agent" in (watch.folder / "agent.log").read_text()
        or "FileNotFoundError" in (watch.folder / "agent.log").read_text()
    )


def test_children_end_in_the_given_order_and_one_that_ignores_sigterm_is_killed_within_the_budget(
    watch: Watch,
) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); time.sleep(600)"
    )
    guardians = [
        watch.supervisor.start(watch.child("kafka", SLEEPER)),
        watch.supervisor.start(watch.child("gateway", [sys.executable, "-c", deaf])),
        watch.supervisor.start(watch.child("agent", SLEEPER)),
    ]
    for guardian in guardians:
        assert guardian.settled(10)
    until(lambda: (watch.folder / "gateway.log").read_bytes() == b"deaf\n")
    pids = [guardian.state.pid for guardian in guardians]

    began = time.monotonic()
    watch.supervisor.stop(["agent", "gateway", "kafka"], budget_seconds=2)
    assert time.monotonic() - began < 3

    ended = [report.name for report in watch.reports if report.standing is Standing.STOPPED]
    assert ended == ["agent", "gateway", "kafka"]
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    killed = next(report for report in watch.reports if report.name == "gateway" and report.text)
    assert "killed" in killed.text


def test_stopping_does_not_wait_for_the_pause_before_a_restart(tmp_path: Path) -> None:
    reports: list[Report] = []
    supervisor = Supervisor(reports.append, pauses_seconds=(60.0,))
    supervisor.start(CommandChild("api", [sys.executable, "-c", ""], log=tmp_path / "api.log"))
    until(lambda: any(report.standing is Standing.RESTARTING for report in reports))
    began = time.monotonic()
    supervisor.stop([], budget_seconds=5)
    assert time.monotonic() - began < 1


class ServerThatNeverServes:
    """What a server's start is like while it waits: it returns only when the server is gone."""

    pid: int | None = None

    def __init__(self) -> None:
        self.ended = threading.Event()

    def start(self) -> None:
        assert self.ended.wait(30)
        raise Unavailable("PostgreSQL ended while it started")

    def stop(self, grace_seconds: float) -> bool:
        assert grace_seconds >= 0
        self.ended.set()
        return True


def test_a_server_that_is_still_starting_is_ended_in_time(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda _report: None)
    server = ServerThatNeverServes()
    child = ServerChild(
        "database", server, url="127.0.0.1:1", log=tmp_path / "link.log", server_log=tmp_path / "server.log"
    )
    guardian = supervisor.start(child)
    assert not guardian.settled(0.3)
    began = time.monotonic()
    supervisor.stop([], budget_seconds=5)
    assert time.monotonic() - began < 2
    assert guardian.state.standing is Standing.STOPPED
    assert guardian.state.restarts == 0


SUPERVISING = """
import sys, threading
from pathlib import Path
from deploy.local.child import CommandChild
from deploy.local.supervisor import Supervisor
supervisor = Supervisor(lambda report: None)
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
guardians = [supervisor.start(CommandChild(name, sleeper, log=Path(sys.argv[1]) / name)) for name in "abc"]
assert all(guardian.settled(10) for guardian in guardians)
print(*(guardian.state.pid for guardian in guardians), flush=True)
threading.Event().wait()
"""


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervising = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert supervising.stdout is not None
    try:
        children = [psutil.Process(int(pid)) for pid in supervising.stdout.readline().split()]
        assert len(children) == 3
        assert all(child.is_running() for child in children)
    finally:
        supervising.kill()
        supervising.wait()
        supervising.stdout.close()
    _, living = psutil.wait_procs(children, timeout=5)
    assert living == []


def test_a_child_is_out_of_reach_of_the_terminals_ctrl_c(watch: Watch) -> None:
    guardian = watch.supervisor.start(watch.child("writer", SLEEPER))
    assert guardian.settled(10)
    assert guardian.state.pid is not None
    assert os.getpgid(guardian.state.pid) != os.getpgid(0)


def test_reports_come_one_at_a_time(tmp_path: Path) -> None:
    inside = threading.Lock()
    overlaps: list[str] = []

    def observer(report: Report) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(report.name)
            return
        time.sleep(0.01)
        inside.release()

    supervisor = Supervisor(observer, pauses_seconds=QUICK_PAUSES)
    for name in "abcd":
        supervisor.start(CommandChild(name, [sys.executable, "-c", ""], log=tmp_path / name))
    time.sleep(0.5)
    supervisor.stop([], budget_seconds=5)
    assert overlaps == []


@pytest.mark.parametrize(
    ("left_seconds", "others", "share"),
    [(8.0, 3, 4.0), (4.0, 1, 2.0), (2.0, 0, 2.0), (-1.0, 2, 0.0)],
)
def test_a_child_may_use_half_of_what_is_left_and_the_last_one_all_of_it(
    left_seconds: float, others: int, share: float
) -> None:
    assert share_seconds(left_seconds, others) == share
