"""Attempts refill evenly, each name on its own, and what is remembered is bounded."""

import pytest

from api.tenancy import attempts
from api.tenancy.attempts import Attempts
from schema.errors import Overloaded


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_then_evenly() -> None:
    clock = Clock()
    limit = Attempts(3, clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(Overloaded) as refused:
        limit.take("a")
    assert refused.value.status == 429
    assert refused.value.retry_after_seconds == pytest.approx(20)
    limit.take("b")
    clock.now += 20.001
    limit.take("a")
    with pytest.raises(Overloaded):
        limit.take("a")
    clock.now += 3600
    for _ in range(3):
        limit.take("a")
    with pytest.raises(Overloaded):
        limit.take("a")


def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_REMEMBERED", 10)
    limit = Attempts(1, Clock())
    for number in range(100):
        limit.take(str(number))
    assert len(limit._left) == 10
    with pytest.raises(Overloaded):
        limit.take("99")
