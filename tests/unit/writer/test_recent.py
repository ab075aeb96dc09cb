"""What a lane remembers of the events that it stored."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.writer.recent import Recent


@given(st.lists(st.sets(st.integers(0, 1000), max_size=30), max_size=20), st.integers(1, 40))
def test_the_newest_are_remembered_and_the_memory_is_bounded(batches: list[set[int]], capacity: int) -> None:
    recent = Recent(capacity)
    remembered: list[set[int]] = []
    for batch in batches:
        recent.remember(set(batch))
        remembered.append(batch)
        assert all(recent.knows(value) for value in batch)
        assert len(recent._young) < capacity
        assert len(recent._old) < capacity + 30
    newest: set[int] = set()
    for batch in reversed(remembered):
        if len(newest | batch) >= capacity:
            break
        newest |= batch
    assert all(recent.knows(value) for value in newest)


def test_what_was_never_seen_is_not_known() -> None:
    recent = Recent(2)
    recent.remember({1, 2})
    recent.remember({3})
    assert recent.knows_none([4, 5])
    assert not recent.knows_none([4, 1])
    assert not recent.knows_none([4, 3])
    assert not recent.knows(4)


def test_the_old_generation_goes_when_a_newer_one_is_full() -> None:
    recent = Recent(2)
    for pair in ({1, 2}, {3, 4}, {5}):
        recent.remember(set(pair))
    assert [value for value in range(1, 6) if recent.knows(value)] == [3, 4, 5]
