"""Events from snapshots: every one valid by the contract, bounded in number, with the right arithmetic."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.agent.readings import (
    MAX_INTERFACES,
    Event,
    Machine,
    agent_dropped,
    agent_started,
    agent_stopped,
    node_report,
    process_events,
    system_events,
)
from ingest.agent.snapshots import Disk, Interface, ProcessSeen, Sensor, Snapshot, storable
from ingest.agent.stamps import moment_text, stamped_event, stamped_report
from schema.events import EventModel, NodeReportModel, parse_moment

MACHINE = Machine("mill-1")
AT = 1_800_000_000.25
NAMES = st.text(max_size=300).map(storable)


def interface(name: str, received: int = 1_000, sent: int = 500) -> Interface:
    return Interface(name, received, sent, received // 100, sent // 100, 0, 0)


SNAPSHOT = Snapshot(
    taken_at=AT,
    monotonic=50.0,
    load=(0.5, 1.234, 2.0),
    cpu_busy_seconds=100.0,
    cpu_total_seconds=1_000.0,
    cpu_count=4,
    memory_total_bytes=1_000,
    memory_available_bytes=250,
    swap_total_bytes=0,
    swap_used_bytes=0,
    disks=(Disk("/", 1_000, 300, 600), Disk("/data", 50, 50, 0)),
    interfaces=(interface("lo"), interface("eth0")),
    sensors=(Sensor("coretemp/0", 51.125, 80.0, None),),
)


def process(serial: int, name: str = "sleep", started_at: float = AT - 10) -> ProcessSeen:
    return ProcessSeen(serial, 1_000 + serial, name, 1, "init", started_at)


def table(*seen: ProcessSeen) -> dict[int, ProcessSeen]:
    return {each.serial: each for each in seen}


def named(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["name"] == name]


def test_a_first_snapshot_has_everything_but_rates() -> None:
    events = system_events(MACHINE, None, SNAPSHOT)
    assert [event["name"] for event in events] == [
        "system.load",
        "system.memory",
        "system.disk",
        "system.disk",
        "system.temperature",
    ]
    assert "cpu_percent" not in events[0]["data"]
    assert events[0]["data"]["load_5m"] == 1.23
    assert events[1]["data"]["used_percent"] == 75.0
    # As df counts: what root keeps back is neither used nor free.
    assert [event["data"]["used_percent"] for event in named(events, "system.disk")] == [33.33, 100.0]
    assert events[4]["data"] == {"sensor": "coretemp/0", "celsius": 51.12, "high_celsius": 80.0}
    assert {event["app"] for event in events} == {"system"}
    assert {(event["device"], event["server"]) for event in events} == {("mill-1", "mill-1")}


def test_rates_are_differences_over_monotonic_time() -> None:
    later = replace(
        SNAPSHOT,
        taken_at=AT - 3600,  # the wall clock was set back; rates do not care
        monotonic=54.0,
        cpu_busy_seconds=103.0,
        cpu_total_seconds=1_012.0,
        interfaces=(interface("lo", 9_000), interface("eth0", 3_000, 900)),
    )
    events = system_events(MACHINE, SNAPSHOT, later)
    (network,) = named(events, "system.network")
    assert network["data"] == {
        "interface": "eth0",
        "received_bytes_per_second": 500.0,
        "sent_bytes_per_second": 100.0,
        "received_packets_per_second": 5.0,
        "sent_packets_per_second": 1.0,
        "errors": 0,
        "drops": 0,
    }
    assert events[0]["data"]["cpu_percent"] == 25.0


def test_an_interface_that_began_anew_has_no_rate_and_the_busiest_come_first() -> None:
    before = replace(SNAPSHOT, interfaces=tuple(interface(f"veth{n}", 1_000) for n in range(20)))
    now = replace(
        before,
        monotonic=51.0,
        interfaces=tuple(interface(f"veth{n}", 1_000 + n if n else 10) for n in range(20)),
    )
    names = [e["data"]["interface"] for e in named(system_events(MACHINE, before, now), "system.network")]
    assert names == [f"veth{n}" for n in range(19, 19 - MAX_INTERFACES, -1)]


def test_starts_and_exits_are_the_difference_of_two_looks() -> None:
    events = process_events(
        MACHINE, table(process(1), process(2, "cat")), table(process(2), process(3, "nc")), AT
    )
    start, exit_ = events
    assert (start["name"], start["app"], start["observed_at"]) == (
        "process.start",
        "nc",
        moment_text(AT - 10),
    )
    assert start["data"] == {"pid": 1_003, "name": "nc", "parent_pid": 1, "parent_name": "init"}
    assert (exit_["name"], exit_["app"], exit_["observed_at"]) == ("process.exit", "sleep", moment_text(AT))
    assert exit_["data"]["lifetime_seconds"] == 10.0


def test_a_pid_used_again_is_an_exit_and_a_start() -> None:
    first, second = process(1), replace(process(2), pid=1_001)
    events = process_events(MACHINE, table(first), table(second), AT)
    assert [(event["name"], event["data"]["pid"]) for event in events] == [
        ("process.start", 1_001),
        ("process.exit", 1_001),
    ]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30))
def test_beyond_the_limit_nothing_is_silently_left_out(starts: int, exits: int, limit: int) -> None:
    before = table(*(process(n) for n in range(exits)))
    now = table(*(process(100 + n) for n in range(starts)))
    events = process_events(MACHINE, before, now, AT, limit)
    told = named(events, "process.start") + named(events, "process.exit")
    assert len(told) == min(limit, starts + exits)
    left_out = [event["data"] for event in named(events, "process.uncounted")]
    uncounted = {"starts": max(starts - limit, 0), "exits": exits - len(named(events, "process.exit"))}
    assert left_out == ([uncounted] if starts + exits > limit else [])


@given(NAMES, NAMES, st.floats(0, 4e9), st.floats(0, 4e9), st.none() | st.floats(0, 100))
def test_every_event_and_report_is_valid_by_the_contract(
    name: str, other: str, at: float, started_at: float, latency_seconds: float | None
) -> None:
    machine = Machine(name or "x")
    snapshot = replace(
        SNAPSHOT,
        taken_at=at,
        disks=(Disk(other, 1, 1, 0),),
        sensors=(Sensor(other, -3.0, None, 90.0),),
        interfaces=(interface(other),),
    )
    events = [
        *system_events(machine, replace(snapshot, monotonic=1.0), snapshot),
        *process_events(
            machine, table(process(1, other, started_at)), table(process(2, name, started_at)), at
        ),
        agent_started(machine, at, "1", 5),
        agent_stopped(machine, at, 3.0),
        agent_dropped(machine, at, 3),
    ]
    for event in events:
        event_id, line = stamped_event(event, lambda: at)
        model = EventModel.model_validate_json(line)
        assert model.id == event_id
        assert parse_moment(model.observed_at or "") <= round(at * 1e6) + 1
    report = node_report(
        machine, ip="10.0.0.1", version="1", at=at, interval_seconds=5, latency_seconds=latency_seconds
    )
    model_report = NodeReportModel.model_validate_json(stamped_report(report, lambda: at))
    assert (model_report.latency_ms is None) == (latency_seconds is None)


@pytest.mark.parametrize("text", ["\x00secret", "half\udc80name", "x" * 999, ""])
def test_storable_text_can_be_stored(text: str) -> None:
    found = storable(text)
    assert "\x00" not in found
    assert found.encode().decode() == found
    assert len(found) <= 200
