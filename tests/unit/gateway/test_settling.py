"""Which links of an agent are held before they open."""

from __future__ import annotations

from ingest.gateway.pm2.settling import Settling

TILL = ("bucket", "till-1")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_link_is_held_that_comes_soon_after_the_first() -> None:
    clock = Clock()
    settling = Settling(5.5, clock)
    for later, held in ((0.0, 5.5), (10.9, 5.5), (11.0, 0.0), (1000.0, 0.0)):
        clock.now = 100 + later
        with settling.place(TILL) as seconds:
            assert seconds == held


def test_a_link_is_held_while_its_agent_has_another() -> None:
    clock = Clock()
    settling = Settling(5.5, clock)
    with settling.place(TILL):
        pass
    clock.now = 1000
    with settling.place(TILL) as first, settling.place(("bucket", "till-2")) as other:
        assert (first, other) == (0.0, 0.0)
        with settling.place(TILL) as second, settling.place(TILL) as third:
            assert (second, third) == (5.5, 5.5)
            assert len(settling) == 4
    assert len(settling) == 0
    with settling.place(TILL) as again:
        assert again == 0.0


def test_nothing_is_held_where_the_setting_says_so() -> None:
    settling = Settling(0, Clock())
    with settling.place(TILL) as first, settling.place(TILL) as second:
        assert (first, second) == (0.0, 0.0)
