"""Pages that are looked up by counts are those of the whole list: deep ones, rare ones, late rows in them."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from query.events import batches
from query.execute import Reader, open_reader
from query.interval import DAY, SECOND
from query.journal import Occurrences, occurrences
from query.plan import HOUR
from query.request import Filters, Page, Range, Scope
from schema.settings import ApiSettings
from tests.support.stored import Occurrence, Stored

ROWS = 40


@pytest.fixture
async def reader(database_dsn: str) -> AsyncIterator[Reader]:
    made = await open_reader(ApiSettings(database_dsn=database_dsn))
    yield made
    await made.close(5)


async def filled(stored: Stored, dsn: str, now: int) -> tuple[Scope, list[Occurrence]]:
    """Events of eight days; the last third comes after maintenance, mostly into hours that were counted."""
    draw = random.Random(7)
    events = [
        Occurrence(
            now - draw.randrange(8 * 24) * HOUR - draw.randrange(HOUR),
            f"{number:03d}",
            draw.choice(["boot", "click"]),
            "rare" if number % 25 == 0 else "shop",
            "s1",
            draw.choice(["d1", "d1", "d2"]),
        )
        for number in range(360)
    ]
    with administration(dsn) as connection:
        owner = create_user(connection, "owner@example.com")
        bucket = create_bucket(connection, create_workspace(connection, "ours"), "first", owner_id=owner)
        row = connection.execute("SELECT bucket_key FROM buckets").fetchone()
    assert row is not None
    await stored.write(bucket, events[:240])
    await stored.maintain()
    await stored.write(bucket, events[240:])
    return Scope((int(str(row[0])),)), events


async def test_every_page_of_a_list(stored: Stored, reader: Reader, database_dsn: str) -> None:
    now = time.time_ns() // 1000
    scope, events = await filled(stored, database_dsn, now)
    for filters in (Filters("boot"), Filters("boot", "rare"), Filters("boot", "shop", "s1"), Filters("none")):
        for span in (Range(), Range(now - 5 * DAY - 7, now - 9 * HOUR - 3)):
            listed = sorted(
                (
                    event
                    for event in events
                    if span.start <= event.observed_at < span.end
                    and all(getattr(event, label) == value for label, value in filters.wanted.items())
                ),
                key=lambda event: (-event.observed_at, event.id),
            )
            for offset in range(0, len(listed) + ROWS, ROWS - 3):
                page = Page(scope, span, filters, ROWS, offset, asked_at=now)
                rows = [row["id"] async for batch in batches(reader, page) for row in batch]
                assert rows == [event.id for event in listed[offset : offset + ROWS]], (filters, span, offset)


async def test_every_page_of_a_journal(
    stored: Stored, reader: Reader, database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.journal.PAGE_ROWS", ROWS)
    now = time.time_ns() // 1000
    scope, events = await filled(stored, database_dsn, now)
    scopes = (Scope(scope.bucket_keys, now - 6 * DAY - 5), Scope((scope.bucket_keys[0] + 1,)))
    for span in (Range(), Range(now - 4 * DAY - 7, now - 3 * HOUR)):
        seen = [
            event.observed_at
            for event in events
            if (event.device, event.name) == ("d1", "boot")
            and max(span.start, scopes[0].visible_from) <= event.observed_at < span.end
        ]
        for older_first in (True, False):
            listed = [at // SECOND for at in sorted(seen, reverse=not older_first)]
            for page in range(len(listed) // ROWS + 2):
                asked = Occurrences(scopes, "d1", "boot", span, older_first, page)
                found = await reader.in_snapshot(partial(occurrences, asked=asked, interval=None))
                assert found is not None
                assert [at for at, _ in found.rows] == listed[page * ROWS : (page + 1) * ROWS]
