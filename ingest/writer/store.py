"""The one transaction that makes an event stored: offsets, rows, rollups, ledger, dead letters.

It begins with the partitions' offsets, moved by compare-and-set: a writer that lost a partition moves
nothing and writes nothing. Then come the buckets' keys and fences, the rows (copied, or through a
staging table where one may be a repeat), and the counts of exactly those rows that were inserted.
Whatever stops the transaction leaves all of it undone; the same batch may be tried again at any time.

Neighbours: ``lane`` calls ``Store.write`` and decides about retries, ``batch`` decides everything that
needs no database.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from ingest.writer import statements
from ingest.writer.batch import (
    STAMPED_WINDOW,
    Batch,
    Bounds,
    BucketState,
    Counts,
    DeadLetter,
    Fence,
    Run,
    Screened,
    copy_stream,
    postgres_minute,
    screen,
    suspects,
    without_repeats,
)
from ingest.writer.dead_letters import DeadLetterFlood
from ingest.writer.poison import Attempt, Search, bisected, gathered, sift
from ingest.writer.portions import Chunks
from ingest.writer.recent import Recent
from schema.connections import Connection
from schema.errors import Unavailable, WeirError
from schema.records import POSTGRES_EPOCH_MICROSECONDS, postgres_moment
from schema.settings import WriterSettings
from schema.tables import (
    DAY_SECONDS,
    EVENT_COLUMNS,
    LATE_SECONDS,
    MINUTE_SECONDS,
    NODE_REPORT_COLUMNS,
    ROLLUP_SHARDS,
)

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The latest moment that a record's timestamp is kept as: anybody may write any number there.
_LAST_MILLISECOND = 253_370_764_800_000

Publish = Callable[[list[DeadLetter], dict[int, int]], Awaitable[None]]
# Of a transaction's time, what looking for rows that cannot be stored may take.
_SEARCH_SHARE = 0.4


class StaleOffsets(WeirError):
    """Some partitions of the batch do not stand where we think: another writer has them, or had."""

    def __init__(self, partitions: set[int]) -> None:
        super().__init__(f"partitions {sorted(partitions)} have moved under us")
        self.partitions = partitions


@dataclass(slots=True)
class Outcome:
    """What a committed transaction did, in events."""

    stored: int = 0
    node_reports: int = 0
    duplicates: int = 0
    fenced: int = 0
    staged: int = 0
    # Dead letters by their kind.
    letters: Counter[str] = field(default_factory=Counter)


class Store:
    """Writes batches over one connection. Not for two tasks at once."""

    def __init__(
        self,
        connection: Connection,
        settings: WriterSettings,
        edition: str,
        publish_letters: Publish,
        recent: Recent,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._apache = edition == "apache"
        self._publish_letters = publish_letters
        self._recent = recent
        self._topic = settings.kafka_events_topic
        self._most_letters = settings.dead_letters_per_minute
        self._search_until = 0.0
        self._shard = 0
        # Whether the last rows copied met repeats: those that follow are likely to.
        self._asks_first = False
        self._chunk_width = DAY_SECONDS * 1_000_000
        self._raw_floor = 0

    async def prepare(self) -> None:
        """Make the session's staging tables, and see how the table of events is cut."""
        await self._connection.execute(statements.STAGE_EVENTS)
        await self._connection.execute(statements.STAGE_NODE_REPORTS)
        row = await self._connection.fetchrow(statements.CHUNKS)
        assert row is not None
        self._chunk_width, self._raw_floor = row["width"], _postgres_microseconds(row["raw_floor"])

    def chunks(self) -> Chunks:
        """How the table of events is cut, as far as is known without asking."""
        now = postgres_moment(time.time_ns() // 1000)
        return Chunks(
            self._chunk_width, self._raw_floor, now + 2 * self._settings.future_slack_seconds * 1_000_000
        )

    async def write(self, batch: Batch) -> Outcome:
        """Store a batch behind where its partitions stand.

        Raises StaleOffsets, Poisoned, DeadLetterFlood, Unavailable, and asyncpg's errors; then nothing was
        written, except that a lost connection leaves the commit itself unknown.
        """
        connection = self._connection
        self._search_until = time.monotonic() + _SEARCH_SHARE * self._settings.transaction_seconds
        try:
            await connection.execute(statements.BEGIN)
            outcome, hashes = await self._write(batch)
            await self._commit()
        except BaseException:
            # Best effort: the server undoes it anyway when the connection goes.
            with contextlib.suppress(Exception):
                await connection.execute("ROLLBACK", timeout=2)
            raise
        self._recent.remember(hashes)
        return outcome

    async def _commit(self) -> None:
        # In a transaction that has failed the answer is ROLLBACK, and no error.
        if (answer := await self._connection.execute("COMMIT")) != "COMMIT":
            raise Unavailable(f"the database answered COMMIT with {answer}")

    async def _write(self, batch: Batch) -> tuple[Outcome, set[int]]:
        started_at, raw_floor = await self._move_offsets(batch)
        # One for all partitions of a lane: each row of a rollup is then written once a batch.
        self._shard = min(batch.standings) % ROLLUP_SHARDS
        epochs = {partition: standing.epoch for partition, standing in batch.standings.items()}
        self._raw_floor = _postgres_microseconds(raw_floor)
        bounds = Bounds(
            self._raw_floor,
            _postgres_microseconds(started_at) + self._settings.future_slack_seconds * 1_000_000,
        )
        screened = screen(batch, await self._bucket_states(batch), epochs, bounds)
        outcome = Outcome(fenced=screened.fenced)
        counts = Counts()
        fresh, doubtful, hashes = suspects(screened.events, self._recent)
        fresh += await self._new_stamped(screened, outcome)
        doubtful += await self._copy_fresh(fresh, counts, screened.letters, outcome)
        await self._store_staged(doubtful, counts, screened.letters, outcome)
        await self._store_node_reports(screened, outcome)
        await self._add_counts(counts)
        await self._note_late_hours(counts, started_at)
        await self._store_letters(screened.letters, epochs, outcome)
        return outcome, hashes

    async def _move_offsets(self, batch: Batch) -> tuple[datetime, datetime]:
        ends, standings = batch.ends(), batch.standings
        partitions = sorted(ends)
        expected = (
            self._topic,
            partitions,
            [standings[p].epoch for p in partitions],
            [standings[p].next_offset for p in partitions],
        )
        if batch.moves_offsets:
            row = await self._connection.fetchrow(
                statements.MOVE_OFFSETS,
                *expected,
                [ends[p][0] for p in partitions],
                [batch.last_record_ids[p] for p in partitions],
                [_record_moment(ends[p][1]) for p in partitions],
            )
        else:
            row = await self._connection.fetchrow(statements.HOLD_OFFSETS, *expected)
        assert row is not None
        if stale := set(partitions) - set(row["moved"]):
            raise StaleOffsets(stale)
        return row["started_at"], row["raw_floor"]

    async def _bucket_states(self, batch: Batch) -> dict[str, BucketState]:
        bucket_ids = batch.bucket_ids()
        states = {
            row["bucket_id"]: BucketState(row["bucket_key"], row["deleted"], {})
            for row in await self._connection.fetch(statements.BUCKETS, bucket_ids)
        }
        for row in await self._connection.fetch(statements.FENCES, self._topic, bucket_ids):
            if row["bucket_id"] in states:
                states[row["bucket_id"]].fences[row["partition"]] = Fence(
                    row["epoch"], row["fence_offset"], _postgres_microseconds(row["fenced_at"])
                )
        return states

    async def _new_stamped(self, screened: Screened, outcome: Outcome) -> list[Run]:
        """The stamped rows that repeat neither what was stored within 24 hours nor another of this batch."""
        wanted = _readable_ids(screened.stamped, screened.letters)
        if not wanted:
            return []
        moments = [_POSTGRES_EPOCH + run.moments[i] * _MICROSECOND for run, i, _ in wanted]
        known = await self._connection.fetch(
            statements.STAMPED_KNOWN,
            [run.bucket_key for run, _, _ in wanted],
            [event_id for _, _, event_id in wanted],
            moments,
            min(moments) - STAMPED_WINDOW,
            max(moments) + STAMPED_WINDOW,
        )
        kept, repeats = without_repeats(wanted, {row["position"] - 1 for row in known})
        outcome.duplicates += repeats
        return kept

    async def _copy_fresh(
        self, runs: list[Run], counts: Counts, letters: list[DeadLetter], outcome: Outcome
    ) -> list[Run]:
        """Copy rows that are probably new; return those that must go through the staging table after all."""
        to_stage: list[Run] = []

        async def copy(part: list[Run]) -> None:
            if not self._asks_first:
                try:
                    await self._copy("events", EVENT_COLUMNS, part)
                except asyncpg.UniqueViolationError:
                    self._asks_first = True
                else:
                    counts.add_runs(part, self._shard)
                    outcome.stored += sum(map(len, part))
                    return
            # Nothing of this part counts before its rows are in: it may be halved and come again.
            unreadable: list[DeadLetter] = []
            new, repeats = await self._unknown(part, unreadable)
            self._asks_first = repeats > 0
            try:
                await self._copy("events", EVENT_COLUMNS, new)
            except asyncpg.UniqueViolationError:
                to_stage.extend(new)
            else:
                counts.add_runs(new, self._shard)
                outcome.stored += sum(map(len, new))
            outcome.duplicates += repeats
            letters.extend(unreadable)

        await bisected(self._search(copy, letters), runs, self._sift)
        return to_stage

    async def _unknown(self, runs: list[Run], letters: list[DeadLetter]) -> tuple[list[Run], int]:
        """The rows that are not stored yet, as parts of their runs, and how many are."""
        wanted = _readable_ids(runs, letters)
        if not wanted:
            return [], 0
        moments = [_POSTGRES_EPOCH + run.moments[i] * _MICROSECOND for run, i, _ in wanted]
        # Decides how they are looked for, never what is found: any clock will do.
        uncompressed_after = datetime.now(UTC) - timedelta(days=self._settings.compress_after_days)
        one_by_one = self._apache or min(moments) > uncompressed_after
        known = await self._connection.fetch(
            statements.KNOWN if one_by_one else statements.KNOWN_AMONG_COMPRESSED,
            [run.bucket_key for run, _, _ in wanted],
            [event_id for _, _, event_id in wanted],
            moments,
            min(moments),
            max(moments),
        )
        stored = {row["position"] - 1 for row in known}
        kept: dict[int, tuple[Run, list[int]]] = {}
        for place, (run, index, _) in enumerate(wanted):
            if place not in stored:
                kept.setdefault(id(run), (run, []))[1].append(index)
        new = [run if len(run) == len(indices) else run.part(indices) for run, indices in kept.values()]
        return new, len(stored)

    async def _store_staged(
        self, runs: list[Run], counts: Counts, letters: list[DeadLetter], outcome: Outcome
    ) -> None:
        """Store rows of which some may be there already."""
        if not runs:
            return
        shard = self._shard
        staged = 0
        inserted = 0

        async def stage(part: list[Run]) -> None:
            nonlocal staged, inserted
            await self._connection.execute("SAVEPOINT staged")
            try:
                await self._copy("stage_events", EVENT_COLUMNS, part)
                rows = await self._connection.fetch(statements.INSERT_STAGED_EVENTS)
                await self._connection.execute("TRUNCATE stage_events; RELEASE SAVEPOINT staged")
            except asyncpg.PostgresError:
                await self._connection.execute("ROLLBACK TO SAVEPOINT staged")
                raise
            for row in rows:
                count = row["event_count"]
                counts.add(
                    row["bucket_key"], row["name"], row["app"], row["server"], row["minute"], shard, count
                )
                inserted += count
            staged += sum(map(len, part))

        await bisected(self._search(stage, letters), runs, self._sift)
        outcome.staged += staged
        outcome.stored += inserted
        outcome.duplicates += staged - inserted

    async def _store_node_reports(self, screened: Screened, outcome: Outcome) -> None:
        async def stage(part: list[Run]) -> None:
            await self._connection.execute("SAVEPOINT staged")
            try:
                await self._copy("stage_node_reports", NODE_REPORT_COLUMNS, part)
                status = await self._connection.execute(statements.INSERT_STAGED_NODE_REPORTS)
                await self._connection.execute("TRUNCATE stage_node_reports; RELEASE SAVEPOINT staged")
            except asyncpg.PostgresError:
                await self._connection.execute("ROLLBACK TO SAVEPOINT staged")
                raise
            inserted = int(status.rsplit(" ", 1)[1])
            outcome.node_reports += inserted
            outcome.duplicates += sum(map(len, part)) - inserted

        await bisected(self._search(stage, screened.letters), screened.node_reports)

    def _search(self, attempt: Attempt, letters: list[DeadLetter]) -> Search:
        return Search(attempt, letters, self._search_until)

    async def _sift(self, runs: list[Run], letters: list[DeadLetter]) -> list[Run]:
        return await sift(self._connection, runs, letters)

    async def _copy(self, table: str, columns: tuple[str, ...], runs: list[Run]) -> None:
        """COPY under a savepoint of its own: one bad row would end the whole transaction otherwise."""
        connection = self._connection
        await connection.execute("SAVEPOINT copied")
        try:
            await connection.copy_to_table(
                table,
                source=_stream(runs),
                columns=columns,
                format="binary",
                timeout=self._settings.transaction_seconds,
            )
            await connection.execute("RELEASE SAVEPOINT copied")
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK TO SAVEPOINT copied")
            raise

    async def _add_counts(self, counts: Counts) -> None:
        if not self._apache or not counts.minutes:
            return
        keys, names, minutes, shards = zip(*counts.minutes, strict=True)
        await self._connection.execute(
            statements.ADD_MINUTES,
            keys,
            names,
            list(map(_minute_moment, minutes)),
            shards,
            [*counts.minutes.values()],
        )
        for statement, periods in ((statements.ADD_HOURS, counts.hours), (statements.ADD_DAYS, counts.days)):
            keys, names, apps, servers, starts, shards = zip(*periods, strict=True)
            moments = list(map(_minute_moment, starts))
            await self._connection.execute(
                statement, keys, names, apps, servers, moments, shards, [*periods.values()]
            )

    async def _note_late_hours(self, counts: Counts, started_at: datetime) -> None:
        minute = postgres_minute((started_at - _UNIX_EPOCH) // _MICROSECOND)
        late = counts.hours_before(minute)
        if not self._apache:
            # Minutes are materialized before their hour is closed.
            late = sorted({*late, *counts.hours_of_minutes_before(minute - LATE_SECONDS // MINUTE_SECONDS)})
        if late:
            await self._connection.execute(statements.NOTE_LATE_HOURS, list(map(_minute_moment, late)))

    async def _store_letters(
        self, letters: list[DeadLetter], epochs: dict[int, int], outcome: Outcome
    ) -> None:
        letters = gathered(letters)
        if not letters:
            return
        if len(letters) > self._most_letters:
            raise DeadLetterFlood(len(letters), self._most_letters)
        await self._publish_letters(letters, epochs)
        await self._connection.execute(
            statements.ADD_DEAD_LETTERS,
            self._topic,
            [letter.partition for letter in letters],
            [epochs[letter.partition] for letter in letters],
            [letter.offset for letter in letters],
            [letter.position for letter in letters],
            [letter.bucket_id for letter in letters],
            [letter.reason for letter in letters],
            [letter.payload for letter in letters],
        )
        outcome.letters.update(letter.kind for letter in letters)


async def _stream(runs: list[Run]) -> Any:
    for chunk in copy_stream(runs):
        yield chunk


def _record_moment(at_ms: int) -> datetime:
    return _UNIX_EPOCH + timedelta(milliseconds=min(max(at_ms, 0), _LAST_MILLISECOND))


def _readable_ids(runs: list[Run], letters: list[DeadLetter]) -> list[tuple[Run, int, str]]:
    """(run, index, id) of each row; an id that PostgreSQL cannot be asked for becomes a dead letter."""
    readable: list[tuple[Run, int, str]] = []
    for run in runs:
        for index, identity in enumerate(run.identities):
            try:
                event_id = identity[16:].decode()
            except UnicodeDecodeError as error:
                letters.append(run.letter(index, "data", f"id: {error}"))
                continue
            if "\x00" in event_id:
                letters.append(run.letter(index, "data", "id: holds the character U+0000"))
            else:
                readable.append((run, index, event_id))
    return readable


def _postgres_microseconds(moment: datetime) -> int:
    return (moment - _UNIX_EPOCH) // _MICROSECOND - POSTGRES_EPOCH_MICROSECONDS


def _minute_moment(minute: int) -> datetime:
    return _POSTGRES_EPOCH + timedelta(minutes=minute)
