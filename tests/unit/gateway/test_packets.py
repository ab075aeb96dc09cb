"""What an agent of PM2 sends, and what becomes of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.gateway.dialects.events import Event
from ingest.gateway.dialects.nodes import NodeReport
from ingest.gateway.pm2.packets import MAX_CHANGES, Packets
from schema.errors import Invalid
from tests.support.bounds import AT_AND_ABOVE

NOW = 1_800_000_000.5


def packet(channel: str, payload: Any) -> bytes:
    return orjson.dumps({"payload": payload, "channel": channel})


def human_event(**more: Any) -> bytes:
    process = {"pm_id": 0, "name": "shop", "rev": None, "server": "s1"}
    payload = {"at": 1_799_999_999_123, "name": "sale", "data": {"x": 1}, "process": process, **more}
    return packet("human:event", payload)


def status(**server: Any) -> bytes:
    known = {"hostname": "h", "uptime": 5.5, "pm2_version": "6.0.8", "node_version": "v20", **server}
    payload = {"data": {"process": [{"pid": 1}], "server": known}, "server_name": "s1"}
    return packet("status", {**payload, "internal_ip": "10.0.0.7"})


def test_what_an_application_emits_is_an_event() -> None:
    event = Packets("other").read(human_event(), NOW, 0)
    assert isinstance(event, Event)
    assert (event.name, event.app, event.server, event.observed_at) == (
        "sale",
        "shop",
        "s1",
        1_799_999_999_123,
    )
    assert bytes(event.data) == b'{"x":1}'
    assert event.id is not None
    other = Packets("other").read(human_event(process=None, at=None), NOW, 0)
    assert isinstance(other, Event)
    assert (other.app, other.server, other.observed_at) == ("", "other", NOW)
    assert other.id not in (None, event.id)


def test_a_status_is_sampled() -> None:
    packets = Packets("s1")
    reports = [packets.read(status(), NOW + second, 100 + second) for second in range(31)]
    assert [second for second, report in enumerate(reports) if report is not None] == [0, 10, 20, 30]
    report = reports[10]
    assert isinstance(report, NodeReport)
    assert (report.host, report.ip, report.version) == ("s1", "10.0.0.7", "6.0.8")
    assert (report.status, report.latency_ms, report.interval_seconds) == ("ONLINE", None, 10)
    assert report.observed_at == NOW + 10


def test_differences_are_signs_of_life() -> None:
    packets = Packets("s1")
    packets.read(status(), NOW, 0)
    report = packets.read(packet("status:patch", [{"op": "replace"}]), NOW + 11, 11)
    assert isinstance(report, NodeReport)
    assert (report.host, report.version) == ("s1", "6.0.8")


def test_another_address_is_a_difference_that_counts() -> None:
    packets = Packets("s1")
    packets.read(status(), NOW, 0)
    changes = [
        {"op": "replace", "path": "/data/process/0/memory", "value": [1]},
        {"op": "replace", "path": "/internal_ip", "value": "10.0.0.8"},
        {"op": "remove", "path": "/data/process/1"},
    ]
    report = packets.read(packet("status:patch", changes), NOW + 11, 11)
    assert isinstance(report, NodeReport)
    assert (report.host, report.ip, report.version) == ("s1", "10.0.0.8", "6.0.8")


@pytest.mark.parametrize("channel", ["logs", "process:exception", "axm:trace", "human:events", ""])
def test_other_channels_are_left_aside(channel: str) -> None:
    assert Packets("s1").read(packet(channel, {"at": "?"}), NOW, 0) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"5",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 5000,
        packet("human:event", 5),
        packet("status", []),
        packet("status:patch", {}),
        packet("status:patch", [{"path": "/internal_ip", "value": 5}]),
        human_event(name=""),
        human_event(name=None),
        human_event(name="n\0"),
        human_event(at="yesterday"),
        human_event(process={"name": "x" * 201}),
        human_event().replace(b'"x"', b'"\xff"'),
        status(pm2_version="x" * 101),
    ],
)
def test_what_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        Packets("s1").read(text, NOW, 0)


@AT_AND_ABOVE
def test_changes_are_counted(beyond: int) -> None:
    """Whether they are few enough to be decoded first, or so many that they are counted before."""
    changed = {"op": "replace", "path": "/internal_ip", "value": "10.0.0.8"}
    for other in (b"{}", orjson.dumps({"op": "replace", "path": "/data/process/0/cpu", "value": 3})):
        packets = Packets("s1")
        text = b",".join([orjson.dumps(changed), *[other] * (MAX_CHANGES - 1 + beyond)])
        body = b'{"channel":"status:patch","payload":[%b]}' % text
        if beyond:
            with pytest.raises(Invalid):
                packets.read(body, NOW, 0)
        else:
            report = packets.read(body, NOW, 0)
            assert isinstance(report, NodeReport)
            assert report.ip == "10.0.0.8"
