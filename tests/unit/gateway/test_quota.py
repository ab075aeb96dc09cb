"""Rates hold in the long run for requests of any size, and the answer says when to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.gateway.quota import Quota
from schema.errors import Overloaded


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_refused_beyond_its_burst_and_told_when() -> None:
    clock = Clock()
    quota = Quota(clock, default_rate=10, burst_seconds=2)
    quota.take("a", 20, None)
    with pytest.raises(Overloaded) as refused:
        quota.take("a", 5, None)
    assert refused.value.status == 429
    assert refused.value.retry_after_seconds == pytest.approx(0.5)
    quota.take("b", 20, None)
    clock.now += 0.5
    quota.take("a", 5, None)


def test_a_rate_of_its_own_and_none() -> None:
    quota = Quota(Clock(), default_rate=10, burst_seconds=1)
    for _ in range(100):
        quota.take("a", 1000, 0)
    quota.take("b", 100, 100)
    with pytest.raises(Overloaded):
        quota.take("b", 1, 100)


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 5)), min_size=1, max_size=60))
def test_the_long_run_rate_holds(requests: list[tuple[int, float]]) -> None:
    clock = Clock()
    quota = Quota(clock, default_rate=10, burst_seconds=2)
    taken = 0
    for events, pause in requests:
        clock.now += pause
        try:
            quota.take("a", events, None)
        except Overloaded as refused:
            # Whoever waits as told is let through.
            clock.now += refused.retry_after_seconds + 1e-6
            quota.take("a", events, None)
        taken += events
        # The last one may be in debt by itself; all before it were paid for.
        assert taken - events <= 20 + 10 * (clock.now - 1000.0) + 1e-6
