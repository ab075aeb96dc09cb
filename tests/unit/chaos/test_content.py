"""What the load sends is what admission makes of it: the spoiled events are refused, and no others."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import orjson
import pytest

from tests.chaos.content import Mixture, request_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(20))
def test_ids_are_told_by_stem_and_place(seed: int) -> None:
    made = request_of(random.Random(seed), "s", Mixture(spoiled=1.0), NOW, 5)
    mark = ":" if made.kind == "keyed" else "-"
    places = len(made.accepted) + len(made.refused)
    assert {*made.accepted, *made.refused.values()} == {f"s{mark}{place}" for place in range(places)}
    assert len(made.accepted) == 5
    assert 1 <= len(made.refused) <= 3
    assert ("Idempotency-Key" in made.headers) == (made.kind == "keyed")


def test_the_same_dice_make_the_same_request() -> None:
    one, other = (request_of(random.Random(7), "s", Mixture(), NOW, 9) for _ in range(2))
    assert one == other
    assert request_of(random.Random(8), "s", Mixture(), NOW, 9) != one


def test_a_body_without_spoiled_events_is_plain_json() -> None:
    made = request_of(random.Random(3), "s", Mixture(spoiled=0.0), NOW, 9)
    assert len(orjson.loads(made.body)) == 9
    assert not made.refused
