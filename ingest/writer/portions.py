"""A batch whose events are spread over more chunks than one transaction should touch, in smaller ones. Pure.

A day's events lie in a chunk of their own. Who brings ten years of history in one request touches thousands
of them: more than a transaction can lock, and to make one blocks all other writers until the commit. So
records are stored apart, and a single record in portions, in order of time: each is a transaction of its own
that finds the offset where it stands and leaves it there, until the last one moves it. Where a writer dies in
between, the record is read again, and what is stored of it is recognised by its identity like any repeat.

Neighbours: ``lane`` decides when, ``store`` stores portions like whole batches.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingest.writer.batch import Batch, Run

# Of a transaction. To make one takes some hundredths of a second, and a handful of locks.
MOST_CHUNKS = 50


@dataclass(frozen=True, slots=True)
class Chunks:
    """How the table of events is cut. ``width``: microseconds; events before ``since`` or after ``until``
    (microseconds since 2000) will not be stored.
    """

    width: int
    since: int
    until: int

    def of(self, batch: Batch) -> set[int]:
        """The chunks that a batch touches, by number."""
        return {self.number(moment) for run in batch.runs for moment in run.moments}

    def number(self, moment: int) -> int:
        """Which one a moment lies in."""
        return min(max(moment, self.since), self.until) // self.width

    def are_few(self, batch: Batch, most: int) -> bool:
        """Whether a batch touches at most ``most`` of them."""
        lowest = min((min(run.moments) for run in batch.runs if run.moments), default=0)
        highest = max((max(run.moments) for run in batch.runs if run.moments), default=0)
        # Nearly always this is all that has to be looked at.
        return self.number(highest) - self.number(lowest) < most or len(self.of(batch)) <= most


def bounded(batch: Batch, chunks: Chunks, most: int = MOST_CHUNKS) -> list[Batch]:
    """The batch, or smaller ones to be stored one after the other; each of them may still be too large."""
    if chunks.are_few(batch, most):
        return [batch]
    return batch.halves() if len(batch.records) > 1 else _portions(batch, chunks, most)


def smaller(batch: Batch, chunks: Chunks) -> list[Batch]:
    """At least two batches for one that cannot be stored; the batch itself, where that is the least."""
    if len(batch.records) > 1:
        return batch.halves()
    touched = len(chunks.of(batch))
    return [batch] if touched < 2 else _portions(batch, chunks, (touched + 1) // 2)


def _portions(batch: Batch, chunks: Chunks, most: int) -> list[Batch]:
    places = {chunk: number // most for number, chunk in enumerate(sorted(chunks.of(batch)))}
    portions = [
        Batch(
            batch.standings, moves_offsets=False, records=batch.records, last_record_ids=batch.last_record_ids
        )
        for _ in range(max(places.values()) + 1)
    ]
    portions[-1].moves_offsets = batch.moves_offsets
    portions[-1].letters = batch.letters
    for run in batch.runs:
        for place, indices in _by_place(run, places, chunks).items():
            portions[place].runs.append(run.part(indices))
            portions[place].events += len(indices)
    return portions


def _by_place(run: Run, places: dict[int, int], chunks: Chunks) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index, moment in enumerate(run.moments):
        found.setdefault(places[chunks.number(moment)], []).append(index)
    return found
