"""Node statistics through real sockets: every documented status, the shape, and the door's edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from query.uptime import MAX_NODES
from schema.receipts import encode_receipt
from tests.support.api_door import UNAUTHORIZED, Answer, Door
from tests.support.bounds import AT_AND_ABOVE

DAY = datetime(2024, 1, 15, tzinfo=UTC)
UNKNOWN = "f" * 24
FIELDS = [
    "ip", "host", "perc_uptime", "avg_latency_ms", "version", "node_status", "last_updated",
    "last_latency_ms",
]  # fmt: skip


def report(
    dsn: str,
    bucket_id: str,
    at: datetime,
    *,
    status: str = "ONLINE",
    latency_ms: float | None = None,
    interval_seconds: int = 60,
    host: str = "a.example",
    ip: str = "192.168.1.100",
    version: str = "1.2.3",
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO node_reports (bucket_id, observed_at, host, ip, received_at, version, status,"
            " latency_ms, interval_seconds) VALUES (%s, %s, %s, %s, now(), %s, %s, %s, %s)",
            [bucket_id, at, host, ip, version, status, latency_ms, interval_seconds],
        )


async def stats(
    api: Door,
    day: Any = "2024-01-15T00:00:00.000Z",
    *,
    bucket: str | None = None,
    who: str = "owner",
    **headers: str,
) -> Answer:
    bucket_id = bucket or api.buckets["first"]
    return await api.ask("POST", f"/bucket/{bucket_id}/stats", {"day": day}, who=who, **headers)


async def test_the_worked_example_of_the_page(api: Door, database_dsn: str) -> None:
    """The example of docs/node-statistics.md, number by number."""
    first = api.buckets["first"]
    report(database_dsn, first, DAY - timedelta(minutes=2), latency_ms=60, version="1.2.2")
    report(database_dsn, first, DAY + timedelta(hours=6), latency_ms=40, interval_seconds=3600)
    report(database_dsn, first, DAY + timedelta(hours=8), latency_ms=51, interval_seconds=3600)
    report(database_dsn, first, DAY + timedelta(hours=10), status="DISCONNECTED", interval_seconds=3600)
    answer = await stats(api)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.body == {
        "success": True,
        "nodeStats": [
            {
                "ip": "192.168.1.100",
                "host": "a.example",
                "perc_uptime": 16.74,
                "avg_latency_ms": 46,
                "version": "1.2.3",
                "node_status": "OFFLINE",
                "last_updated": "2024-01-15T10:00:00Z",
                "last_latency_ms": 51,
            }
        ],
    }
    assert list(answer.body["nodeStats"][0]) == FIELDS


@pytest.mark.parametrize(
    "day",
    [
        "2024-01-15", "2024-01-15T23:59:59.999999Z", "2024-01-15T12:00:00", "2024-01-16T01:00:00+02:00",
        "2024-01-14T23:00:00-01:00", " 2024-01-15 ",
    ],
)  # fmt: skip
async def test_any_moment_names_its_utc_day(api: Door, database_dsn: str, day: str) -> None:
    report(database_dsn, api.buckets["first"], DAY + timedelta(hours=12))
    answer = await stats(api, day)
    assert answer.body["nodeStats"][0]["perc_uptime"] == 0.42
    assert answer.body["nodeStats"][0]["avg_latency_ms"] is None
    assert answer.body["nodeStats"][0]["last_latency_ms"] is None


async def test_today_reaches_to_now(api: Door, database_dsn: str) -> None:
    now = datetime.now(UTC)
    report(database_dsn, api.buckets["first"], now - timedelta(seconds=20), latency_ms=41.7)
    report(database_dsn, api.buckets["first"], now + timedelta(hours=1), latency_ms=5, status="DISCONNECTED")
    (node,) = (await stats(api, now.isoformat())).body["nodeStats"]
    assert (node["perc_uptime"], node["node_status"]) == (100, "ONLINE")
    assert (node["avg_latency_ms"], node["last_latency_ms"]) == (42, 41.7)
    assert datetime.fromisoformat(node["last_updated"]) == now - timedelta(seconds=20)


async def test_a_day_to_come_and_a_day_without_reports_are_empty(api: Door, database_dsn: str) -> None:
    report(database_dsn, api.buckets["first"], DAY + timedelta(seconds=1))
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for day in (tomorrow, "9999-12-30", "2024-01-14", "2024-01-22", "1970-01-01"):
        answer = await stats(api, day)
        assert (answer.status, answer.body) == (200, {"success": True, "nodeStats": []}), day
    assert len((await stats(api, "2024-01-21")).body["nodeStats"]) == 1


async def test_nodes_by_host_and_ip(api: Door, database_dsn: str) -> None:
    for host, ip in (("b", "1"), ("a", "2"), ("a", ""), ("B", "9"), ("ä", "0")):
        report(database_dsn, api.buckets["first"], DAY, host=host, ip=ip)
    found = (await stats(api)).body["nodeStats"]
    assert [(node["host"], node["ip"]) for node in found] == [
        ("B", "9"), ("a", ""), ("a", "2"), ("b", "1"), ("ä", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"{", b'"2024-01-15"', b'{"day": null}', b'{"day": 1705276800}',
        b'{"day": ""}', b'{"Day": "2024-01-15"}', b'{"day": {"$gt": ""}}', b'{"day": "1969-12-31"}',
        b'{"day": "today"}', b'{"day": "2024-02-30"}', b'{"day": "0001-01-01T00:00:00+14:00"}',
        b'{"day": "9999-12-31T23:59:59-14:00"}', b'{"day": "2024-01-15\\u0000"}',
    ],
)  # fmt: skip
async def test_a_day_that_is_none_is_400(api: Door, body: bytes) -> None:
    answer = await api.ask("POST", f"/bucket/{api.buckets['first']}/stats", body)
    assert answer.status == 400
    assert list(answer.body) == ["success", "message"]
    assert answer.body["success"] is False
    assert answer.body["message"].startswith(("day:", "body:"))


async def test_who_may_ask(api: Door, database_dsn: str) -> None:
    report(database_dsn, api.buckets["first"], DAY)
    readers = {
        "owner", "admin", "user", "member", "root", "first read key", "first admin key", "owner's read key",
        "owner's admin key", "user's read key", "user's admin key", "root's read key", "root's admin key",
    }  # fmt: skip
    for who in api.secrets:
        answer = await stats(api, who=who)
        if who in readers:
            assert (answer.status, len(answer.body["nodeStats"])) == (200, 1), who
            continue
        assert answer.status == (401 if who in UNAUTHORIZED else 403), who
        assert (list(answer.body), answer.body["success"]) == (["success", "message"], False)


@pytest.mark.parametrize("bucket", [UNKNOWN, "nonsense", "F" * 24, "%00", "%27%20OR%201=1"])
async def test_an_unknown_or_malformed_bucket_is_404(api: Door, bucket: str) -> None:
    for who in ("owner", "root", "first read key"):
        answer = await stats(api, bucket=bucket, who=who)
        assert (answer.status, list(answer.body), answer.body["success"]) == (
            404,
            ["success", "message"],
            False,
        )
    assert (await stats(api, bucket=bucket, who="nobody")).status == 401


async def test_another_buckets_nodes_are_not_in_the_answer(api: Door, database_dsn: str) -> None:
    report(database_dsn, api.buckets["second"], DAY, host="second")
    report(database_dsn, api.buckets["theirs"], DAY, host="theirs")
    assert (await stats(api)).body["nodeStats"] == []
    assert (await stats(api, bucket=api.buckets["theirs"])).status == 403


async def test_a_receipt_is_waited_for(api: Door) -> None:
    late = await stats(api, **{"X-Weir-Receipt": encode_receipt({0: (1, 10)})})
    assert (late.status, late.body["success"], late.headers["Retry-After"]) == (503, False, "1")


async def test_other_methods_are_refused_in_the_same_form(api: Door) -> None:
    answer = await api.ask("GET", f"/bucket/{api.buckets['first']}/stats")
    assert (answer.status, list(answer.body)) == (405, ["success", "message"])


@AT_AND_ABOVE
async def test_nodes_are_looked_at_up_to_a_bound_and_the_answer_says_so(
    api: Door, database_dsn: str, beyond: int
) -> None:
    first = api.buckets["first"]
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "INSERT INTO node_reports (bucket_id, observed_at, host, ip, received_at, version, status,"
            " interval_seconds) SELECT %s, %s, 'h' || lpad(i::text, 5, '0'), '', now(), '', 'ONLINE', 60"
            " FROM generate_series(1, %s) AS i",
            [first, DAY + timedelta(hours=1), MAX_NODES + beyond],
        )
        connection.execute(
            "INSERT INTO node_retirements (bucket_id, ip, host, retired_at) VALUES (%s, '', 'h00001', %s)",
            [first, DAY + timedelta(hours=2)],
        )
    answer = await stats(api)
    # One is retired, and was looked at all the same.
    hosts = [node["host"] for node in answer.body["nodeStats"]]
    assert hosts == [f"h{number:05}" for number in range(2, MAX_NODES + 1)]
    assert answer.headers.get("X-Weir-Incomplete") == ("nodes" if beyond else None)
