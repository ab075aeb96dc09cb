"""Bytes to begin a campaign with: one honest input of each kind, and the words of each language."""

from __future__ import annotations

import gzip
import zlib

import orjson
import zstandard

from tests.support.records import event, events, record, report, reports

_EVENT = {
    "name": "boot",
    "id": "a1",
    "observed_at": "2026-01-31T12:00:00Z",
    "stream": "events",
    "device": "d1",
    "app": "shop",
    "server": "s1",
    "data": {"n": [1, -2.5e3, None, True], "text": 'ä\\"\n', "deep": {"a": {"b": {}}}},
}
_CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "boot",
    "source": "/shop",
    "id": "a1",
    "subject": "d1",
    "time": "2026-01-31T12:00:00Z",
    "datacontenttype": "application/json",
    "traceparent": "00-ab",
    "data": {"n": 1},
}
_REPORT = {
    "host": "h",
    "ip": "10.0.0.1",
    "version": "1",
    "status": "ONLINE",
    "latency_ms": 1.5,
    "observed_at": 1_780_000_000,
    "interval_seconds": 60,
}
_HEADERS = (
    b"ce-specversion: 1.0\nce-type: boot\nce-source: /a\nce-id: %C3%A4\ncontent-type: text/plain\n\nbody"
)
_PACKET = {
    "channel": "human:event",
    "payload": {
        "name": "n",
        "at": 1_780_000_000_000,
        "data": {"n": 1},
        "process": {"name": "p", "server": "s"},
    },
}
_STATUS = {
    "channel": "status",
    "payload": {
        "data": {"server": {"hostname": "h", "pm2_version": "6"}},
        "server_name": "s",
        "internal_ip": "i",
    },
}
_FILTER = {"AND": [["a.b", "EQUALS", 1], {"NOT": {"OR": [["c", "IN", ["x", None]], ["d", "EXISTS"]]}}]}
_BUCKET = "ab" * 12
_JSON_WORDS = ["\\\\u0000", "\\\\ud800", "1e400", "1e-16383", "NaN", "[[[[", "]]]]", "\\x00", "\\xff", "null"]


def seeds(target: str) -> list[bytes]:
    """Honest inputs of a target."""
    one = orjson.dumps(_EVENT)
    match target:
        case "bodies":
            forms = [
                one,
                one + b"\n" + one,
                orjson.dumps(_CLOUD_EVENT),
                orjson.dumps([_CLOUD_EVENT]),
                _HEADERS,
                b'device\nname\n{"n":1}',
                b'{"device_id":"d","stream":"s","event_data":{"n":1},"observed_at":1780000000}',
                orjson.dumps([_REPORT]),
            ]
            several = [
                b"\x00" + orjson.dumps({"events": [_EVENT, _EVENT]}),
                b"\x80" + orjson.dumps([{"name": "a"}]),
            ]
            return [bytes([kind]) + form for kind, form in enumerate(forms)] + several
        case "encodings":
            packed = [gzip.compress(one), zlib.compress(one), zstandard.compress(one)]
            packed = [bytes([kind, 7]) + form for kind, form in enumerate(packed)]
            return [*packed, packed[0] + gzip.compress(b"more"), packed[2] + zstandard.compress(b"more")]
        case "records":
            return [record(events(_BUCKET, event("a"), event("b", device="d")), reports(_BUCKET, report()))]
        case "filters":
            return [b"\x00a.b = 3", b'\x00"a b".c = "x"', b"\x01" + orjson.dumps(_FILTER), b'\x02a."b.c".0']
        case "packets":
            return [orjson.dumps(_PACKET) + b"\n" + orjson.dumps(_STATUS)]
        case _:
            return [
                b"2026-01-31T12:00:00+02:00",
                b"1780000000.5",
                b"5m",
                b"AQACAAAAAQAAAAAAAAAA",
                b"2 hours",
                one,
            ]


def words(target: str) -> list[str]:
    """A dictionary in libFuzzer's form: what blind mutation takes long to find."""
    names = {
        "bodies": [
            *_EVENT,
            *_CLOUD_EVENT,
            *_REPORT,
            "events",
            "reports",
            "device_id",
            "event_data",
            "data_base64",
        ],
        "packets": ["human:event", "status", "status:patch", "channel", "payload", "process", "internal_ip"],
        "filters": [
            "AND",
            "OR",
            "NOT",
            "EQUALS",
            "CONTAINS",
            "STARTS_WITH",
            "LESS_THAN",
            "IN",
            "EXISTS",
            "true",
        ],
        "records": ["WEIR"],
    }.get(target, [])
    return [f'"{word}"' for word in (*names, *_JSON_WORDS)]
