"""Snapshots of this very machine, and what a look at its processes sees of real ones."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import orjson
import psutil

from ingest.agent.readings import Machine, process_events, system_events
from ingest.agent.snapshots import (
    ProcessSeen,
    ProcessTable,
    ProcessWatch,
    _is_kernel_thread,
    machine_address,
    take_snapshot,
)

SLEEP = shutil.which("sleep") or "/bin/sleep"


def with_pid(table: ProcessTable, pid: int) -> ProcessSeen | None:
    found = [seen for seen in table.values() if seen.pid == pid]
    assert len(found) <= 1
    return found[0] if found else None


def test_this_machine_has_load_memory_and_a_root_disk() -> None:
    snapshot = take_snapshot(lambda: 7.0)
    assert snapshot.taken_at == 7.0
    assert snapshot.load is not None
    assert 0 < snapshot.memory_available_bytes <= snapshot.memory_total_bytes
    assert "/" in {disk.mount for disk in snapshot.disks}
    assert 0 < snapshot.cpu_busy_seconds < snapshot.cpu_total_seconds
    assert "lo" in {interface.name for interface in snapshot.interfaces}


def test_two_snapshots_give_a_processor_share_within_bounds() -> None:
    before = take_snapshot()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        pass
    load = system_events(Machine("m"), before, take_snapshot())[0]
    assert 0 < load["data"]["cpu_percent"] <= 100


def test_this_machine_has_an_address() -> None:
    assert machine_address().count(".") == 3


def test_a_child_is_seen_starting_and_ending() -> None:
    watch = ProcessWatch()
    before = watch.look(thoroughly=False)
    child = subprocess.Popen([SLEEP, "60"])
    try:
        time.sleep(0.1)
        between = watch.look(thoroughly=False)
        seen = with_pid(between, child.pid)
        assert seen is not None
        assert (seen.name, seen.parent_pid) == ("sleep", os.getpid())
        assert seen.parent_name
        assert abs(seen.started_at - time.time()) < 10
    finally:
        child.kill()
        child.wait(10)
    after = watch.look(thoroughly=False)
    events = process_events(Machine("m"), before, between, 1.0) + process_events(
        Machine("m"), between, after, 2.0
    )
    mine = [event["name"] for event in events if event["data"].get("pid") == child.pid]
    assert mine == ["process.start", "process.exit"]


def test_a_zombie_has_ended() -> None:
    watch = ProcessWatch()
    child = subprocess.Popen([SLEEP, "60"])
    try:
        time.sleep(0.1)
        assert with_pid(watch.look(thoroughly=False), child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert with_pid(watch.look(thoroughly=True), child.pid) is None
        assert with_pid(ProcessWatch().look(thoroughly=False), child.pid) is None
    finally:
        child.kill()
        child.wait(10)


def test_a_command_line_never_shows(tmp_path: Path) -> None:
    """Not even where psutil completes a cut name from it, for a program that made its title its name."""
    program = tmp_path / "a-very-long-program"
    shutil.copy(SLEEP, program)
    child = subprocess.Popen(["a-very-long-prog hunter2", "60"], executable=program)
    try:
        time.sleep(0.1)
        assert "hunter2" in psutil.Process(child.pid).name(), (
            "psutil completes the name: what we guard against"
        )
        seen = with_pid(ProcessWatch().look(thoroughly=False), child.pid)
        assert seen is not None
        assert seen.name == "a-very-long-pro"
        events = process_events(Machine("m"), {}, {seen.serial: seen}, 1.0)
        assert b"hunter2" not in orjson.dumps(events)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)


def test_kernel_threads_are_known_by_their_parent() -> None:
    assert _is_kernel_thread(77, 2, "kworker/0:1", "kthreadd")
    assert _is_kernel_thread(2, 0, "kthreadd", "kthreadd")
    # In a container the second process is an ordinary one.
    assert not _is_kernel_thread(77, 2, "worker", "nginx")
    assert not _is_kernel_thread(77, 1, "bash", "kthreadd")


def test_a_thorough_look_costs_little() -> None:
    watch = ProcessWatch()
    watch.look(thoroughly=True)
    begin = time.process_time()
    for _ in range(10):
        watch.look(thoroughly=False)
    # 10 ms a look would be 1 % of a processor, for the whole agent's share.
    assert (time.process_time() - begin) / 10 < 0.01
