"""A workload's three forms are the same events: what is compared is the way, never the content."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from ingest.gateway.dialects.events import EVENTS
from schema.records import decode_labels, decode_record, event_id, event_identity, postgres_moment
from schema.settings import EventLimits
from tests.bench.generator import Order, decoded_order, encoded
from tests.bench.watching import Watch
from tests.bench.workload import Bucket, Shape, Workload, made

BUCKETS = [Bucket("0" * 23 + str(n), n, f"key-{n}") for n in range(1, 4)]
SHAPE = replace(Shape(), events_of_request=50, templates=6)
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ids_of_records(workload: Workload, number: int) -> Counter[str]:
    return Counter(
        event_id(tail).decode()
        for _, value in workload.records(number)
        for segment in decode_record(value).segments
        for tail in segment.tails
    )


def ids_of_body(workload: Workload, number: int) -> Counter[str]:
    return Counter(event["id"] for event in orjson.loads(workload.body(number)))


def test_bodies_records_and_rows_hold_the_same_events() -> None:
    workload = made(SHAPE, BUCKETS, 8, NOW)
    for number in (0, 5, 17, 1 << 30):
        ids = ids_of_body(workload, number)
        assert ids == ids_of_records(workload, number)
        assert len(ids) == 50
        rows = workload.rows(number)
        assert all(rows.count(event.encode()) == 1 for event in ids)


def moment(observed_at: str) -> int:
    return postgres_moment((datetime.fromisoformat(observed_at) - EPOCH) // timedelta(microseconds=1))


def moments_of_records(workload: Workload, number: int) -> dict[str, int]:
    return {
        event_id(tail).decode(): event_identity(tail)[0]
        for _, value in workload.records(number)
        for segment in decode_record(value).segments
        for tail in segment.tails
    }


def test_moments_are_a_requests_own_and_the_same_in_every_form() -> None:
    workload = made(replace(SHAPE, repeats=0.1), BUCKETS, 8, NOW)
    seen: Counter[int] = Counter()
    for number in (6, 7, 12, 1 << 30):
        events = orjson.loads(workload.body(number))
        moments = {event["id"]: moment(event["observed_at"]) for event in events}
        assert moments == moments_of_records(workload, number)
        rows = workload.rows(number)
        for event in events:
            at = moments[event["id"]].to_bytes(8, "big", signed=True)
            assert at + (36).to_bytes(4, "big") + event["id"].encode() in rows
        seen.update({at % 1_000_000 for at in moments.values()})
    # A request's own microseconds, and those of the request that it repeats some events of.
    assert len(seen) == 7


def test_requests_of_the_past_lie_a_second_apart_and_all_others_where_they_were() -> None:
    workload = made(replace(SHAPE, repeats=0.1), BUCKETS, 8, NOW)
    moved = replace(workload, past=range(100, 110))
    assert moments_of_records(moved, 99) == moments_of_records(workload, 99)
    for number, seconds in ((109, 1), (108, 2), (106, 4)):
        before = moments_of_records(workload, number)
        after = moments_of_records(moved, number)
        assert before.keys() == after.keys()
        own = {at - after[name] for name, at in before.items() if after[name] != at}
        assert seconds * 1_000_000 in own
        for name, at in after.items():
            assert at.to_bytes(8, "big", signed=True) + (36).to_bytes(4, "big") + name.encode() in moved.rows(
                number
            )
    repeated = moments_of_records(moved, 109).keys() & moments_of_records(moved, 103).keys()
    assert len(repeated) == 5
    assert all(
        moments_of_records(moved, 109)[name] == moments_of_records(moved, 103)[name] for name in repeated
    )


def test_no_two_requests_share_an_event() -> None:
    workload = made(SHAPE, BUCKETS, 8, NOW)
    everything = sum((ids_of_body(workload, number) for number in range(20)), Counter[str]())
    assert set(everything.values()) == {1}
    assert workload.new_events(range(20)) == workload.events(range(20)) == 1000


def test_the_gateway_takes_every_body_as_it_is() -> None:
    workload = made(SHAPE, BUCKETS, 8, NOW)
    batch = EVENTS.read(workload.body(3), "application/json", EventLimits())
    assert not batch.rejections
    assert len(batch.entries) == 50
    labels = {(entry.name, entry.app, entry.server) for entry in batch.entries}
    records = [decode_record(value) for _, value in workload.records(3)]
    assert labels == {
        (name, app, server)
        for record in records
        for segment in record.segments
        for name, _, app, server in [decode_labels(segment.labels)]
    }


def test_repeats_are_whole_events_of_an_earlier_request() -> None:
    workload = made(replace(SHAPE, repeats=0.1), BUCKETS, 8, NOW)
    numbers = range(18)
    events = [
        (event["id"], event["observed_at"], orjson.dumps(event))
        for number in numbers
        for event in orjson.loads(workload.body(number))
    ]
    assert len(events) == workload.events(numbers) == 900
    # The first turn of the templates repeats what was never sent.
    assert len(set(events)) == workload.new_events(numbers) == 900 - 12 * 5
    assert workload.new_events(range(6, 12), sent_before=range(6)) == 300 - 30


def test_what_is_repeated_later_was_observed_when_it_first_came() -> None:
    """The second turn's events are a minute younger than those of the first one that some of them repeat."""
    shape = replace(SHAPE, repeats=0.1)
    first = made(shape, BUCKETS, 8, NOW, repeat_distance=96)
    second = made(shape, BUCKETS, 8, NOW + timedelta(seconds=60), repeat_distance=96, earlier=NOW)
    for number in range(6):
        before, after = moments_of_records(first, number), moments_of_records(second, number + 96)
        repeated = before.keys() & after.keys()
        assert len(repeated) == 5
        assert all(before[name] == after[name] for name in repeated)
        assert max(before.values()) < max(after.values())
        in_body = {
            event["id"]: moment(event["observed_at"]) for event in orjson.loads(second.body(number + 96))
        }
        assert in_body == after


def test_an_order_survives_its_way_to_the_generator() -> None:
    order = Order("http://127.0.0.1:1", SHAPE, BUCKETS, 8, NOW, first=7, count=3, connections=2, rate=1.5)
    assert decoded_order(encoded(order)) == order


def test_the_same_order_makes_the_same_events() -> None:
    one, other = made(SHAPE, BUCKETS, 8, NOW), made(SHAPE, BUCKETS, 8, NOW)
    assert one.body(4) == other.body(4)
    assert one.body(4) != made(SHAPE, BUCKETS, 8, NOW + timedelta(seconds=1)).body(4)


@pytest.mark.parametrize(
    ("ends", "visible_at"),
    [({0: 0}, 0.0), ({0: 3}, 10.0), ({0: 4}, 11.0), ({0: 3, 1: 2}, 12.0), ({0: 9}, None), ({5: 1}, None)],
)
def test_a_watch_knows_when_everything_was_first_seen(ends: dict[int, int], visible_at: float | None) -> None:
    watch = Watch()
    watch.add(10.0, {0: 3, 1: 1})
    watch.add(11.0, {0: 8, 1: 1})
    watch.add(12.0, {0: 8, 1: 2})
    assert watch.all_visible_at(ends) == visible_at
