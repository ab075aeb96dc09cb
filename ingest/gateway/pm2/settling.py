"""When a link opens: at once, or only after the agent's other attempts at it have come to an end.

While PM2's agent is cut off, every packet that finds no link may begin an attempt of its own, repeated every
five seconds until it succeeds, whether or not another one has. So an agent that was cut off for a while opens
a dozen links, one after the other. It uses the last; the others stay open and silent, and when one of them
ends, the agent closes the one that it uses, and may then be lost for a minute. But an attempt that is not
answered yet ends every other one whose turn comes. So the answer to an agent that may have several is held
for longer than their period: where it has a link already, and on a gateway that has just begun to be asked,
to which all those come that had none. Pure, but for the clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Public id of the bucket, name of the machine.
Agent = tuple[str, str]


class Settling:
    """``hold_seconds``: how long a link is held; ``clock``: monotonic, in seconds."""

    def __init__(self, hold_seconds: float, clock: Callable[[], float]) -> None:
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._links: Counter[Agent] = Counter()
        self._settled_at: float | None = None

    def __len__(self) -> int:
        """Links that are open or held."""
        return self._links.total()

    @contextmanager
    def place(self, agent: Agent) -> Iterator[float]:
        """A link's place among the others until the block ends: how many seconds to hold it."""
        now = self._clock()
        if self._settled_at is None:
            # Whoever had no gateway is here within one round of attempts.
            self._settled_at = now + 2 * self._hold_seconds
        settled = now >= self._settled_at and self._links[agent] == 0
        self._links[agent] += 1
        try:
            yield 0.0 if settled else self._hold_seconds
        finally:
            self._links[agent] -= 1
            if not self._links[agent]:
                del self._links[agent]
