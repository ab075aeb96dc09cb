"""What cannot be stored becomes a dead letter with its reason; all else is stored, the offset moves on."""

from __future__ import annotations

import asyncio
import random
import struct
import time

import psycopg
import pytest

from ingest.writer.batch import Batch, FetchedRecord
from ingest.writer.dead_letters import DeadLetterFlood
from ingest.writer.recent import Recent
from ingest.writer.store import Store
from schema.records import Segment, decode_record, encode_labels
from tests.support import oracle
from tests.support.processes import Weir
from tests.support.records import DAY, LABELS, Topic, event, events, now, record, report, reports
from tests.support.stored import Stored, stored_in

AT_MS = 1_750_000_000_000
NOISE = "".join(
    random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6000)
)  # not to be compressed


def with_text(tail: bytes, text: bytes, raw: bytes) -> bytes:
    """The tail with a text of the same length put in the place of another."""
    assert len(text) == len(raw)
    assert text in tail
    return tail.replace(text, raw)


def with_moment(tail: bytes, moment: int, *, received: bool = False) -> bytes:
    changed = bytearray(tail)
    (id_bytes,) = struct.unpack_from(">i", tail, 12)
    struct.pack_into(">q", changed, 20 + id_bytes if received else 4, moment)
    return bytes(changed)


BAD_EVENTS = {
    "U+0000 in the id": event("a\x00b"),
    "U+0000 in the device": event("x1", device="a\x00b"),
    "U+0000 in data, escaped": event("x2", data=b'{"a": "\\u0000"}'),
    "U+0000 in data, raw": event("x3", data=b'{"a": "\x00"}'),
    "surrogate bytes in the id": with_text(event("abc"), b"abc", b"\xed\xa0\x80"),
    "surrogate bytes in the device": with_text(event("x4", device="abc"), b"abc", b"\xed\xa0\x80"),
    "surrogate bytes in data": event("x5", data=b'{"a": "\xed\xa0\x80"}'),
    "lone surrogate in data, escaped": event("x6", data=b'{"a": "\\ud800"}'),
    "invalid UTF-8 in the id": with_text(event("abc"), b"abc", b"a\xffc"),
    "invalid UTF-8 in data": event("x7", data=b'{"a": "\xc3\x28"}'),
    "NaN": event("x8", data=b'{"a": NaN}'),
    "Infinity": event("x9", data=b'{"a": -Infinity}'),
    "a huge number": event("x10", data=b'{"a": 1e999999}'),
    "deep nesting": event("x11", data=b"[" * 100_000 + b"]" * 100_000),
    "no JSON": event("x12", data=b"{'a': 1}"),
    "half of JSON": event("x13", data=b'{"a": '),
    "no data": event("x14", data=b""),
    "an id too long for the index": event(NOISE),
    "a device too long for the index": event("x15", device=NOISE),
    "a moment before all of time": with_moment(event("x16"), -(2**63)),
    "a moment after all of time": with_moment(event("x17"), 2**63 - 1),
    "a moment before 1970": event("x18", -1),
    "a moment too far ahead": event("x19", now() + 3 * DAY),
    "a receipt out of range": with_moment(event("x20"), 2**63 - 10, received=True),
    "a receipt before 4713 BC": with_moment(event("x21"), -(2**62), received=True),
    "nothing": b"",
    "a moment and no more": event("x22")[:16],
    "a short tail": event("x23")[:-1],
    "a long tail": event("x24") + b"\x00",
    "two events in one": event("x25") + LABELS + event("y"),
    "JSONB of another version": event("x26")[:-3] + b"\x02{}",
    "null instead of a moment": b"\xff\xff\xff\xff" + event("x27")[12:],
}

BAD_LABELS = {
    "U+0000": encode_labels("a\x00b", "events", "", ""),
    "surrogate bytes": encode_labels("abc", "events", "", "").replace(b"abc", b"\xed\xa0\x80"),
    "invalid UTF-8": encode_labels("n", "events", "abc", "").replace(b"abc", b"a\xffc"),
    "a name too long": encode_labels(NOISE, "events", "", ""),
    # In no index of the events, but in those of the rollups, which are written when the rows are in already.
    "an app too long": encode_labels("n", "events", NOISE, ""),
    "a server too long": encode_labels("n", "events", "", NOISE),
    "null": b"\xff\xff\xff\xff" * 4,
    "too few": LABELS[:-4],
    "too many": LABELS + b"\x00\x00\x00\x00",
    "none": b"",
}

BAD_REPORTS = {
    "an unknown status": report(status="UP"),
    "an interval of nothing": report(interval_seconds=0),
    "an interval of a day": report(interval_seconds=86_400),
    "a negative latency": report(latency_ms=-1.0),
    "NaN as latency": report(latency_ms=float("nan")),
    "an endless latency": report(latency_ms=float("inf")),
    "U+0000 in the host": report("a\x00b"),
    "a host too long for the index": report(NOISE),
    "too far ahead": report(at=now() + 3 * DAY),
    "a short tail": report()[:-1],
    "nothing": b"",
    "a latency of half the size": report()[:-20] + struct.pack(">if", 4, 1.0) + report()[-8:],
}

BAD_RECORDS = {
    "empty": b"",
    "foreign": b"{'hello': 'world'}",
    "another layout": b"WEIR\x09" + bytes(30),
    "the header alone": record(events("ab" * 12, event("x")))[:24],
    "cut off": record(events("ab" * 12, event("x"), event("y")))[:-3],
    "bytes behind": record(events("ab" * 12, event("x"))) + b"more",
    "an unknown kind": record(Segment(9, 0, bytes(12), b"", [])),
}


async def store(stored: Stored, *values: bytes) -> None:
    standing = await stored._standing(0)
    batch = Batch(standings={0: standing})
    for number, value in enumerate(values):
        batch.add(FetchedRecord(0, standing.next_offset + number, AT_MS, value))
    await stored.store.write(batch)
    stored.standings.clear()


async def letters_in(stored: Stored) -> list[tuple[int, int, str | None, str, bytes]]:
    found = await stored.writer.fetch(
        "SELECT record_offset, position, bucket_id, reason, payload FROM dead_letters ORDER BY 1, 2"
    )
    return [tuple(row) for row in found]


@pytest.mark.parametrize("stamped", [False, True], ids=["own moment", "stamped"])
async def test_bad_events_among_good_ones(
    stored: Stored, bucket_id: str, database_dsn: str, stamped: bool
) -> None:
    """All kinds at once, each between neighbours in its record, with a good record before and behind."""
    values, good = [], set()
    for number, bad in enumerate(BAD_EVENTS.values()):
        good |= {f"{number}-a", f"{number}-b", f"{number}-c"}
        values.append(
            record(
                events(bucket_id, event(f"{number}-a"), bad, event(f"{number}-b"), stamped=stamped),
                events(bucket_id, event(f"{number}-c"), labels=encode_labels("sale", "events", "", "")),
            )
        )
    await store(stored, *values)
    assert oracle.check(database_dsn, bucket_id, good, set()) == 3 * len(BAD_EVENTS)
    found = await letters_in(stored)
    assert [(offset, position, bucket) for offset, position, bucket, _, _ in found] == [
        (number, 1, bucket_id) for number in range(len(BAD_EVENTS))
    ]
    for (_, _, _, reason, payload), (kind, bad) in zip(found, BAD_EVENTS.items(), strict=True):
        assert len(reason) > 10, kind
        # As a record of its own that can be sent again.
        assert decode_record(payload).segments == [events(bucket_id, bad, stamped=stamped)], kind
    # What is published is what is in the table.
    assert sorted((letter.offset, letter.payload) for letter in stored.letters) == [
        (offset, payload) for offset, _, _, _, payload in found
    ]
    # A good batch behind them is stored as ever.
    await store(stored, record(events(bucket_id, event("after"))))
    oracle.check(database_dsn, bucket_id, good | {"after"}, set())


async def test_bad_labels_among_good_ones(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    values, good = [], set()
    for number, labels in enumerate(BAD_LABELS.values()):
        good |= {f"{number}-c", f"{number}-d"}
        values.append(
            record(
                events(bucket_id, event(f"{number}-c")),
                events(bucket_id, event(f"{number}-a"), event(f"{number}-b"), labels=labels),
                events(bucket_id, event(f"{number}-d")),
            )
        )
    await store(stored, *values)
    assert oracle.check(database_dsn, bucket_id, good, set()) == len(good)
    assert [(offset, position) for offset, position, _, _, _ in await letters_in(stored)] == [
        (number, position) for number in range(len(BAD_LABELS)) for position in (1, 2)
    ]


async def test_bad_node_reports_among_good_ones(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    values = [
        record(
            reports(bucket_id, report(f"{number}-a"), bad, report(f"{number}-b")),
            events(bucket_id, event(f"{number}")),
        )
        for number, bad in enumerate(BAD_REPORTS.values())
    ]
    await store(stored, *values)
    hosts = await stored.writer.fetch("SELECT host FROM node_reports")
    assert sorted(row["host"] for row in hosts) == sorted(
        f"{n}-{x}" for n in range(len(BAD_REPORTS)) for x in "ab"
    )
    assert [(offset, position) for offset, position, _, _, _ in await letters_in(stored)] == [
        (number, 1) for number in range(len(BAD_REPORTS))
    ]
    oracle.check(database_dsn, bucket_id, {str(n) for n in range(len(BAD_REPORTS))}, set())


async def test_bad_records_among_good_ones(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    values, good = [], set()
    for number, bad in enumerate(BAD_RECORDS.values()):
        good.add(f"{number}")
        values += [bad, record(events(bucket_id, event(f"{number}")))]
    await store(stored, *values)
    assert oracle.check(database_dsn, bucket_id, good, set()) == len(good)
    found = await letters_in(stored)
    assert [(offset, position, bucket) for offset, position, bucket, _, _ in found] == [
        (2 * number, -1, None) for number in range(len(BAD_RECORDS))
    ]
    assert [payload for _, _, _, _, payload in found] == list(BAD_RECORDS.values())
    assert all(reason.startswith("record: ") for _, _, _, reason, _ in found)


async def test_an_unknown_bucket(stored: Stored, bucket_id: str, database_dsn: str) -> None:
    await store(
        stored,
        record(events("00" * 12, event("x")), events(bucket_id, event("a")), reports("00" * 12, report())),
    )
    oracle.check(database_dsn, bucket_id, {"a"}, set())
    assert [(position, bucket) for _, position, bucket, _, _ in await letters_in(stored)] == [
        (0, "00" * 12),
        (2, "00" * 12),
    ]


async def test_letters_of_a_batch_that_is_read_again_are_in_the_table_once(
    stored: Stored, bucket_id: str
) -> None:
    values = [record(events(bucket_id, event("x", data=b"NaN"))), b"foreign"]
    await store(stored, *values)
    await stored.maintenance.execute("UPDATE partition_offsets SET next_offset = 0")
    await store(stored, *values)
    assert len(await letters_in(stored)) == 2
    # In another epoch the same offsets are other records.
    await stored.maintenance.execute("UPDATE partition_offsets SET next_offset = 0, epoch = 2")
    await store(stored, *values)
    assert len(await letters_in(stored)) == 4


async def test_many_bad_events_are_found_within_a_transactions_time_and_a_flood_is_not_waited_for(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    bad = [event(f"bad-{n}", data=b'{"a": NaN}') for n in range(500)]
    good = [event(f"good-{n}") for n in range(2_000)]
    mixed = [tail for n in range(500) for tail in (bad[n], *good[4 * n : 4 * n + 4])]
    started = time.monotonic()
    await store(stored, record(events(bucket_id, *mixed)))
    seconds = time.monotonic() - started
    assert oracle.check(database_dsn, bucket_id, {f"good-{n}" for n in range(2_000)}, set()) == 2_000
    assert len(await letters_in(stored)) == 500
    assert seconds < 10, seconds

    async with stored_in(database_dsn) as other:
        few = other.settings.model_copy(update={"dead_letters_per_minute": 50})
        other.store = Store(other.writer, few, other.edition, _published_nowhere, Recent())
        with pytest.raises(DeadLetterFlood, match="WEIR_DEAD_LETTERS_PER_MINUTE"):
            await store(other, record(events(bucket_id, *bad)))
    assert len(await letters_in(stored)) == 500
    assert await stored.writer.fetchval("SELECT next_offset FROM partition_offsets") == 1


async def _published_nowhere(*_arguments: object) -> None:
    raise AssertionError("the flood is noticed before anything is published")


async def test_thousands_of_bad_events_in_a_record_are_one_letter_and_cost_no_good_one(
    stored: Stored, bucket_id: str, database_dsn: str
) -> None:
    """Found by one question to the database, so that it takes no longer than a hundred of them by halving."""
    kinds = [
        b'{"a": NaN}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b'{"a": 1e999999}',
        b"{",
        b'{"a": "\xff"}',
    ]
    bad = [event(f"bad-{n}", data=kinds[n % len(kinds)]) for n in range(6_000)]
    bad[7] = with_moment(bad[7], 2**63 - 10, received=True)
    bad[11] = event("a\x00b")
    good = {f"good-{n}" for n in range(1_500)}
    mixed = [*bad, *map(event, sorted(good))]
    random.Random(5).shuffle(mixed)
    started = time.monotonic()
    few = stored.settings.model_copy(update={"dead_letters_per_minute": 50})
    stored.store._settings = few
    stored.store._most_letters = few.dead_letters_per_minute
    await store(stored, record(events(bucket_id, *mixed)), record(events(bucket_id, event("after"))))
    assert time.monotonic() - started < 20
    oracle.check(database_dsn, bucket_id, good | {"after"}, set())
    [(offset, _, bucket, reason, payload)] = await letters_in(stored)
    assert (offset, bucket) == (0, bucket_id)
    assert reason.startswith("6000 events of this record, the first: ")
    [segment] = decode_record(payload).segments
    assert sorted(segment.tails) == sorted(bad)


async def test_thousands_of_events_of_no_bucket_are_no_flood(stored: Stored, bucket_id: str) -> None:
    few = stored.settings.model_copy(update={"dead_letters_per_minute": 50})
    stored.store._most_letters = few.dead_letters_per_minute
    strangers = [event(f"{n}") for n in range(3_000)]
    await store(
        stored,
        record(
            events("00" * 12, *strangers[:1_500]),
            events(bucket_id, event("a", now() + 3 * DAY)),
            events("00" * 12, *strangers[1_500:]),
        ),
    )
    [(_, position, bucket, _, payload)] = await letters_in(stored)
    assert (position, bucket) == (0, None)
    assert sum(len(segment.tails) for segment in decode_record(payload).segments) == 3_001


async def test_a_record_of_nothing_but_poison_does_not_hold_its_partition_up(
    weir: Weir, topic: Topic
) -> None:
    """Rows that only trying finds, more of them than a transaction has time for: real Kafka, real writer."""
    bucket = weir.credentials.bucket_id
    weir.start("writer", WEIR_TRANSACTION_SECONDS="4")
    endless = record(reports(bucket, *(report(f"h{n}", status="UP") for n in range(20_000))))
    many = record(events(bucket, *(event(f"x{n}", data=b"NaN") for n in range(4_000)), event("b")))
    for value in (record(events(bucket, event("a"))), endless, many, record(events(bucket, event("c")))):
        await topic.send(value)
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        deadline = time.monotonic() + 90
        while connection.execute(
            "SELECT next_offset FROM partition_offsets WHERE partition = 0"
        ).fetchone() != (4,):
            assert time.monotonic() < deadline, weir.processes[0].log()[-3000:]
            await asyncio.sleep(0.2)
        stored_ids = {row[0] for row in connection.execute("SELECT id FROM events")}
        letters = connection.execute(
            "SELECT record_offset, position, reason, payload FROM dead_letters ORDER BY 1"
        ).fetchall()
    assert stored_ids == {"a", "b", "c"}
    assert [letter[:2] for letter in letters] == [(1, -1), (2, 0)]
    assert "too many to be found one by one" in letters[0][2]
    assert letters[0][3] == endless
    assert "4000 events of this record" in letters[1][2]
    assert weir.processes[0].child.poll() is None
