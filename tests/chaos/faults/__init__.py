"""What can go wrong, one file for each family of faults; ``FAULTS`` is the order in which they strike alone.

``fault`` says what a fault is, ``readiness`` what a process says of itself meanwhile.
"""

from __future__ import annotations

from tests.chaos.faults import (
    brokers,
    commits,
    database,
    deletes,
    endings,
    killed,
    network,
    poison,
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
    *network.FAULTS,
    *endings.FAULTS,
    *deletes.FAULTS,
)
