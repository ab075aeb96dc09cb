"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.chaos.content import Mixture
from tests.chaos.given import DISK, PROCESSES, START
from tests.chaos.scene import Scene

# Why a fault is left out, by what it needs.
WHY_NOT = {
    "disks": "mounting small file systems is not permitted here",
    PROCESSES: "the given database server's processes are out of reach",
    START: "there is nobody to start the given database server again",
    DISK: "the database lies on no small file system that may be filled",
    "clock": "Debian's libfaketime cannot be fetched here",
}
Strike = Callable[[Scene, float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break things, and to mend again what it broke.

    ``row``: the family that the report lists it under; ``seconds``: how long it strikes alone in a whole
    campaign; ``quick_seconds``: in the short form (0: left out there); ``apart_from``: faults, by name, that
    it never strikes beside; ``needs``: what this machine and its servers must allow for it (``WHY_NOT``);
    ``least_seconds``: it proves nothing in less, however short the time.
    """

    name: str
    row: str
    strike: Strike
    seconds: float
    quick_seconds: float = 0.0
    apart_from: tuple[str, ...] = ()
    needs: str = ""
    least_seconds: float = 8.0
    mixture: Mixture | None = None
