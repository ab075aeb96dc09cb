"""CPU time and resident memory of processes, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Seconds of CPU that each named group of processes had used at one moment."""

    seconds: Mapping[str, float]

    def since(self, earlier: CpuReading) -> dict[str, float]:
        """Seconds used from ``earlier`` to this reading, by name; processes that began later count from 0."""
        return {name: used - earlier.seconds.get(name, 0.0) for name, used in self.seconds.items()}


def read_cpu(pids: Mapping[str, int], postmaster: int | None = None) -> CpuReading:
    """``pids``: name → process. Of a postmaster, its own children count too, those that ended included."""
    seconds = {name: _cpu(pid) for name, pid in pids.items()}
    if postmaster is not None:
        # Children that ended are in the postmaster's own account.
        database: dict[str, float] = defaultdict(
            float, {"database: postmaster, ended": _cpu(postmaster, ended_children=True)}
        )
        for child in _children(postmaster):
            database[_database_role(child)] += _cpu(child)
        seconds |= database
    return CpuReading(seconds)


def by_group(used: Mapping[str, float]) -> dict[str, float]:
    """The same with everything of the database as one."""
    groups: dict[str, float] = defaultdict(float)
    for name, seconds in used.items():
        groups[name.partition(":")[0]] += seconds
    return dict(groups)


def resident_bytes(pid: int) -> int:
    """0 when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _cpu(pid: int, *, ended_children: bool = False) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    if ended_children:
        ticks += int(fields[13]) + int(fields[14])
    return ticks / _TICKS


def _children(pid: int) -> Iterable[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _database_role(pid: int) -> str:
    """What a child of the postmaster does, from its title: ``postgres: weir weir 127.0.0.1(1) COPY``."""
    try:
        title = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        )
    except OSError:
        return "database: ended"
    words = title.removeprefix("postgres: ")
    if "(" in words:
        return "database: backends"
    return f"database: {words.partition(' for PID ')[0]}"
