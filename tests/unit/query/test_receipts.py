"""What a receipt waits for."""

import pytest

from query.receipts import still_waiting
from schema.errors import Invalid


@pytest.mark.parametrize(
    ("stored", "waiting"),
    [
        ({}, {3: (1, 10)}),
        ({3: (1, 10)}, {3: (1, 10)}),
        ({3: (1, 11)}, {}),
        ({3: (1, 500), 4: (1, 0)}, {}),
        ({4: (1, 500)}, {3: (1, 10)}),
    ],
)
def test_a_position_waits_until_the_next_offset_is_beyond_it(
    stored: dict[int, tuple[int, int]], waiting: dict[int, tuple[int, int]]
) -> None:
    assert still_waiting({3: (1, 10)}, stored) == waiting


def test_a_receipt_of_a_log_that_nobody_reads_any_more_is_refused() -> None:
    with pytest.raises(Invalid, match="earlier log"):
        still_waiting({0: (1, 5)}, {0: (2, 100)})


def test_a_receipt_of_a_log_that_the_writer_has_not_begun_yet_waits() -> None:
    assert still_waiting({0: (2, 5)}, {0: (1, 100)}) == {0: (2, 5)}
