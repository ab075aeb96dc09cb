"""The oracle of the campaign can fail: each way to be wrong is found, and named."""

from __future__ import annotations

import pytest

from tests.chaos.journal import Tally, Try
from tests.chaos.oracle import verdict

SOME = Try(0, 0.0, 0.1, 202)


def tally() -> Tally:
    told = Tally("0" * 24)
    told.acknowledged = {"a": SOME, "b": SOME}
    told.unknown = {"maybe"}
    told.refused = {"bad"}
    return told


@pytest.mark.parametrize("ids", [["a", "b"], ["b", "maybe", "a"]])
def test_what_was_promised_holds(ids: list[str]) -> None:
    assert not verdict(ids, tally()).sentence


@pytest.mark.parametrize(
    ("ids", "field", "said"),
    [
        (["a"], "lost", "1 acknowledged events are lost (b)"),
        (["a", "b", "b"], "twice", "1 events are stored twice (b)"),
        (["a", "b", "bad"], "refused_stored", "1 events are stored that were refused (bad)"),
        (["a", "b", "c"], "alien", "1 events are stored that nobody sent (c)"),
    ],
)
def test_each_way_to_be_wrong_is_found(ids: list[str], field: str, said: str) -> None:
    found = verdict(ids, tally())
    assert (getattr(found, field), found.sentence) == (1, said)
