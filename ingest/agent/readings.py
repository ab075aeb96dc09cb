"""From snapshots to events. Pure: no clock, no machine, no order but that of its arguments.

``process`` takes the snapshots and puts the events. What each event holds: docs/agent.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ingest.agent.snapshots import Interface, ProcessSeen, ProcessTable, Snapshot
from ingest.agent.stamps import moment_text

Event = dict[str, Any]

SYSTEM_APP = "system"
AGENT_APP = "weir-agent"
MAX_PROCESS_EVENTS = 200
MAX_INTERFACES = 8


@dataclass(frozen=True, slots=True)
class Machine:
    """Who is speaking."""

    name: str

    def event(self, name: str, app: str, at: float, data: dict[str, Any]) -> Event:
        """An event of this machine; ``at`` in seconds since 1970."""
        return {
            "name": name,
            "app": app,
            "device": self.name,
            "server": self.name,
            "observed_at": moment_text(at),
            "data": data,
        }


def system_events(machine: Machine, before: Snapshot | None, now: Snapshot) -> list[Event]:
    """Load, memory, disks and temperatures of ``now``; rates too if there is a ``before``."""
    events = [
        machine.event("system.load", SYSTEM_APP, now.taken_at, _load(before, now)),
        machine.event("system.memory", SYSTEM_APP, now.taken_at, _memory(now)),
    ]
    for disk in now.disks:
        data = {
            "mount": disk.mount,
            "total_bytes": disk.total_bytes,
            "used_bytes": disk.used_bytes,
            "free_bytes": disk.free_bytes,
            "used_percent": _percent(disk.used_bytes, disk.used_bytes + disk.free_bytes),
        }
        events.append(machine.event("system.disk", SYSTEM_APP, now.taken_at, data))
    for sensor in now.sensors:
        data = {"sensor": sensor.name, "celsius": round(sensor.celsius, 2)}
        if sensor.high_celsius is not None:
            data["high_celsius"] = sensor.high_celsius
        if sensor.critical_celsius is not None:
            data["critical_celsius"] = sensor.critical_celsius
        events.append(machine.event("system.temperature", SYSTEM_APP, now.taken_at, data))
    if before is not None:
        events += [
            machine.event("system.network", SYSTEM_APP, now.taken_at, data)
            for data in _network_rates(before, now)
        ]
    return events


def process_events(
    machine: Machine, before: ProcessTable, now: ProcessTable, at: float, limit: int = MAX_PROCESS_EVENTS
) -> list[Event]:
    """What started and what ended between two looks; ``at`` is the second look's moment.

    Beyond ``limit`` events, the rest is one event ``process.uncounted`` that says how many.
    """
    started = [now[serial] for serial in sorted(now.keys() - before.keys())]
    exited = [before[serial] for serial in sorted(before.keys() - now.keys())]
    events = [_start(machine, seen, at) for seen in started[:limit]]
    room = limit - len(events)
    events += [_exit(machine, seen, at) for seen in exited[:room]]
    left_out = {"starts": len(started[limit:]), "exits": len(exited[room:])}
    if any(left_out.values()):
        events.append(machine.event("process.uncounted", AGENT_APP, at, left_out))
    return events


def agent_started(machine: Machine, at: float, version: str, interval_seconds: int) -> Event:
    """Readings begin here."""
    data = {"version": version, "interval_seconds": interval_seconds}
    return machine.event("agent.start", AGENT_APP, at, data)


def agent_stopped(machine: Machine, at: float, lifetime_seconds: float) -> Event:
    """Readings end here, on purpose; after a crash this event is missing."""
    return machine.event("agent.stop", AGENT_APP, at, {"lifetime_seconds": round(lifetime_seconds, 3)})


def agent_dropped(machine: Machine, at: float, dropped_events: int) -> Event:
    """The gap that a full buffer left, visible among the events around it."""
    data = {"dropped_events": dropped_events, "reason": "buffer_full"}
    return machine.event("agent.dropped", AGENT_APP, at, data)


def node_report(
    machine: Machine,
    *,
    ip: str,
    version: str,
    at: float,
    interval_seconds: int,
    latency_seconds: float | None,
) -> dict[str, Any]:
    """A report that this machine is up; without a latency when the gateway did not answer."""
    report: dict[str, Any] = {
        "host": machine.name,
        "ip": ip,
        "version": version,
        "status": "ONLINE",
        "observed_at": moment_text(at),
        "interval_seconds": interval_seconds,
    }
    if latency_seconds is not None:
        report["latency_ms"] = round(latency_seconds * 1000, 3)
    return report


def _load(before: Snapshot | None, now: Snapshot) -> dict[str, Any]:
    data: dict[str, Any] = {"cpu_count": now.cpu_count}
    total_seconds = now.cpu_total_seconds - before.cpu_total_seconds if before else 0.0
    if before and total_seconds > 0:
        busy_seconds = now.cpu_busy_seconds - before.cpu_busy_seconds
        data["cpu_percent"] = round(min(max(100 * busy_seconds / total_seconds, 0.0), 100.0), 2)
    if now.load is not None:
        minute, five_minutes, quarter = (round(value, 2) for value in now.load)
        data |= {"load_1m": minute, "load_5m": five_minutes, "load_15m": quarter}
    return data


def _memory(now: Snapshot) -> dict[str, Any]:
    used_bytes = now.memory_total_bytes - now.memory_available_bytes
    return {
        "total_bytes": now.memory_total_bytes,
        "available_bytes": now.memory_available_bytes,
        "used_percent": _percent(used_bytes, now.memory_total_bytes),
        "swap_total_bytes": now.swap_total_bytes,
        "swap_used_bytes": now.swap_used_bytes,
    }


def _network_rates(before: Snapshot, now: Snapshot) -> list[dict[str, Any]]:
    seconds = now.monotonic - before.monotonic
    if seconds <= 0:
        return []
    earlier = {interface.name: interface for interface in before.interfaces}
    rates = [
        _rate(earlier[interface.name], interface, seconds)
        for interface in _own(now.interfaces)
        if interface.name in earlier and not _restarted(earlier[interface.name], interface)
    ]
    rates.sort(
        key=lambda rate: (
            -rate["received_bytes_per_second"] - rate["sent_bytes_per_second"],
            rate["interface"],
        )
    )
    return rates[:MAX_INTERFACES]


def _own(interfaces: Iterable[Interface]) -> list[Interface]:
    # What a machine says to itself is no traffic; an interface that never carried a packet is no news.
    return [each for each in interfaces if each.name != "lo" and each.received_packets + each.sent_packets]


def _restarted(before: Interface, now: Interface) -> bool:
    return now.received_bytes < before.received_bytes or now.sent_bytes < before.sent_bytes


def _rate(before: Interface, now: Interface, seconds: float) -> dict[str, Any]:
    return {
        "interface": now.name,
        "received_bytes_per_second": round((now.received_bytes - before.received_bytes) / seconds, 1),
        "sent_bytes_per_second": round((now.sent_bytes - before.sent_bytes) / seconds, 1),
        "received_packets_per_second": round((now.received_packets - before.received_packets) / seconds, 1),
        "sent_packets_per_second": round((now.sent_packets - before.sent_packets) / seconds, 1),
        "errors": max(now.errors - before.errors, 0),
        "drops": max(now.drops - before.drops, 0),
    }


def _start(machine: Machine, seen: ProcessSeen, at: float) -> Event:
    # It happened when it started, which the look that found it may be a second behind.
    return machine.event("process.start", seen.name, min(seen.started_at, at), _process(seen))


def _exit(machine: Machine, seen: ProcessSeen, at: float) -> Event:
    data = _process(seen) | {"lifetime_seconds": round(max(at - seen.started_at, 0.0), 3)}
    return machine.event("process.exit", seen.name, at, data)


def _process(seen: ProcessSeen) -> dict[str, Any]:
    return {
        "pid": seen.pid,
        "name": seen.name,
        "parent_pid": seen.parent_pid,
        "parent_name": seen.parent_name,
    }


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
