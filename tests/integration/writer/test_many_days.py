"""Years of history in one request: more chunks than a transaction can make, and no partition is held up."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.writer.test_process import metric, start, stored
from tests.support import oracle
from tests.support.processes import Weir
from tests.support.records import DAY, Topic, event, events, now, record, report, reports

_CHUNKS = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'events'"


def history(days: int) -> list[bytes]:
    """An event a day."""
    today = now() // DAY * DAY
    return [event(str(n), today - n * DAY, device="d1") for n in range(days)]


@pytest.mark.timeout(120)
async def test_a_record_of_many_days_is_stored_and_holds_nothing_up(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    """In a time in which one transaction could not make that many chunks."""
    bucket_id = weir.credentials.bucket_id
    days = 1_000
    await topic.send(
        record(events(bucket_id, *history(days), event("bad", data=b"{")), reports(bucket_id, report()))
    )
    await topic.send(record(events(bucket_id, event("behind"))))
    writer = await start(weir, WEIR_TRANSACTION_SECONDS="1")
    await stored(weir, topic, 60)
    sent = {str(n) for n in range(days)} | {"behind"}
    assert oracle.check(database_dsn, bucket_id, sent, set()) == days + 1
    assert metric(writer, "weir_dead_letters_total") == 1
    with psycopg.connect(database_dsn) as connection:
        assert (connection.execute(_CHUNKS).fetchone() or (0,))[0] >= days
        assert connection.execute("SELECT count(*) FROM node_reports").fetchone() == (1,)
