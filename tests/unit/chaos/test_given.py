"""A given server's processes are touched only if its file and the kernel agree on which they are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.given import DISK, PROCESSES, START, GivenDatabase, Reach

PORT = 5433
DSN = f"postgresql://tester@127.0.0.1:{PORT}/weir_test_chaos"


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    """A process that is none of PostgreSQL's, with a number and a beginning."""
    with subprocess.Popen(["sleep", "60"]) as child:
        yield psutil.Process(child.pid)
        child.kill()


def noted(folder: Path, number: int, started_at: float, port: int = PORT) -> GivenDatabase:
    file = folder / "postmaster.pid"
    file.write_text(f"{number}\n/data\n{started_at:.0f}\n{port}\n/socket\n127.0.0.1\n  1234  5\nready   \n")
    return GivenDatabase(DSN, Reach(file))


def test_the_process_that_its_file_names(tmp_path: Path, sleeper: psutil.Process) -> None:
    assert noted(tmp_path, sleeper.pid, sleeper.create_time()).pid == sleeper.pid


def test_another_process_with_its_number(tmp_path: Path, sleeper: psutil.Process) -> None:
    assert noted(tmp_path, sleeper.pid, sleeper.create_time() - 60).pid is None


def test_a_server_of_another_port(tmp_path: Path, sleeper: psutil.Process) -> None:
    assert noted(tmp_path, sleeper.pid, sleeper.create_time(), PORT + 1).pid is None


def test_a_process_that_has_ended(tmp_path: Path, sleeper: psutil.Process) -> None:
    server = noted(tmp_path, sleeper.pid, sleeper.create_time())
    server.kill()
    assert server.pid is None
    server.kill()


@pytest.mark.parametrize("text", ["", "12\n", "no number\n/data\n1\n5433\n"])
def test_a_file_of_something_else(tmp_path: Path, text: str) -> None:
    file = tmp_path / "postmaster.pid"
    file.write_text(text)
    assert GivenDatabase(DSN, Reach(file)).pid is None
    assert GivenDatabase(DSN, Reach(tmp_path / "none")).pid is None


@pytest.mark.parametrize(
    ("reach", "abilities"),
    [
        (Reach(), set()),
        (Reach(start_command="true", disk=Path()), set()),
        (Reach(Path("pid")), {PROCESSES}),
        (Reach(Path("pid"), disk=Path()), {PROCESSES}),
        (Reach(Path("pid"), "true"), {PROCESSES, START}),
        (Reach(Path("pid"), "true", Path()), {PROCESSES, START, DISK}),
    ],
)
def test_what_is_out_of_reach_is_left_alone(reach: Reach, abilities: set[str]) -> None:
    assert reach.abilities == abilities
