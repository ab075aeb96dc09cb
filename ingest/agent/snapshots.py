"""What psutil says of this machine, as plain values. All the I/O of the readings is here.

The agent takes a snapshot in a thread; ``readings`` makes events of it. The guarantee: a source that is
missing or refuses on this machine is absent, never an error; text is always storable; lists are bounded;
and nothing here ever reads a command line or an environment.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import psutil

_MAX_DISKS = 16
_MAX_SENSORS = 16
_MAX_TEXT = 200
# Images that are full by nature.
_FULL_BY_NATURE = frozenset({"squashfs", "iso9660", "erofs", "udf"})
# An address of the documentation range: connecting a datagram socket sends nothing, it only picks a route.
_ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True)
class Disk:
    """One mounted file system; sizes in bytes."""

    mount: str
    total_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of one network interface since it came up."""

    name: str
    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int
    errors: int
    drops: int


@dataclass(frozen=True, slots=True)
class Sensor:
    """One thermometer."""

    name: str
    celsius: float
    high_celsius: float | None
    critical_celsius: float | None


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """A process as it was first seen. ``serial`` tells two processes with one pid apart."""

    serial: int
    pid: int
    name: str
    parent_pid: int
    parent_name: str
    started_at: float
    """Seconds since 1970."""


ProcessTable = Mapping[int, ProcessSeen]
"""Processes by serial."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Readings of one moment. ``monotonic`` (seconds) is for rates, ``taken_at`` for people."""

    taken_at: float
    monotonic: float
    load: tuple[float, float, float] | None
    cpu_busy_seconds: float
    """Since the machine started, all processors together; the same for ``cpu_total_seconds``."""
    cpu_total_seconds: float
    cpu_count: int
    memory_total_bytes: int
    memory_available_bytes: int
    swap_total_bytes: int
    swap_used_bytes: int
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    sensors: tuple[Sensor, ...]


def storable(text: str) -> str:
    """``text`` without what JSON or the database cannot hold, cut to 200 characters."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "")[:_MAX_TEXT]


def machine_address() -> str:
    """The address that this machine has for others: that of its default route. No packet is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
    except OSError:
        pass
    addresses = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.")
    ]
    return min(addresses, default="127.0.0.1")


def take_snapshot(clock: Callable[[], float] = time.time) -> Snapshot:
    """Blocks for some milliseconds; longer if a disk does not answer."""
    busy_seconds, total_seconds = _cpu_seconds()
    memory = psutil.virtual_memory()
    swap = psutil.swap_memory()
    return Snapshot(
        taken_at=clock(),
        monotonic=time.monotonic(),
        load=_load(),
        cpu_busy_seconds=busy_seconds,
        cpu_total_seconds=total_seconds,
        cpu_count=psutil.cpu_count() or 1,
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_total_bytes=swap.total,
        swap_used_bytes=swap.used,
        disks=tuple(_disks()),
        interfaces=tuple(_interfaces()),
        sensors=tuple(_sensors())[:_MAX_SENSORS],
    )


def _load() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except OSError:
        return None


def _cpu_seconds() -> tuple[float, float]:
    # cpu_percent() keeps what it compares with by thread, and a pool's threads change.
    times = psutil.cpu_times()._asdict()
    # Linux counts guests' time within user's and nice's.
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    return total - times["idle"] - times.get("iowait", 0.0), total


def _disks() -> list[Disk]:
    # In a container the root is no device, so it is named; a bind mount shows a device once more.
    mounts = {"/": "/"}
    devices: set[str] = set()
    for partition in sorted(psutil.disk_partitions(all=False), key=lambda each: len(each.mountpoint)):
        if partition.fstype not in _FULL_BY_NATURE and partition.device not in devices:
            devices.add(partition.device)
            mounts[partition.mountpoint] = partition.mountpoint
    disks = []
    for mount in list(mounts)[:_MAX_DISKS]:
        try:
            usage = psutil.disk_usage(mount)
        except OSError:
            continue
        if usage.total:
            disks.append(Disk(storable(mount), usage.total, usage.used, usage.free))
    return disks


def _interfaces() -> Iterable[Interface]:
    for name, counters in psutil.net_io_counters(pernic=True).items():
        yield Interface(
            storable(name),
            counters.bytes_recv,
            counters.bytes_sent,
            counters.packets_recv,
            counters.packets_sent,
            counters.errin + counters.errout,
            counters.dropin + counters.dropout,
        )


def _sensors() -> Iterable[Sensor]:
    if not hasattr(psutil, "sensors_temperatures"):
        return
    for chip, entries in psutil.sensors_temperatures().items():
        for number, entry in enumerate(entries):
            if entry.current is not None:
                name = f"{chip}/{entry.label or number}"
                yield Sensor(storable(name), float(entry.current), entry.high, entry.critical)


class ProcessWatch:
    """Which processes there are, from one look to the next. Used by one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[psutil.Process, ProcessSeen | None]] = {}
        self._serial = 0

    def look(self, *, thoroughly: bool) -> ProcessTable:
        """The processes now. ``thoroughly`` also finds pids used again and zombies, at ten times the cost.

        A process that started and ended between two looks is not seen.
        """
        pids = set(psutil.pids())
        for pid in self._known.keys() - pids:
            del self._known[pid]
        if thoroughly:
            for pid, (process, seen) in list(self._known.items()):
                if not process.is_running():
                    del self._known[pid]
                elif seen is not None and _is_zombie(process):
                    self._known[pid] = process, None
        for pid in sorted(pids - self._known.keys()):
            self._meet(pid)
        return {seen.serial: seen for _, seen in self._known.values() if seen is not None}

    def _meet(self, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                name = _process_name(process)
                parent_pid = process.ppid()
                started_at = process.create_time()
                hidden = process.status() == psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return
        if hidden or _is_kernel_thread(pid, parent_pid, name, self._name_of(2)):
            self._known[pid] = process, None
            return
        self._serial += 1
        seen = ProcessSeen(self._serial, pid, name, parent_pid, self._name_of(parent_pid), started_at)
        self._known[pid] = process, seen

    def _name_of(self, pid: int) -> str:
        known = self._known.get(pid)
        if known is not None and known[1] is not None:
            return known[1].name
        try:
            return _process_name(known[0] if known else psutil.Process(pid))
        except (psutil.Error, OSError):
            return ""


def _is_kernel_thread(pid: int, parent_pid: int, name: str, second_name: str) -> bool:
    if not psutil.LINUX or second_name != "kthreadd":
        return False
    return parent_pid == 2 or (pid == 2 and name == "kthreadd")


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _process_name(process: psutil.Process) -> str:
    name = process.name()
    # Where the kernel cuts names, psutil completes them from the command line, whose first word some
    # programs use for their whole title.
    return storable(name[:15] if psutil.LINUX else name)
