"""The database answers from the indexes made for it, and leaves out chunks that a range does not touch."""

import re
from collections.abc import AsyncIterator

import pytest

from ingest.writer import refresh
from query.edges import Walk, walk_statement
from query.execute import Reader, fetch, hours_around, planned
from query.interval import DAY, SECOND, Interval, Unit
from query.plan import HOUR
from query.request import Filters, Page, Range, Scope, moment
from query.sql import counts_by_app, counts_by_period, events_page
from schema.connections import Connection
from schema.tables import EVENT_COUNTS_DAY, EVENT_COUNTS_HOUR, EVENT_COUNTS_MINUTE
from tests.support.explained import explained, reader_of

NOW = 1_790_000_000 * SECOND // DAY * DAY
ROWS = """
INSERT INTO events
SELECT 1 + i % 5, (ARRAY['boot', 'click'])[1 + i % 2], 'events', (ARRAY['shop', 'till'])[1 + i % 2], 's1',
    to_timestamp($1) - i * INTERVAL '12 seconds', i::text, now(),
    CASE WHEN i % 3 = 0 THEN 'd' || i / 30 % 4 ELSE '' END, '{}'
FROM generate_series(1, 30000) AS i
"""


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    async def fill(owner: Connection) -> None:
        await owner.execute(ROWS, NOW // SECOND)
        if await owner.fetchval("SELECT edition FROM store_state") == "community":
            for rung in (EVENT_COUNTS_HOUR, EVENT_COUNTS_DAY, EVENT_COUNTS_MINUTE):
                await refresh._refresh(owner, rung, moment(NOW - 6 * DAY), moment(NOW))
        await owner.execute("ANALYZE events")

    async with reader_of(database_dsn, fill) as made:
        yield made


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters("boot"), "events_name"),
        (Filters("boot", "shop"), "events_name"),
        (Filters("boot", device="d3"), "events_device"),
    ],
)
async def test_a_page_walks_an_index_from_the_newest_event(
    reader: Reader, filters: Filters, index: str
) -> None:
    text = await explained(reader, events_page(Page(Scope((1,)), Range(), filters, 20)))
    assert index in text
    assert "Seq Scan" not in text
    if filters.device is None:
        # Chunks in order of time, the older ones never begun.
        assert "never executed" in text
        assert "Incremental Sort" in text


async def test_a_page_within_a_range_reads_its_chunks_only(reader: Reader) -> None:
    whole = await explained(reader, events_page(Page(Scope((1,)), Range(), Filters("boot"), 20)))
    hour = Range(NOW - 30 * HOUR, NOW - 29 * HOUR)
    text = await explained(reader, events_page(Page(Scope((1,)), hour, Filters("boot"), 20)))
    assert len(chunks(text)) == 1
    assert len(chunks(whole)) > 3


def chunks(text: str) -> set[str]:
    return set(re.findall(r" on (_hyper_\w+_chunk)", text))


async def test_raw_edges_of_a_histogram_come_from_the_index_of_names(reader: Reader) -> None:
    asked, scope = Range(NOW - 2 * HOUR - 7 * SECOND, NOW - 90 * SECOND), Scope((1,))
    async with reader.snapshot() as connection:
        way = await planned(connection, asked, Interval(Unit.MINUTE), ["name"])
    assert [piece.rung is None for piece in way.slices] == [True, False, True]
    text = await explained(
        reader, counts_by_period(scope, way, Interval(Unit.MINUTE), Filters("boot"), hours_around(asked))
    )
    assert "events_name" in text
    assert "Seq Scan on _hyper_1_" not in text


async def test_hours_are_read_from_what_is_built_and_not_counted_anew(reader: Reader) -> None:
    asked = Range(NOW - 46 * HOUR - 7 * SECOND, NOW - 90 * SECOND)
    async with reader.snapshot() as connection:
        way = await planned(connection, asked, Interval(Unit.HOUR), ["name"])
    rungs = [piece.rung for piece in way.slices]
    assert rungs == [None, EVENT_COUNTS_HOUR, EVENT_COUNTS_MINUTE, None]
    text = await explained(
        reader, counts_by_period(Scope((1,)), way, Interval(Unit.HOUR), Filters("boot"), hours_around(asked))
    )
    # The part of a real-time aggregate that counts raw rows is not even planned.
    assert "time_bucket" not in text
    assert len(re.findall(r" on _hyper_1_\w+_chunk", text)) == 2


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("rows", [64, 4096])
async def test_servers_of_an_hour_are_met_in_one_walk_of_the_index_of_names(
    reader: Reader, rows: int, is_last: bool
) -> None:
    walks = [
        Walk(name, moment(NOW - hours * HOUR), [f"s{n}" for n in range(60)])
        for name in ("boot", "click")
        for hours in (2, 3)
    ]
    text = await explained(reader, walk_statement(Scope((1,)), walks, rows, is_last=is_last))
    assert "events_name" in text
    assert "Seq Scan" not in text
    assert len(chunks(text)) == 1
    # Of one bucket: 30 events of each name an hour.
    scans = re.findall(r" on _hyper_\w+_chunk \(.*?rows=(\d+)\S* loops=(\d+)", text)
    read = [int(rows) * int(loops) for rows, loops in scans]
    assert 0 < sum(read) <= 4 * 30


async def test_names_over_all_of_time_ask_the_day_rung_alone(reader: Reader) -> None:
    async with reader.snapshot() as connection:
        way = await planned(connection, Range(), None, ["app", "name"])
        assert way.slices[0].rung is EVENT_COUNTS_DAY
        # What a real-time aggregate has not materialized yet.
        assert all(piece.start >= NOW for piece in way.slices[1:])
        rows = await fetch(connection, counts_by_app(Scope((1,)), way, Filters(), 10))
    # Rows of this test went past the writer, so only a real-time aggregate counts them.
    assert sum(sum(row["ys"]) for row in rows) in (0, 6000)
