"""What a part hands back: figures, each with what it was made of, and facts beside them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from tests.bench.arithmetic import Comparison, Summary
from tests.bench.goals import GOALS, Goal


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``goal``: a key of GOALS; None where there is nothing to reach.

    ``cpu_us``: CPU microseconds an event (or a request), by process.
    """

    title: str
    value: Summary
    unit: str
    goal: str | None = None
    rate: Summary | None = None
    against: Summary | None = None
    rate_unit: str = ""
    thrown_away: int = 0
    noisy: bool = False
    cpu_us: dict[str, float] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def aims_at(self) -> Goal | None:
        """The goal itself."""
        return GOALS[self.goal] if self.goal else None

    @property
    def passed(self) -> bool | None:
        """Whether the must is reached; None without a goal, or where noise hides it."""
        return None if self.aims_at is None or self.noisy else self.aims_at.met(self.value.median)


def of_comparison(
    title: str,
    comparison: Comparison,
    *,
    goal: str | None = None,
    rate_unit: str = "events/s",
    cpu_us: dict[str, float] | None = None,
    facts: dict[str, object] | None = None,
) -> Figure:
    """A ratio of rates."""
    return Figure(
        title,
        comparison.ratio,
        "ratio",
        goal,
        comparison.rate,
        comparison.other_rate,
        rate_unit,
        comparison.thrown_away,
        comparison.noisy,
        cpu_us or {},
        facts or {},
    )


_BEGUN_AT = time.monotonic()


def say(line: str) -> None:
    """One line of progress, with the seconds since the bench began."""
    print(f"{time.monotonic() - _BEGUN_AT:7.1f} s  {line}", file=sys.stderr, flush=True)
