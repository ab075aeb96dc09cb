"""A batch over many chunks in smaller ones: nothing is left out, and the last of them moves the offset."""

from __future__ import annotations

from ingest.writer.batch import Batch, FetchedRecord, Standing
from ingest.writer.portions import MOST_CHUNKS, Chunks, bounded, smaller
from schema.records import postgres_moment
from tests.support.bounds import AT_AND_ABOVE
from tests.support.records import DAY, HOUR, event, events, record

BUCKET = "ab" * 12
NOON = 1_790_000_000_000_000 // DAY * DAY + 12 * HOUR
CHUNKS = Chunks(DAY, postgres_moment(NOON - 10_000 * DAY), postgres_moment(NOON + 2 * DAY))


def batch_of(*days: list[int]) -> Batch:
    """A record for each list of days, with an event on each of them and a broken one."""
    batch = Batch(standings={0: Standing(3, 7)})
    for number, some in enumerate(days):
        tails = [event(f"{number}-{day}", NOON + day * DAY) for day in some]
        batch.add(FetchedRecord(0, 7 + number, 0, record(events(BUCKET, *tails, b""))))
    return batch


def ids(batch: Batch) -> list[str]:
    return sorted(identity[16:].decode() for run in batch.runs for identity in run.identities)


def test_a_batch_of_few_chunks_is_left_alone() -> None:
    batch = batch_of([0, -1, -2], [0, -3, -900])
    assert bounded(batch, CHUNKS, 5) == [batch]
    assert bounded(Batch(), CHUNKS, 1) == [Batch()]


@AT_AND_ABOVE
def test_a_transaction_touches_no_more_chunks_than_the_constant_says(beyond: int) -> None:
    batch = batch_of([-day for day in range(MOST_CHUNKS + beyond)])
    assert len(bounded(batch, CHUNKS)) == (2 if beyond else 1)


def test_records_are_parted_before_any_is_cut() -> None:
    batch = batch_of([0, -1, -2], [0, -3, -900])
    first, second = bounded(batch, CHUNKS, 4)
    assert (ids(first), ids(second)) == (ids(batch_of([0, -1, -2])), ["1--3", "1--900", "1-0"])
    assert first.moves_offsets
    assert second.moves_offsets
    assert second.standings[0] == Standing(3, 8)


def test_one_record_is_cut_in_order_of_time_and_the_last_portion_moves_the_offset() -> None:
    whole = batch_of([0, -5, -1, -2, -3, -4, -4])
    portions = bounded(whole, CHUNKS, 2)
    assert [ids(portion) for portion in portions] == [
        ["0--4", "0--4", "0--5"],
        ["0--2", "0--3"],
        ["0--1", "0-0"],
    ]
    assert [portion.moves_offsets for portion in portions] == [False, False, True]
    assert [len(portion.letters) for portion in portions] == [0, 0, 1]
    assert all(portion.ends() == whole.ends() for portion in portions)
    assert all(portion.standings == whole.standings for portion in portions)
    assert sum(portion.events for portion in portions) == whole.events == 7
    assert all(bounded(portion, CHUNKS, 2) == [portion] for portion in portions)


def test_what_was_cut_can_be_cut_again_and_still_the_last_one_moves_the_offset() -> None:
    middle, last = bounded(batch_of([0, -1, -2, -3]), CHUNKS, 2)
    assert [each.moves_offsets for each in smaller(middle, CHUNKS)] == [False, False]
    assert [each.moves_offsets for each in smaller(last, CHUNKS)] == [False, True]
    (least,) = smaller(smaller(last, CHUNKS)[-1], CHUNKS)
    assert ids(least) == ["0-0"]


def test_what_will_be_refused_for_its_moment_takes_no_chunk() -> None:
    batch = batch_of([0, *range(-10_100, -10_050), *range(100, 150)])
    assert len(CHUNKS.of(batch)) == 3
