"""Rates by bucket, as token buckets: pure, the clock comes in.

A bucket's tokens refill at its rate up to ``burst_seconds`` worth of it. A request that is larger than
that is let through when the bucket is full and leaves it in debt: it is paid off before the next one,
so the long-run rate holds for requests of any size. The rate holds for one gateway process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schema.errors import Overloaded

# Full buckets are forgotten beyond this number: they say no more than a new one would.
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Level:
    tokens: float
    at: float


class Quota:
    """Takes events out of buckets' rates. ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], *, default_rate: float, burst_seconds: float) -> None:
        self._clock = clock
        self._default_rate = default_rate
        self._burst_seconds = burst_seconds
        self._levels: dict[str, _Level] = {}

    def take(self, bucket_id: str, events: int, rate: float | None) -> None:
        """Take ``events`` at ``rate`` a second (None: the default; 0: unlimited). Raises Overloaded (429)."""
        rate = self._default_rate if rate is None else rate
        if rate == 0:
            return
        now = self._clock()
        burst = max(rate * self._burst_seconds, 1.0)
        level = self._levels.get(bucket_id)
        if level is None:
            self._make_room(now)
            level = self._levels[bucket_id] = _Level(burst, now)
        level.tokens = min(burst, level.tokens + (now - level.at) * rate)
        level.at = now
        wanted = min(float(events), burst)
        if level.tokens < wanted:
            raise Overloaded(
                f"the bucket's rate of {rate:g} events a second is used up; send slower",
                status=429,
                retry_after_seconds=(wanted - level.tokens) / rate,
            )
        level.tokens -= events

    def _make_room(self, now: float) -> None:
        if len(self._levels) < _REMEMBERED:
            return
        # Without debt and untouched for the burst's time, a bucket is full again.
        full = [
            bucket_id
            for bucket_id, level in self._levels.items()
            if level.tokens >= 0 and now - level.at > self._burst_seconds
        ]
        for bucket_id in full:
            del self._levels[bucket_id]
        while len(self._levels) >= 2 * _REMEMBERED:
            del self._levels[next(iter(self._levels))]
