"""When the topic may take no more."""

from __future__ import annotations

import pytest

from ingest.gateway.backlog import Backlog, overdue_partitions
from schema.errors import Overloaded
from schema.settings import KafkaSettings


@pytest.mark.parametrize(
    ("stored", "middle", "end", "overdue"),
    [
        ({}, {}, {0: 0}, []),  # nothing was ever sent
        ({}, {0: 0}, {0: 5}, []),  # all of it is young
        ({0: 5}, {}, {0: 5}, []),  # all of it is old, and stored
        ({0: 4}, {}, {0: 5}, [0]),  # all of it is old, one is not stored
        ({0: 4}, {0: 4}, {0: 9}, []),
        ({0: 3}, {0: 4}, {0: 9}, [0]),
        ({}, {0: 1}, {0: 9}, [0]),  # no writer has ever begun
        ({0: 100}, {0: 4}, {0: 9}, []),  # a log that was made anew
        ({0: 9, 1: 0}, {0: 4, 1: 2}, {0: 9, 1: 3}, [1]),
    ],
)
def test_overdue(
    stored: dict[int, int], middle: dict[int, int], end: dict[int, int], overdue: list[int]
) -> None:
    assert overdue_partitions(stored, middle, end) == overdue


def test_an_overdue_backlog_refuses_with_a_time_to_come_back() -> None:
    backlog = Backlog(KafkaSettings(), lambda: 0.0)
    backlog.check()
    backlog.overdue = [3]
    with pytest.raises(Overloaded) as refused:
        backlog.check()
    assert refused.value.status == 503
    assert backlog.progress.epoch(3) == 1
