"""Medians, canaries, ratios and percentiles. Pure.

A canary (A) runs before and after every measurement (B): A, B, A, B, … A. A canary that is off by more
than a share of all canaries' median says that the machine was not itself at that moment; the measurements
next to it are thrown away, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    canary_rate: Summary
    thrown_away: int
    noisy: bool


def compared(
    rates: Sequence[float], canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE
) -> Comparison:
    """``canaries`` has one more than ``rates``: one before each of them and one at the end."""
    if len(canaries) != len(rates) + 1:
        raise ValueError(f"{len(rates)} measurements need {len(rates) + 1} canaries, not {len(canaries)}")
    sound = sound_canaries(canaries, tolerance)
    kept = [i for i in range(len(rates)) if sound[i] and sound[i + 1]]
    noisy = not kept
    thrown_away = len(rates) - len(kept)
    if noisy:
        kept = list(range(len(rates)))
    return Comparison(
        ratio=summary([rates[i] / ((canaries[i] + canaries[i + 1]) / 2) for i in kept]),
        rate=summary([rates[i] for i in kept]),
        canary_rate=summary(canaries),
        thrown_away=thrown_away,
        noisy=noisy,
    )


def sound_canaries(canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE) -> list[bool]:
    """For each canary, whether it is within ``tolerance`` of their median."""
    middle = median(canaries)
    return [abs(canary - middle) <= tolerance * middle for canary in canaries]


def sound_count(canaries: Sequence[float], tolerance: float = CANARY_TOLERANCE) -> int:
    """How many measurements between these canaries would be kept."""
    sound = sound_canaries(canaries, tolerance) if canaries else []
    return sum(before and after for before, after in zip(sound, sound[1:], strict=False))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least ``share`` (0 to 1) of the values do not exceed. Raises ValueError."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]
