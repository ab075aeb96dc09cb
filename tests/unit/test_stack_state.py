"""The state file of the stack: private, whole, and believed only while its supervisor lives."""

import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from deploy.local.leftovers import sweep
from deploy.local.state import (
    STATE_FILE,
    AlreadyUpError,
    ProcessState,
    StackState,
    is_supervised,
    living_process,
    read_state,
    supervisor_lock,
    survivors,
    write_state,
)

HOLDER = """
import sys, threading
from pathlib import Path
from deploy.local.state import StackState, supervisor_lock, write_state
with supervisor_lock(Path(sys.argv[1])):
    write_state(Path(sys.argv[1]), StackState.begun(()))
    print("held", flush=True)
    threading.Event().wait()
"""


def a_state(*processes: ProcessState) -> StackState:
    return StackState(
        supervisor_pid=1, supervisor_created_at=0.0, started_at=datetime.now(UTC), processes=processes
    )


def test_the_state_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    state = a_state(ProcessState(name="writer", pid=7, pid_created_at=1.5, log=tmp_path / "writer.log"))
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert stat.S_IMODE((tmp_path / STATE_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_there_is_no_state_in_an_empty_or_spoilt_home(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    (tmp_path / STATE_FILE).write_text("{")
    assert read_state(tmp_path) is None
    assert not is_supervised(tmp_path)


def test_a_home_has_one_supervisor_at_a_time(tmp_path: Path) -> None:
    with supervisor_lock(tmp_path):
        assert is_supervised(tmp_path)
        with pytest.raises(AlreadyUpError), supervisor_lock(tmp_path):
            pass
        assert is_supervised(tmp_path)
    assert not is_supervised(tmp_path)


def test_the_state_of_a_killed_supervisor_is_stale_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        assert is_supervised(tmp_path)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert read_state(tmp_path) is not None
    assert not is_supervised(tmp_path)


def test_a_process_number_that_was_given_to_another_process_is_not_taken_for_the_old_one() -> None:
    me = psutil.Process()
    assert living_process(me.pid, me.create_time()) == me
    assert living_process(me.pid, me.create_time() - 60) is None
    assert living_process(me.pid, None) is None
    assert living_process(None, None) is None


def test_sweeping_ends_exactly_the_processes_that_the_state_names(tmp_path: Path) -> None:
    left_behind, stranger = (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)
    )
    try:
        of_left_behind = psutil.Process(left_behind.pid).create_time()
        write_state(
            tmp_path,
            a_state(
                ProcessState(name="kafka", pid=left_behind.pid, pid_created_at=of_left_behind),
                # The number of a living process, but not its moment of creation: somebody else's by now.
                ProcessState(name="database", pid=stranger.pid, pid_created_at=of_left_behind - 3600),
            ),
        )
        assert list(survivors(read_state(tmp_path) or a_state())) == ["kafka"]
        assert sweep(tmp_path) == ["kafka"]
        assert not psutil.pid_exists(left_behind.pid)
        assert stranger.poll() is None
        assert read_state(tmp_path) is None
    finally:
        for process in (left_behind, stranger):
            process.kill()
            process.wait()


def test_sweeping_a_clean_home_does_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
