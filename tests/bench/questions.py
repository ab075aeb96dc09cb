"""Each kind of question that the query API answers, as requests over the stock. Pure.

A kind has several requests that differ in what they ask for, so that no figure is one device's or one hour's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson

from schema.receipts import encode_receipt
from tests.bench.stock import RARE_APP, SENSOR_STREAM, Stock

HOUR_GOAL = "query_hours"
GOAL = "query"
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` with its query string; ``body``: JSON, or nothing."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Kind:
    """``goal``: a key of GOALS; None where nothing is promised."""

    title: str
    requests: list[Request] = field(repr=False)
    goal: str | None = GOAL


def kinds(stock: Stock) -> list[Kind]:
    """All of them, surface by surface."""
    return [*_bucket_events(stock), *_histograms(stock), *_devices(stock), *_streams(stock), *_rest(stock)]


def _iso(at: datetime) -> str:
    return at.isoformat()


def _post(path: str, headers: Mapping[str, str], body: Mapping[str, Any], **more: str) -> Request:
    return Request("POST", path, {**headers, **more}, orjson.dumps(body))


def _get(path: str, headers: Mapping[str, str], given: Mapping[str, Any] | None = None) -> Request:
    return Request("GET", f"{path}?{urlencode(given, doseq=True)}" if given else path, headers)


def _bucket_events(stock: Stock) -> Iterator[Kind]:
    path = f"/api/bucket/{stock.plot.buckets[0].bucket_id}/data"
    key = stock.key

    def kind(title: str, *bodies: Mapping[str, Any]) -> Kind:
        return Kind(f"000 events, {title}", [_post(f"{path}/events", key, body) for body in bodies])

    names = ("request", "reading", "login", "step-3")
    half = stock.start + (stock.end - stock.start) / 2
    deep = stock.events // 10
    yield kind("newest 100", *({"event_name": name} for name in names))
    yield kind("newest 100 of a rare name", {"event_name": "recall"}, {"event_name": "never"})
    yield kind("of an app", *({"event_name": name, "app_name": "app-3"} for name in names))
    yield kind("of a rare app", *({"event_name": name, "app_name": RARE_APP} for name in names))
    yield kind("of an app without any", *({"event_name": n, "app_name": "app-retired"} for n in names))
    yield kind("of a server", *({"event_name": n, "server_name": "app-3-server-1"} for n in names))
    yield kind("of a server without any", *({"event_name": n, "server_name": "gone"} for n in names))
    yield kind(
        "of an hour",
        *(
            {"event_name": "request", "start": _iso(half + n * _HOUR), "end": _iso(half + (n + 1) * _HOUR)}
            for n in range(8)
        ),
    )
    yield kind(
        "of a day, skipping 1000",
        *(
            {
                "event_name": "reading",
                "offset": 1000,
                "start": _iso(half + n * _HOUR),
                "end": _iso(half + _DAY),
            }
            for n in range(8)
        ),
    )
    yield kind("skipping 10,000", *({"event_name": name, "offset": 10_000} for name in names[:3]))
    yield kind(f"skipping {deep:,}", {"event_name": "request", "offset": deep})
    yield kind("skipping all of them", {"event_name": "request", "offset": 10 * stock.events})
    yield kind("limit 10,000", *({"event_name": name, "limit": 10_000} for name in names[:3]))
    yield kind(
        "limit 10,000 of an app from the middle on",
        {"event_name": "request", "limit": 10_000, "app_name": "app-2", "end": _iso(half)},
    )
    receipt = encode_receipt({0: (1, 999)})
    yield Kind(
        "000 events, newest 100 with a receipt",
        [_post(f"{path}/events", key, {"event_name": n}, **{"X-Weir-Receipt": receipt}) for n in names],
    )
    sources: tuple[dict[str, str], ...] = ({}, {"app_name": "app-3"}, {"server_name": "app-3-server-1"})
    yield Kind("000 eventsKeysByApp", [_get(f"{path}/eventsKeysByApp", key, given) for given in sources])


def _histograms(stock: Stock) -> Iterator[Kind]:
    path = f"/api/bucket/{stock.plot.buckets[0].bucket_id}/data/events/stats"

    def kind(title: str, goal: str, **given: Any) -> Kind:
        bodies = ({"event_name": name, **given} for name in ("request", "reading", "login", "step-3"))
        return Kind(f"000 stats, {title}", [_post(path, stock.key, body) for body in bodies], goal)

    days = (stock.end - stock.start).days
    yield kind("2 days by minute", GOAL)
    yield kind("all days by minute", GOAL, days=days)
    yield kind("2 days by hour", HOUR_GOAL, interval="hour")
    yield kind("all days by hour", HOUR_GOAL, interval="hour", days=days)
    yield kind("all days by hour, an app", HOUR_GOAL, interval="hour", days=days, app_name="app-3")
    yield kind(
        "all days by hour, a server", HOUR_GOAL, interval="hour", days=days, server_name="app-3-server-1"
    )
    yield kind("2 days by minute, an app", GOAL, app_name="app-3")
    yield kind(
        "an hour by second", GOAL, interval="second", start=_iso(stock.end - _HOUR), end=_iso(stock.end)
    )
    yield kind("all days by day", GOAL, interval="day", days=days)
    yield kind("all days by week", GOAL, interval="week", days=days)
    yield kind("a year by month", GOAL, interval="month", days=365)


def _devices(stock: Stock) -> Iterator[Kind]:
    busy, usual = stock.devices[:1], stock.devices[len(stock.devices) // 4 :: len(stock.devices) // 16][:8]
    middle = int((stock.start + (stock.end - stock.start) / 2).timestamp())

    def kind(
        title: str, devices: list[str], name: str, who: Mapping[str, str] = stock.key, **given: Any
    ) -> Kind:
        return Kind(
            f"002 {title}", [_get(f"/devices/{device}/events/{name}", who, given) for device in devices]
        )

    yield kind("journal, a device", usual, "request")
    yield kind("journal, a device, newest first", usual, "request", older_first="false")
    yield kind("journal, the busiest device", busy, "request")
    yield kind("journal, the busiest, newest first", busy, "request", older_first="false")
    yield kind("journal, the busiest, page 20", busy, "request", page=20)
    yield kind("journal, the busiest, newest first, page 20", busy, "request", older_first="false", page=20)
    yield kind("journal, a rare name of the busiest", busy, "crash")
    yield kind("journal, a name that it never sent", busy, "never")
    yield kind("journal, a day", usual + busy, "request", begin=middle, end=middle + 86_400)
    yield kind("by hour, a device", usual, "request", mode="aggregate_hourly")
    yield kind("by hour, the busiest", busy, "request", mode="aggregate_hourly")
    yield kind("by hour, newest first", busy, "request", mode="aggregate_hourly", older_first="false")
    yield kind("by day, a device", usual, "request", mode="aggregate_daily")
    yield kind(
        "by day, the busiest, newest first", busy, "request", mode="aggregate_daily", older_first="false"
    )
    yield kind("journal, a superuser of all buckets", usual + busy, "request", stock.superuser)
    yield kind("journal, a user of the large workspace", usual, "request", stock.of_many)
    yield kind("by day, a superuser", usual + busy, "request", stock.superuser, mode="aggregate_daily")
    yield Kind("/v1/devices/{id}", [_get(f"/v1/devices/{device}", stock.key) for device in usual + busy])
    yield Kind(
        "/v1/devices, a page of 100",
        [_get("/v1/devices", stock.key, {"after": device}) for device in ("", *usual)],
    )


def _streams(stock: Stock) -> Iterator[Kind]:
    devices = stock.devices
    half = stock.start + (stock.end - stock.start) / 2

    def kind(title: str, count: int, who: Mapping[str, str] = stock.key, busy: int = 0, **given: Any) -> Kind:
        requests = []
        for turn in range(8):
            chosen = devices[busy + turn * count : busy + (turn + 1) * count] or devices[:count]
            if count == 1:
                chosen = devices[:1]
            given_all = {"device_id": chosen, "stream": SENSOR_STREAM, **given}
            requests.append(_post("/device_data", who, given_all))
        return Kind(f"003 {title}", requests)

    day: dict[str, Any] = {"since": _iso(half), "until": _iso(half + _DAY)}
    week: dict[str, Any] = {"since": _iso(half - 7 * _DAY), "until": _iso(half)}
    yield kind("10 devices, a day", 10, busy=50, **day)
    yield kind("10 devices, all time", 10, busy=50)
    yield kind("100 devices, 7 days", 100, busy=200, **week)
    yield kind("the busiest device, newest 1000", 1)
    yield kind("10 devices, 7 days, a rule", 10, busy=50, rule='tenant_user = "t_13"', **week)
    yield kind("10 devices, 7 days, an exclusion", 10, busy=50, xrule=["note", "ok = false"], **week)
    yield kind("the busiest device, all time, a rule", 1, rule="amount = 13")
    yield kind("100 devices, all time, a rule", 100, busy=200, rule='tenant_user = "t_13"')
    leaves = (
        ["amount", "EQUALS", 13],
        ["amount", "NOT_EQUALS", 13],
        ["tenant_user", "IN", ["t_1", "t_2"]],
        ["tags", "CONTAINS", "red"],
        ["message", "CASE_INSENSITIVE_CONTAINS", "DISK"],
        ["message", "STARTS_WITH", "Door"],
        ["message", "ENDS_WITH", "full"],
        ["temperature", "LESS_THAN", 15],
        ["size.width", "GREATER_OR_EQUAL", 90],
        ["note", "EXISTS"],
    )
    for leaf in leaves:
        yield kind(f"10 devices, 7 days, {leaf[1]}", 10, busy=50, filters=leaf, **week)
    nested = {
        "AND": [
            {"OR": [["tags", "CONTAINS", "red"], ["amount", "GREATER_THAN", 900]]},
            {"NOT": {"AND": [["ok", "EQUALS", False], ["size.height", "LESS_OR_EQUAL", 50]]}},
        ]
    }
    yield kind("10 devices, 7 days, nested filters", 10, busy=50, filters=nested, **week)
    yield kind("10 devices, sorted by a tag", 10, busy=50, sort_by="amount", sort_direction="desc", limit=10)
    yield kind("10 devices, sorted by received_at", 10, busy=50, sort_by="received_at", sort_direction="asc")
    yield kind("10 devices, all time, a superuser", 10, stock.superuser, busy=50, limit=10)
    yield kind("100 devices, 7 days, a superuser", 100, stock.superuser, busy=200, **week)


def _rest(stock: Stock) -> Iterator[Kind]:
    bucket, key = f"/bucket/{stock.plot.buckets[0].bucket_id}", stock.key
    today = _post(f"{bucket}/stats", key, {"day": _iso(stock.end)})
    past = _post(f"{bucket}/stats", key, {"day": _iso(stock.end - _DAY)})
    yield Kind("004 node statistics of today", [today])
    yield Kind("004 node statistics of yesterday", [past])
    yield Kind("001 meta_servers", [_get(f"/api{bucket}/meta_servers", key)])
    yield Kind("001 a bucket", [_get(f"/api{bucket}", stock.owner)])
    yield Kind("001 buckets of a user", [_get("/api/bucket/", stock.owner)])
    # Its answer has thousands of buckets, each with its description: nothing is promised for it.
    yield Kind("001 buckets of a user of the large workspace", [_get("/api/bucket/", stock.of_many)], None)
