"""Several devices read in one pass, as compressed chunks need it: the same rows, and only where it helps."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from ingest.writer import retention
from query.execute import Reader, fetch
from query.filters.conditions import ALWAYS, Condition, Equals, Lies, Order, Tag
from query.interval import DAY, SECOND
from query.request import Range, Scope
from query.sql import Statement
from query.streams import (
    NEWEST_FIRST,
    PASS_DEVICES,
    Moment,
    Names,
    Sorting,
    Streams,
    one_pass_will_do,
    packed,
    stream_batches,
    stream_page,
    stream_page_in_one_pass,
    stream_total,
)
from schema.connections import Connection
from schema.errors import Invalid
from tests.support.explained import explained, reader_of

NOW = 1_790_000_000 * SECOND // DAY * DAY
N = Tag(("n",))
CONDITIONS: list[Condition] = [ALWAYS, Equals(N, Decimal(3)), Lies(N, Order.GREATER, Decimal(5))]
DEVICES = tuple(f"d{n}" for n in range(8))
# Six days of two buckets. d0 has more than half of all events; there are five of them at each moment.
ROWS = """
INSERT INTO events
SELECT 1 + i % 2, (ARRAY['boot', 'click', 'note'])[1 + i % 3], (ARRAY['raw', 'raw', 'log'])[1 + i % 3],
    '', '', to_timestamp($1) - i / 5 * INTERVAL '5 minutes',
    (ARRAY['a', 'B', 'ä', 'Z', ''])[1 + i % 5] || i / 20, now() - i % 100 * INTERVAL '1 second',
    CASE WHEN i % 7 < 4 THEN 'd0' WHEN i % 11 = 0 THEN '' ELSE 'd' || 1 + i % 9 END,
    jsonb_build_object('n', i % 13)
FROM generate_series(1, 8640) AS i
"""
# The way is tried on both editions, whatever may be compressed there.
COMPRESSED_HERE = Statement("SELECT true AS packed", ())
COMPRESSED = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    async def fill(owner: Connection) -> None:
        await owner.execute(ROWS, NOW // SECOND)
        if await owner.fetchval("SELECT edition FROM store_state") == "community":
            await retention.compress(owner, 1)
            assert await owner.fetchval(COMPRESSED) >= 6
        await owner.execute("ANALYZE events")

    async with reader_of(database_dsn, fill) as made:
        yield made


def asked(
    devices: tuple[str, ...] = DEVICES,
    days: float = 30,
    limit: int = 1000,
    condition: Condition = ALWAYS,
    scopes: tuple[Scope, ...] = (Scope((1, 2)),),
    sorting: Sorting = NEWEST_FIRST,
) -> Streams:
    return Streams(scopes, devices, "raw", Range(NOW - int(days * DAY), NOW), limit, condition, sorting)


async def test_both_ways_give_the_same_rows_in_the_same_order(reader: Reader) -> None:
    draw = random.Random(8)
    seen = 0
    for _ in range(60):
        question = asked(
            tuple(draw.choices((*DEVICES, "nobody"), k=draw.randint(1, 9))),
            draw.choice([0.3, 2.5, 4, 30]),
            draw.choice([1, 7, 10_000]),
            draw.choice(CONDITIONS),
            draw.choice(
                [
                    (Scope((1,)),),
                    (Scope((1,), NOW - 2 * DAY), Scope((2,))),
                    (Scope(tuple(range(2, 100))), Scope((1,), NOW - 3 * DAY)),
                ]
            ),
            Sorting(draw.choice([*Moment, N]), descending=draw.random() < 0.7),
        )
        names = draw.choice([None, Names(NOW - 2 * DAY, ("boot", "click"))])
        async with reader.snapshot() as connection:
            expected = await fetch(connection, stream_page(question, names))
            assert await fetch(connection, stream_page_in_one_pass(question, names)) == expected, question
            one_by_one = len(await fetch(connection, stream_page(distinct(question), names)))
            (row,) = await fetch(connection, stream_total(question, names, 5000))
        if question.limit == 10_000:
            assert row["found"] == one_by_one
        seen += len(expected)
    assert seen > 5_000


def distinct(question: Streams) -> Streams:
    devices = tuple(dict.fromkeys(question.devices))
    return Streams(
        question.scopes, devices, "raw", question.range, question.limit, question.condition, question.sorting
    )


async def test_a_total_is_counted_to_just_beyond_what_matters(reader: Reader) -> None:
    async with reader.snapshot() as connection:
        (row,) = await fetch(connection, stream_total(asked(), None, 10))
    assert row["found"] == 11


async def test_one_pass_reads_a_chunk_once_for_all_devices(reader: Reader) -> None:
    rare = Equals(N, Decimal(3))
    text = await explained(reader, stream_page_in_one_pass(asked(condition=rare, days=30)))
    chunks = [line for line in text.splitlines() if " on _hyper_1_" in line]
    assert chunks
    assert all("loops=1)" in line or "never executed" in line for line in chunks), text


async def test_it_is_chosen_for_many_devices_with_few_events_among_compressed_ones(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = Equals(N, Decimal(3))

    async def chosen(question: Streams) -> bool:
        async with reader.snapshot() as connection:
            return await one_pass_will_do(connection, question, None)

    async with reader.snapshot() as connection:
        (row,) = await fetch(connection, packed(asked()))
        assert row["packed"] is (await connection.fetchval(COMPRESSED) > 0)
    assert await chosen(asked(condition=rare)) is row["packed"]
    monkeypatch.setattr("query.streams.packed", lambda _: COMPRESSED_HERE)
    assert await chosen(asked(condition=rare))
    assert not await chosen(asked(DEVICES[: PASS_DEVICES - 1], condition=rare))
    assert not await chosen(asked((*DEVICES, DEVICES[0]), condition=rare))
    # The newest few, or all devices have as many events as they may, or more than are sorted at once.
    assert not await chosen(asked(limit=3))
    assert not await chosen(asked(limit=3, condition=rare))
    by_number = Sorting(N, descending=True)
    assert await chosen(asked(limit=3, sorting=by_number))
    monkeypatch.setattr("query.streams.PASS_EVENTS", 100)
    assert not await chosen(asked())
    assert await chosen(asked(condition=rare, days=0.1))


async def answer(reader: Reader, question: Streams) -> list[object]:
    return [row async for rows in stream_batches(reader, question) for row in rows]


async def test_a_device_asked_for_many_times_does_not_get_past_the_bound(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.streams.packed", lambda _: COMPRESSED_HERE)
    monkeypatch.setattr(reader, "_edition", "community")
    with pytest.raises(Invalid, match="ask for fewer devices"):
        await answer(reader, asked(("d0",) * 100, limit=100_000))


async def test_the_way_changes_nothing_of_an_answer(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("query.streams.packed", lambda _: COMPRESSED_HERE)
    monkeypatch.setattr(reader, "_edition", "community")
    questions = [asked(condition=Equals(N, Decimal(3))), asked(), asked(limit=3)]
    chosen = [await answer(reader, question) for question in questions]
    monkeypatch.setattr("query.streams.PASS_DEVICES", 1000)
    assert chosen == [await answer(reader, question) for question in questions]
    assert all(chosen)
