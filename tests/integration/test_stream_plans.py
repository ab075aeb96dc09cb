"""Streams read what a device has in the range, by its index, however many buckets and devices there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from ingest.writer import stream_names
from query.execute import Reader, fetch
from query.filters.conditions import ALWAYS, Condition, Equals, Tag
from query.interval import DAY, SECOND
from query.request import Range, Scope, moment
from query.streams import NEWEST_FIRST, Names, Sorting, Streams, known_names, stream_count, stream_page
from schema.connections import Connection, Duty, open_connection
from schema.settings import ApiSettings
from tests.support.explained import explained, reader_of

NOW = 1_790_000_000 * SECOND // DAY * DAY
ONE = (Scope((1,)),)
MANY = (Scope(tuple(range(1, 5001)), NOW - 9 * DAY), Scope(tuple(range(5001, 10_001))))
# Ten days, a row every 20 s; 20 devices, of which d0 is in bucket 1 alone and has every second row.
ROWS = """
INSERT INTO events
SELECT CASE WHEN i % 2 = 0 THEN 1 ELSE 1 + i % 997 END, (ARRAY['boot', 'click'])[1 + i / 2 % 2], 'raw',
    '', '', to_timestamp($1) - i * INTERVAL '20 seconds', i::text, now(),
    CASE WHEN i % 2 = 0 THEN 'd0' ELSE 'd' || 1 + i / 2 % 19 END, jsonb_build_object('n', i % 50)
FROM generate_series(1, 43200) AS i
"""


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    async def fill(owner: Connection) -> None:
        await owner.execute(ROWS, NOW // SECOND)
        await owner.execute("ANALYZE events")

    async with reader_of(database_dsn, fill) as made:
        yield made


def buffers(text: str) -> int:
    """Pages that the whole statement touched."""
    found = re.search(r"Buffers: shared ([^\n]*)", text)
    assert found is not None
    return sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", found[1]))


def asked(
    devices: tuple[str, ...],
    days: float = 30,
    limit: int = 1000,
    condition: Condition = ALWAYS,
    scopes: tuple[Scope, ...] = ONE,
    sorting: Sorting = NEWEST_FIRST,
) -> Streams:
    return Streams(scopes, devices, "raw", Range(NOW - int(days * DAY), NOW), limit, condition, sorting)


async def test_the_newest_events_of_a_device_with_many_are_read_from_the_newest_on(reader: Reader) -> None:
    text = await explained(reader, stream_page(asked(("d0",), limit=10)))
    assert "events_device" in text
    assert "Seq Scan" not in text
    # Chunks in order of time, the older ones never begun; a few pages of the one that was, of thousands.
    assert text.count("never executed") >= 9
    assert buffers(text) < 50


async def test_a_range_reads_its_chunks_and_a_condition_reads_the_range(reader: Reader) -> None:
    condition = Equals(Tag(("n",)), None)
    for let_through in (ALWAYS, condition):
        text = await explained(reader, stream_page(asked(("d1", "d2"), 1.5, condition=let_through)))
        assert len(set(re.findall(r" on (_hyper_\w+_chunk)", text))) == 2
        assert "events_device" in text
        assert "Seq Scan" not in text
        # What a condition looks at is what the device has in the range.
        assert buffers(text) < 60


async def test_ten_thousand_buckets_cost_a_device_of_one_little_more_than_one_bucket(reader: Reader) -> None:
    devices = tuple(f"d{n}" for n in range(1, 11))
    text = await explained(reader, stream_page(asked(devices, 2, 10, scopes=MANY)))
    assert "events_device" in text
    assert "Seq Scan" not in text
    # A page for each of some 2300 rows of these devices; a probe of each bucket would be 200,000 pages.
    assert buffers(text) < 4000


async def test_devices_come_in_order_without_sorting_them_all(reader: Reader) -> None:
    for sorting in (NEWEST_FIRST, Sorting(Tag(("n",)), descending=True)):
        text = await explained(reader, stream_page(asked(("d2", "d1"), 2, sorting=sorting)))
        assert "Presorted Key: wanted.place" in text


OTHERS = """
INSERT INTO events
SELECT 1, 'note', 'log', '', '', to_timestamp($1) - i * INTERVAL '20 seconds', 'o' || i, now(), 'd0', '{}'
FROM generate_series(1, 43200) AS i
"""


async def test_events_of_other_streams_are_passed_over_in_the_index(
    reader: Reader, database_dsn: str
) -> None:
    owner = await open_connection(
        ApiSettings(database_dsn=database_dsn), Duty.MAINTENANCE, command_seconds=60
    )
    await owner.execute(OTHERS, NOW // SECOND)
    await owner.execute("ANALYZE events")
    for days in range(1, 11):
        await stream_names.note_day(owner, moment(NOW - days * DAY))
    await owner.execute("UPDATE store_state SET stream_names_until = $1", moment(NOW - DAY))
    await owner.close(timeout=5)
    question = asked(("d0",), condition=Equals(Tag(("n",)), Decimal(13)))
    async with reader.snapshot() as connection:
        names = await known_names(connection, question)
    assert names == Names(NOW - DAY, ("boot", "click"))
    unknown, known = [await explained(reader, stream_page(question, found)) for found in (None, names)]
    assert "events_device" in known
    assert "Seq Scan" not in known
    # Two of three events are of another stream; of the last day they are fetched in either case.
    assert rows_removed(unknown) > 43_200
    assert rows_removed(known) < 43_200 / 2 + 2 * 4320
    # The newest few are found without looking into the days before.
    text = await explained(reader, stream_page(asked(("d0",), limit=10), names))
    assert text.count("never executed") >= 8
    assert buffers(text) < 60


def rows_removed(text: str) -> int:
    """Rows that were fetched and thrown away."""
    return sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", text)))


async def test_counting_stops_at_the_bound(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("query.streams.MAX_EVENTS", 10)
    question = asked(("d0", "d1", "d2"), limit=10_000)
    async with reader.snapshot() as connection:
        (row,) = await fetch(connection, stream_count(question))
    assert row["found"] == 11
    text = await explained(reader, stream_count(question))
    assert buffers(text) < 50
