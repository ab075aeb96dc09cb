"""Admission: moments, data, ids, and where an event goes."""

from __future__ import annotations

import uuid

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.gateway.admission import Admitted, Terms, admit_events, admit_node_reports, retention_floor
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.dialects.reading import JSON
from schema.records import STAMPED, EventEncoder, encode_event, event_id, event_identity, postgres_moment
from schema.settings import EventLimits
from schema.topics import route

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000
BUCKET = bytes(range(12))
PARTITIONS = 8
LIMITS = EventLimits()


def admit(events: object, *, raw_floor_at: int = 0, retention_days: int | None = None) -> Admitted:
    terms = Terms(NOW, NOW + DAY, raw_floor_at, retention_floor(NOW, retention_days), 8)
    return admit_events(EVENTS.read(orjson.dumps(events), JSON, LIMITS), terms, BUCKET, PARTITIONS)


def tails(admitted: Admitted) -> list[bytes]:
    return [tail for part in admitted.parts for tail in part.tails]


def moment_of(observed_at: object) -> int:
    [tail] = tails(admit({"name": "a", "observed_at": observed_at}))
    return event_identity(tail)[0]


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000),
        ("2026-01-31T13:00:00.000001+01:00", 1_769_860_800_000_001),
        (1_769_860_800, 1_769_860_800_000_000),
        (1_769_860_800.5, 1_769_860_800_500_000),
        (1_769_860_800_123, 1_769_860_800_123_000),
        (10**11 - 1, None),
        (10**11, 100_000_000_000_000),
        (0, 0),
    ],
)
def test_moments_in_every_form(written: object, microseconds: int | None) -> None:
    if microseconds is None:
        [rejection] = admit({"name": "a", "observed_at": written}).rejections
        assert "future" in rejection.error
    else:
        assert moment_of(written) == postgres_moment(microseconds)


@pytest.mark.parametrize(
    "written",
    ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "0001-01-01T00:00:00Z", -1, 1e30, 10**40],
)
def test_what_is_no_moment_is_refused_by_name(written: object) -> None:
    body = orjson.dumps({"name": "a"})[:-1] + b',"observed_at":' + str(written).encode() + b"}"
    if isinstance(written, str):
        body = orjson.dumps({"name": "a", "observed_at": written})
    terms = Terms(NOW, NOW + DAY, 0, 0, 8)
    admitted = admit_events(EVENTS.read(body, JSON, LIMITS), terms, BUCKET, PARTITIONS)
    assert admitted.count == 0
    assert admitted.rejections[0].error.startswith("observed_at: ")


def test_the_edges_of_time_are_inside() -> None:
    edge = (NOW + DAY) / 1e6
    assert admit({"name": "a", "observed_at": edge}).count == 1
    assert admit({"name": "a", "observed_at": edge + 0.001}).count == 0
    floor = NOW - 5 * DAY
    assert admit({"name": "a", "observed_at": floor / 1e6}, raw_floor_at=floor).count == 1
    late = admit({"name": "a", "observed_at": floor / 1e6 - 0.001}, raw_floor_at=floor)
    assert "stored events begin" in late.rejections[0].error
    old = admit([{"name": "a", "observed_at": (NOW - 3 * DAY) / 1e6 - 1}, {"name": "b"}], retention_days=3)
    assert [(one.index, "retention" in one.error) for one in old.rejections] == [(0, True)]
    assert old.count == 1


def test_payloads_that_are_no_objects_are_wrapped() -> None:
    for data, stored in (
        (5, b'{"value": 5}'),
        ([1], b'{"value": [1]}'),
        (None, b'{"value": null}'),
        ({}, b"{}"),
    ):
        [tail] = tails(admit({"name": "a", "data": data}))
        assert tail.endswith(b"\x01" + stored)
    [tail] = tails(admit({"name": "a"}))
    assert tail.endswith(b"\x01{}")


def test_faulty_data_costs_only_its_event() -> None:
    deep: object = 1
    for _ in range(9):
        deep = [deep]
    admitted = admit([{"name": "a", "data": {"x": "\x00"}}, {"name": "b", "data": deep}, {"name": "c"}])
    assert [(one.index, one.error.split(":")[0]) for one in admitted.rejections] == [(0, "data"), (1, "data")]
    assert admitted.count == 1


def test_ids_are_made_as_ascending_uuids_of_version_7() -> None:
    made = [event_id(tail).decode() for tail in tails(admit([{"name": "a"}] * 50))]
    assert len(set(made)) == 50
    assert made == sorted(made)
    assert {uuid.UUID(one).version for one in made} == {7}
    others = [event_id(tail).decode() for tail in tails(admit([{"name": "a"}] * 50))]
    assert not set(made) & set(others)


def test_where_events_go() -> None:
    stamped = admit({"name": "a", "id": "x", "device": "d"}).parts[0]
    assert (stamped.partition, stamped.flags) == (route(BUCKET, b"x", PARTITIONS), STAMPED)
    moment = NOW / 1e6
    for event, source in (
        ({"device": "d", "server": "s", "app": "p"}, b"d"),
        ({"server": "s", "app": "p"}, b"s"),
        ({"app": "p"}, b"p"),
        ({}, b""),
    ):
        part = admit({"name": "a", "id": "x", "observed_at": moment, **event}).parts[0]
        assert (part.partition, part.flags) == (route(BUCKET, source, PARTITIONS), 0)
    together = admit([{"name": "a", "device": f"d{number}"} for number in range(100)])
    assert {part.partition for part in together.parts} == {route(BUCKET, b"d0", PARTITIONS)}
    scattered = admit(
        [{"name": "a", "device": f"d{n}", "id": f"{n}", "observed_at": moment} for n in range(100)]
    )
    assert {part.partition for part in scattered.parts} == set(range(PARTITIONS))


@given(
    st.integers(0, 2**53),
    st.lists(st.tuples(st.integers(0, 2**57), st.text(max_size=9), st.text(max_size=3)), max_size=5),
)
def test_the_encoder_of_a_request_writes_what_the_layout_says(
    received_at: int, events: list[tuple[int, str, str]]
) -> None:
    encoder = EventEncoder(received_at)
    for moment, identifier, device in events:
        expected = encode_event(moment, identifier, received_at, device, b"{}")
        assert encoder.tail(moment, identifier.encode(), device, b"{}") == expected


def test_what_is_held_is_counted() -> None:
    admitted = admit([{"name": "a", "data": {"x": "y" * 1000}}] * 10)
    assert admitted.tails_bytes == sum(len(tail) for tail in tails(admitted))
    assert admitted.held_bytes > 10_000


def test_node_reports_go_by_host() -> None:
    body = orjson.dumps([{"host": "h"}, {"host": "h", "observed_at": 5}, {"host": "g", "observed_at": "x"}])
    terms = Terms(NOW, NOW + DAY, 10, 0, 8)
    admitted = admit_node_reports(NODE_REPORTS.read(body, JSON, LIMITS), terms, BUCKET, PARTITIONS)
    assert admitted.count == 2
    assert [part.partition for part in admitted.parts] == [route(BUCKET, b"h", PARTITIONS)]
    assert [one.index for one in admitted.rejections] == [2]
