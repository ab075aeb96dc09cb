"""Which events a lane stored a moment ago, approximately, so that repeats need not spoil a COPY.

Only hashes are kept: a hit sends a row the way that asks the database and so costs time, never a row;
a miss leaves the decision to the unique index. Two generations, so that forgetting is cheap.
"""

from __future__ import annotations

from collections.abc import Iterable


class Recent:
    """Hashes of the last ``capacity`` to twice ``capacity`` events."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._young: set[int] = set()
        self._old: set[int] = set()

    def knows(self, value: int) -> bool:
        """Whether a hash was seen lately."""
        return value in self._young or value in self._old

    def knows_none(self, values: Iterable[int]) -> bool:
        """Whether none of the hashes was."""
        return self._young.isdisjoint(values) and self._old.isdisjoint(values)

    def remember(self, values: set[int]) -> None:
        """Add what has been committed."""
        self._young |= values
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, set()
