"""Medians, canaries, ratios and percentiles. Pure.

A canary (A) runs before and after every measurement (B): A, B, A, B, … A. A canary that is off by more
than a share of all canaries' median says that the machine was not itself at that moment; the measurements
next to it are thrown away, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

CANARY_TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, least and most of ``count`` values."""

    median: float
    least: float
    most: float
    count: int


def summary(values: Sequence[float]) -> Summary:
    """Raises ValueError when there are none."""
    if not values:
        raise ValueError("nothing was measured, or all of it was thrown away")
    return Summary(median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measurement against the canary: ``ratio`` is of rates, each B by the mean of the two As beside it.

    ``noisy``: no measurement had two sound canaries, so all of them are in here and none proves anything.
    """

    ratio: Summary
    rate: Summary
    other_rate: Summary
    thrown_away: int
    noisy: bool


def compared(
    rates: Sequence[float], canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE
) -> Comparison:
    """``canaries`` has one more than ``rates``: one before each of them and one at the end."""
    beside = [(before + after) / 2 for before, after in pairwise(canaries)]
    return paired(rates, beside, canaries, tolerance)


def paired(
    rates: Sequence[float],
    others: Sequence[float],
    canaries: Sequence[float],
    tolerance: float = CANARY_TOLERANCE,
) -> Comparison:
    """``rates`` against ``others`` of the same turn, where the canaries before and after it are sound."""
    if not len(canaries) - 1 == len(rates) == len(others):
        raise ValueError(f"{len(rates)} measurements, {len(others)} others and {len(canaries)} canaries")
    sound = sound_canaries(canaries, tolerance)
    kept = [i for i in range(len(rates)) if sound[i] and sound[i + 1]]
    noisy = not kept
    used = list(range(len(rates))) if noisy else kept
    return Comparison(
        ratio=summary([rates[i] / others[i] for i in used]),
        rate=summary([rates[i] for i in used]),
        other_rate=summary([others[i] for i in used]),
        thrown_away=len(rates) - len(kept),
        noisy=noisy,
    )


def sound_canaries(canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE) -> list[bool]:
    """For each canary, whether it is within ``tolerance`` of their median."""
    middle = median(canaries)
    return [abs(canary - middle) <= tolerance * middle for canary in canaries]


def sound_count(canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE) -> int:
    """How many measurements between these canaries would be kept."""
    sound = sound_canaries(canaries, tolerance) if canaries else []
    return sum(before and after for before, after in pairwise(sound))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least ``share`` (0 to 1) of the values do not exceed. Raises ValueError."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]
