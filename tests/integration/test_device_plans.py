"""Questions about devices and nodes read what their indexes point at, however many buckets are in scope."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from query.execute import Reader, fetch, knowledge
from query.interval import DAY, SECOND, Interval, Unit
from query.journal import Occurrences, counts, holders, times, within
from query.plan import Plan, Slice, plan
from query.request import Range, Scope, moment
from query.uptime import statement
from schema.connections import Connection
from schema.tables import DEVICE_COUNTS_DAY
from tests.support.explained import explained, reader_of

NOW = 1_790_000_000 * SECOND // DAY * DAY
BUCKET = "a" * 24
# A caller with ten thousand buckets; the rows are spread over a thousand of them.
MANY = Scope(tuple(range(1, 10_001)))
ONE = Scope((7,))
DEVICE = "d7"
TEN_DAYS = Range(NOW - 10 * DAY, NOW)
EVENTS = """
INSERT INTO events
SELECT 1 + i % 1000, (ARRAY['boot', 'click'])[1 + i / 1000 % 2], 'events', '', '',
    to_timestamp($1) - i * INTERVAL '6 seconds', i::text, now(), 'd' || i % 1000 + 1, '{}'
FROM generate_series(1, 60000) AS i
"""
COUNTS = """
INSERT INTO device_counts_day (bucket_key, period, device, name, event_count)
SELECT bucket_key, date_trunc('day', observed_at, 'UTC'), device, name, count(*) FROM events
GROUP BY 1, 2, 3, 4
"""
REPORTS = """
INSERT INTO node_reports (bucket_id, observed_at, host, ip, received_at, version, status, interval_seconds)
SELECT $2, to_timestamp($1) - i * INTERVAL '1 minute', 'host ' || node, '', now(), '', 'ONLINE', 60
FROM generate_series(1, 14 * 1440) AS i, generate_series(1, 5) AS node
"""


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    async def fill(owner: Connection) -> None:
        await owner.execute(EVENTS, NOW // SECOND)
        if await owner.fetchval("SELECT edition FROM store_state") == "apache":
            await owner.execute(COUNTS)
        else:
            refreshing = "CALL refresh_continuous_aggregate('device_counts_day', NULL, to_timestamp($1))"
            await owner.execute(refreshing, NOW // SECOND)
        await owner.execute(REPORTS, NOW // SECOND, BUCKET)
        await owner.execute("ANALYZE events; ANALYZE device_counts_day")
        # As autovacuum leaves it: which pages need no look at the table.
        await owner.execute("VACUUM (ANALYZE) node_reports")

    async with reader_of(database_dsn, fill) as made:
        yield made


def rows_read(text: str) -> int:
    """Rows that scans of chunks gave back or threw away."""
    read = [
        round(float(rows)) * int(loops)
        for rows, loops in re.findall(
            r"(?<!Bitmap Index )Scan.* on _hyper_\S+.*rows=([\d.]+) loops=(\d+)", text
        )
    ]
    removed = [int(count) for count in re.findall(r"Rows Removed by Filter: (\d+)", text)]
    return sum(read) + sum(removed)


def asked(scope: Scope, span: Range = TEN_DAYS) -> Occurrences:
    return Occurrences((scope,), DEVICE, "boot", span)


@pytest.mark.parametrize("scope", [ONE, MANY], ids=["one bucket", "ten thousand buckets"])
async def test_which_buckets_hold_a_device_is_read_from_the_indexes(reader: Reader, scope: Scope) -> None:
    way = Plan((Slice(DEVICE_COUNTS_DAY, 0, NOW - DAY), Slice(None, NOW - DAY, NOW + DAY)))
    text = await explained(reader, holders(scope, way, asked(scope).filters))
    assert "Seq Scan on _hyper" not in text
    assert "events_device" in text
    assert "device_counts_day_key" in text
    assert 0 < rows_read(text) < 50
    async with reader.snapshot() as connection:
        rows = await fetch(connection, holders(scope, way, asked(scope).filters))
    assert {row["bucket_key"] for row in rows} == {7}


async def test_a_journal_walks_the_index_of_devices_in_order(reader: Reader) -> None:
    way = Plan((Slice(None, NOW - 10 * DAY, NOW),))
    text = await explained(reader, times(asked(ONE), [(ONE, way)]))
    assert "events_device" in text
    assert "Seq Scan" not in text
    assert 30 <= rows_read(text) <= 60
    async with reader.snapshot() as connection:
        rows = await fetch(connection, times(asked(ONE), [(ONE, way)]))
    assert len(rows) == 30


async def test_of_days_far_apart_the_chunks_between_are_not_even_planned(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.journal.NEAR_DAYS", 1)
    ways = [(ONE, Plan((Slice(None, NOW - 10 * DAY, NOW),)))]
    first, last = Range(NOW - 4 * DAY, NOW - 3 * DAY), Range(NOW - DAY, NOW)
    ways = within(ways, [last, first])
    text = await explained(reader, times(asked(ONE), ways))
    assert len(set(re.findall(r" on (_hyper_1_\w+_chunk)", text))) == 2
    async with reader.snapshot() as connection:
        found = [row["at"] for row in await fetch(connection, times(asked(ONE), ways))]
        everything = await fetch(
            connection, times(asked(ONE), [(ONE, Plan((Slice(None, NOW - 10 * DAY, NOW),)))])
        )
    assert found == [
        row["at"]
        for row in everything
        if any(day.start <= row["at"] * SECOND < day.end for day in (first, last))
    ]
    assert len(found) > 10


async def test_days_are_counted_from_the_device_rung(reader: Reader) -> None:
    span = Range(NOW - 3 * DAY, NOW - DAY)
    async with reader.snapshot() as connection:
        known = await knowledge(connection, span)
    interval = Interval(Unit.DAY)
    way = plan(span, interval, asked(ONE).filters.dimensions, known)
    if known.complete_until.get(DEVICE_COUNTS_DAY.table, 0) < span.end:
        # In the Apache edition nobody has built these days: what a built one would be read from.
        way = Plan((Slice(DEVICE_COUNTS_DAY, span.start, span.end),))
    text = await explained(reader, counts(asked(ONE, span), [(ONE, way)], interval))
    assert "device_counts_day_key" in text or "events_device" in text
    assert "Seq Scan on _hyper" not in text
    assert 0 < rows_read(text) < 60


async def test_statistics_of_a_day_read_that_day_and_one_report_more(reader: Reader) -> None:
    """Of five nodes with fourteen days of reports each, one day's are read, and those that it began with."""
    text = await explained(reader, statement(BUCKET, NOW - 8 * DAY, NOW))
    assert "Seq Scan on _hyper" not in text
    assert 5 * 1440 <= rows_read(text) < 5 * 1440 + 100
    # Nodes' reports lie by turns: a look at the table for each would be a page each, where nodes are many.
    scans = [line for line in text.splitlines() if "rows=1440 loops=5" in line and "on _hyper" in line]
    assert scans
    assert all("Index Only Scan" in scan for scan in scans), text
    async with reader.snapshot() as connection:
        rows = await fetch(connection, statement(BUCKET, NOW - 8 * DAY, NOW))
    assert [(row["uptime_percent"], row["last_updated_at"]) for row in rows] == [
        (100.0, moment(NOW - 7 * DAY - 60 * SECOND))
    ] * 5
