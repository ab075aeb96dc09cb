"""Which faults strike when: drawn from a seed, printed before anything begins, so that it can be repeated.

First each fault alone, in the order of the catalogue; then mixtures of two to four, drawn at random, until
the time is over. Pure: how much time a round really took decides only where the list is cut.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.chaos.content import Mixture
from tests.chaos.faults.fault import Fault

QUICK_MINUTES = 5.0
WHOLE_MINUTES = 30.0
_MIXED_SECONDS = 30.0
_QUICK_MIXED_SECONDS = 8.0
# What is left of the time is for mixtures.
_SHARE_ALONE = 0.8
# More than any campaign has time for.
_MIXED_ROUNDS_A_MINUTE = 3


@dataclass(frozen=True, slots=True)
class Round:
    """Faults that strike beside each other for ``seconds``."""

    number: int
    faults: tuple[Fault, ...]
    seconds: float

    @property
    def alone(self) -> bool:
        return len(self.faults) == 1

    @property
    def mixture(self) -> Mixture:
        """What the load consists of: what the first of the faults asks for, if any does."""
        return next((fault.mixture for fault in self.faults if fault.mixture is not None), Mixture())

    @property
    def title(self) -> str:
        return " + ".join(fault.name for fault in self.faults)


def schedule(
    catalogue: Sequence[Fault], seed: int, minutes: float, *, able: Collection[str], only: Sequence[str] = ()
) -> list[Round]:
    """The rounds of a campaign. ``only``: faults by name; ``able``: what the machine allows."""
    chosen = [fault for fault in catalogue if not only or fault.name in only]
    chosen = [fault for fault in chosen if not fault.needs or fault.needs in able]
    quick = minutes < QUICK_MINUTES
    if quick and not only:
        chosen = [fault for fault in chosen if fault.quick_seconds]
    alone = [
        Round(number, (fault,), (fault.quick_seconds or fault.seconds) if quick else fault.seconds)
        for number, fault in enumerate(chosen, 1)
    ]
    return alone + _mixed(chosen, seed, minutes, len(alone) + 1, quick=quick)


def shortened(rounds: Sequence[Round], seconds: float, overhead_seconds: float) -> float:
    """How long the first of these may strike, so that all that strike alone fit into the time that is left.

    ``overhead_seconds``: what a round takes beside that, on this machine, today.
    """
    first, alone = rounds[0], [each for each in rounds if each.alone]
    if not first.alone or (first.faults[0].quick_seconds == first.seconds):
        return first.seconds
    room = seconds * _SHARE_ALONE - overhead_seconds * len(alone)
    scale = min(1.0, room / sum(each.seconds for each in alone))
    return max(min(first.faults[0].least_seconds, first.seconds), first.seconds * scale)


def _mixed(chosen: Sequence[Fault], seed: int, minutes: float, first: int, *, quick: bool) -> list[Round]:
    source = random.Random(f"{seed}/schedule")
    if len(chosen) < 2:
        return []
    count = 1 if quick else int(minutes * _MIXED_ROUNDS_A_MINUTE)
    seconds = _QUICK_MIXED_SECONDS if quick else _MIXED_SECONDS
    rounds = []
    for number in range(first, first + count):
        faults = source.sample(chosen, min(len(chosen), source.randrange(2, 5)))
        names = {fault.name for fault in faults}
        kept = [fault for fault in faults if not names.intersection(fault.apart_from)]
        if len(kept) > 1:
            rounds.append(Round(number, tuple(kept), seconds))
    return rounds
