"""How often something may be tried, by whoever tries: counted in this process, pure, the clock comes in.

Each name (a network address, an account) has a minute's worth of attempts, which refill evenly. Names are
kept in bounded number; the one untouched for longest goes first, when it is full again or when there is no
room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from schema.errors import Overloaded

_REMEMBERED = 20_000
_MINUTE_SECONDS = 60.0


@dataclass(slots=True)
class _Left:
    attempts: float
    at: float


class Attempts:
    """``per_minute`` attempts for each name. ``clock`` is monotonic, in seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, _Left] = OrderedDict()

    def take(self, name: str) -> None:
        """One attempt. Raises Overloaded (429)."""
        now = self._clock()
        left = self._left.get(name)
        if left is None:
            if len(self._left) >= _REMEMBERED:
                self._left.popitem(last=False)
            left = self._left[name] = _Left(float(self._per_minute), now)
        rate = self._per_minute / _MINUTE_SECONDS
        left.attempts = min(float(self._per_minute), left.attempts + (now - left.at) * rate)
        left.at = now
        self._left.move_to_end(name)
        if left.attempts < 1:
            raise Overloaded(
                "too many attempts; wait and try again",
                status=429,
                retry_after_seconds=(1 - left.attempts) / rate,
            )
        left.attempts -= 1
