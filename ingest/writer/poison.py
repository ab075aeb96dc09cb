"""Rows that PostgreSQL refuses: found among thousands of good ones, and buried, within a transaction's time.

One refused row fails the COPY of all. So all rows are tried at once; where that fails, what can be asked of
texts and JSON without trying is asked for all of them in one statement (``sift``); what is refused for
another reason is found by halving. That costs a few milliseconds a row, so it has an end: a batch with too
many such rows is stored in parts, and a single record of them is one dead letter (``Poisoned``; see
``lane``). Neighbours: ``store`` calls ``bisected`` around everything that it copies, and ``gathered`` before
it publishes letters.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from struct import Struct

import asyncpg

from ingest.writer.batch import DeadLetter, Run
from schema.connections import Connection
from schema.errors import WeirError
from schema.records import Segment, decode_record, encode_record

# What PostgreSQL says of a row that it will never take: bad text or JSON, a broken check, a huge index row.
POISON = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
    asyncpg.StatementTooComplexError,
    asyncpg.ProtocolViolationError,
)
# A record with more dead events than this has one letter for all of them.
MOST_LETTERS = 1_000
# Fewer rows than this are found as soon by halving.
_SIEVED_ROWS = 32
# A search that has found so many and has used up its time goes on finding them: it is given up.
_MANY = 100
# Deeper nesting exhausts the server's stack, which it cannot tell without failing.
_ASKABLE_BRACKETS = 1_000
# What a timestamptz can be, in microseconds since 2000.
_FIRST_MOMENT = -211_813_488_000_000_000
_END_OF_MOMENTS = 9_223_371_331_200_000_000
_RECEIVED = Struct(">4xqi")  # length, received_at, length of the device

_SIEVE = """
SELECT asked.position, refused.message, refused.detail
FROM unnest($1::text[]) WITH ORDINALITY AS asked (data, position)
CROSS JOIN LATERAL pg_input_error_info(asked.data, 'jsonb') AS refused
WHERE refused.message IS NOT NULL
"""

Attempt = Callable[[list[Run]], Awaitable[None]]
Sieve = Callable[[list[Run], list[DeadLetter]], Awaitable[list[Run]]]


class Poisoned(WeirError):
    """So many rows are refused, each for itself, that finding them all would outlast the transaction."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"record: over {found} of its events are refused by PostgreSQL, too many to be found one by one"
        )


@dataclass(slots=True)
class Search:
    """The attempts on one set of rows. ``deadline``: on the clock, when it has taken too long.

    ``found``: rows that halving has found.
    """

    attempt: Attempt
    letters: list[DeadLetter]
    deadline: float
    clock: Callable[[], float] = time.monotonic
    found: int = 0


async def bisected(search: Search, runs: list[Run], sieve: Sieve | None = None) -> None:
    """Attempt all rows at once; where PostgreSQL refuses, sift, then halve until each culprit is alone.

    Raises Poisoned.
    """
    total = sum(map(len, runs))
    if not total:
        return
    try:
        await search.attempt(runs)
        return
    except POISON as error:
        if total == 1:
            culprit = next(run for run in runs if len(run))
            search.letters.append(culprit.letter(0, "data", reason_of(error)))
            search.found += 1
            return
    if search.found > _MANY and search.clock() > search.deadline:
        raise Poisoned(search.found)
    if sieve is not None and total >= _SIEVED_ROWS:
        runs = await sieve(runs, search.letters)
        if (left := sum(map(len, runs))) < total:
            await bisected(search, runs)
            return
        total = left
    for half in _halves(runs, total // 2):
        await bisected(search, half)


async def sift(connection: Connection, runs: list[Run], letters: list[DeadLetter]) -> list[Run]:
    """Events less those whose texts, JSON or moment of receipt PostgreSQL would refuse; a letter for each."""
    faults: dict[tuple[int, int], str] = {}
    asked: list[tuple[int, int]] = []
    texts: list[str] = []
    for place, run in enumerate(runs):
        for index, tail in enumerate(run.tails):
            try:
                text = _json_text(tail, run.identities[index])
            except ValueError as error:
                faults[place, index] = f"event: {error}"
                continue
            if text.count("{") + text.count("[") <= _ASKABLE_BRACKETS:
                asked.append((place, index))
                texts.append(text)
    for row in await _refused(connection, texts):
        detail = f" ({row['detail']})" if row["detail"] else ""
        faults[asked[row["position"] - 1]] = f"PostgreSQL: {row['message']}{detail}"
    for (place, index), fault in sorted(faults.items()):
        letters.append(runs[place].letter(index, "data", _storable(fault)))
    return [
        run.part(index for index in range(len(run)) if (place, index) not in faults)
        for place, run in enumerate(runs)
    ]


async def _refused(connection: Connection, texts: list[str]) -> list[asyncpg.Record]:
    await connection.execute("SAVEPOINT sieved")
    try:
        found = await connection.fetch(_SIEVE, texts)
    except asyncpg.PostgresError as error:
        await connection.execute("ROLLBACK TO SAVEPOINT sieved")
        if not isinstance(error, POISON):
            raise
        return []
    await connection.execute("RELEASE SAVEPOINT sieved")
    return found


def _json_text(tail: bytes, identity: bytes) -> str:
    """The data of an event's tail. Raises ValueError for what no text or timestamptz can hold."""
    received_at, device_bytes = _RECEIVED.unpack_from(tail, len(identity))
    if not _FIRST_MOMENT <= received_at < _END_OF_MOMENTS:
        raise ValueError("received_at is no moment")
    device_start = len(identity) + _RECEIVED.size
    data_start = device_start + device_bytes + 5
    data = tail[data_start:].decode()
    tail[device_start : data_start - 5].decode()
    identity[16:].decode()
    if b"\x00" in identity[16:] or b"\x00" in tail[device_start : data_start - 5] or "\x00" in data:
        raise ValueError("holds the character U+0000")
    return data


def gathered(letters: list[DeadLetter]) -> list[DeadLetter]:
    """The letters, those of a record that has too many of them as one: one record is no flood.

    Its payload is a record of all these events, which can be sent again like any other.
    """
    counts = Counter((letter.partition, letter.offset) for letter in letters)
    if not counts or max(counts.values()) <= MOST_LETTERS:
        return letters
    kept: list[DeadLetter] = []
    together: dict[tuple[int, int], list[DeadLetter]] = {}
    for letter in letters:
        place = letter.partition, letter.offset
        if counts[place] <= MOST_LETTERS:
            kept.append(letter)
        else:
            together.setdefault(place, []).append(letter)
    return kept + [_as_one(several) for several in together.values()]


def _as_one(letters: list[DeadLetter]) -> DeadLetter:
    letters.sort(key=lambda letter: letter.position)
    segments: dict[tuple[int, int, bytes, bytes], Segment] = {}
    for letter in letters:
        for one in decode_record(letter.payload).segments:
            head = one.kind, one.flags, one.bucket_id, one.labels
            segments.setdefault(head, Segment(*head, [])).tails.extend(one.tails)
    first = letters[0]
    buckets = {letter.bucket_id for letter in letters}
    return DeadLetter(
        first.partition,
        first.offset,
        first.position,
        first.bucket_id if len(buckets) == 1 else None,
        first.kind,
        f"{len(letters)} events of this record, the first: {first.reason}",
        encode_record(decode_record(first.payload).record_id, [*segments.values()]),
    )


def reason_of(error: Exception) -> str:
    """What PostgreSQL says of a row, as a text that it can store."""
    detail = getattr(error, "detail", None)
    return _storable(f"PostgreSQL: {error}{f' ({detail})' if detail else ''}")


def _storable(text: str) -> str:
    # Text that PostgreSQL quotes may itself hold what it could not store.
    return text.replace("\x00", "�").encode("utf-8", "replace").decode()[:500]


def _halves(runs: list[Run], size: int) -> tuple[list[Run], list[Run]]:
    left: list[Run] = []
    right: list[Run] = []
    room = size
    for run in runs:
        if len(run) <= room:
            left.append(run)
        elif room:
            left.append(run.part(range(room)))
            right.append(run.part(range(room, len(run))))
        else:
            right.append(run)
        room = max(0, room - len(run))
    return left, right
