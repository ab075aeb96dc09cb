"""What must be gone and what must be there, around deletions."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.faults.deletes import Deletion, wrong_ids
from tests.chaos.journal import Try

DELETION = Deletion(10.0, 11.0, sure=True)
DOUBTFUL = Deletion(10.0, 11.0, sure=False)


def acknowledged(began_at: float, ended_at: float) -> dict[str, Try]:
    return {"a": Try(0, began_at, ended_at, 202)}


@pytest.mark.parametrize(
    ("began_at", "ended_at", "stored", "deletion", "wrong"),
    [
        (8.0, 9.0, 1, DELETION, "came back"),
        (8.0, 9.0, 0, DELETION, None),
        (8.0, 9.0, 1, DOUBTFUL, None),
        (8.0, 9.0, 0, DOUBTFUL, None),
        (9.5, 10.5, 1, DELETION, None),
        (9.5, 10.5, 0, DELETION, None),
        (12.0, 13.0, 0, DELETION, "missing"),
        (12.0, 13.0, 1, DELETION, None),
        (12.0, 13.0, 2, DELETION, "twice"),
    ],
)
def test_each_side_of_a_deletion(
    began_at: float, ended_at: float, stored: int, deletion: Deletion, wrong: str | None
) -> None:
    found = wrong_ids(Counter({"a": stored}), acknowledged(began_at, ended_at), [deletion])
    assert [what for what, ids in found.items() if ids] == ([wrong] if wrong else [])


def test_the_last_deletion_decides_what_is_missing() -> None:
    later = Deletion(20.0, 21.0, sure=True)
    assert not wrong_ids(Counter(), acknowledged(12.0, 13.0), [DELETION, later])["missing"]
    assert wrong_ids(Counter("a"), acknowledged(12.0, 13.0), [DELETION, later])["came back"]
