"""What can go wrong, one file for each family of faults; ``FAULTS`` is the order in which they strike alone.

``fault`` says what a fault is, ``readiness`` what a process says of itself meanwhile.
"""

from __future__ import annotations

from tests.chaos.faults import (
    brokers,
    clocks,
    commits,
    database,
    deletes,
    disks,
    endings,
    killed,
    logs,
    moments,
    network,
    poison,
    upkeep,
    writers,
)
from tests.chaos.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *killed.FAULTS,
    *commits.FAULTS,
    *brokers.FAULTS,
    *database.FAULTS,
    *writers.FAULTS,
    *poison.FAULTS,
    *disks.FAULTS,
    *network.FAULTS,
    *upkeep.FAULTS,
    *moments.FAULTS,
    *clocks.FAULTS,
    *logs.FAULTS,
    *endings.FAULTS,
    *deletes.FAULTS,
)
