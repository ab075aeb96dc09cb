"""One event's whole way through real processes: socket, Kafka, hypertable, rollups, histogram."""

from __future__ import annotations

import asyncio
import time

import psycopg

from tests.support.processes import Weir, call


async def test_an_event_is_read_back_with_its_receipt_and_counted(weir: Weir) -> None:
    """Accepted, then visible to a read that carries the receipt, then one point of a histogram."""
    gateway, api = weir.start("gateway"), weir.start("api")
    weir.start("writer")
    credentials = weir.credentials
    event = {"name": "door_opened", "app": "hall", "server": "s1", "device": "d1", "data": {"by": "Ada"}}
    status, answer = call(gateway, "POST", "/v1/events", event, {"X-Api-Key": credentials.ingest_key})
    assert status == 202
    assert isinstance(answer, dict)
    assert (answer["accepted"], answer["rejected"]) == (1, [])

    path = f"/api/bucket/{credentials.bucket_id}/data"
    headers = {"Authorization": f"Bearer {credentials.access_token}", "X-Weir-Receipt": answer["receipt"]}
    status, events = call(api, "POST", f"{path}/events", {"event_name": "door_opened"}, headers)
    assert status == 200
    assert isinstance(events, list)
    assert [(e["event_name"], e["app_name"], e["server_name"], e["data"]) for e in events] == [
        ("door_opened", "hall", "s1", {"by": "Ada"})
    ]
    assert abs(events[0]["at"] / 1000 - time.time()) < 60

    status, points = call(api, "POST", f"{path}/events/stats", {"event_name": "door_opened"}, headers)
    minute = events[0]["at"] // 60_000 * 60_000
    assert (status, points) == (200, [[minute, 1]])

    status, names = call(api, "GET", f"{path}/eventsKeysByApp", None, headers)
    assert (status, names) == (
        200,
        [{"app_name": "hall", "events": ["door_opened"], "counts": {"door_opened": 1}}],
    )


async def test_a_repeat_is_stored_once_and_emptying_a_bucket_holds(weir: Weir) -> None:
    """The same event twice counts once; after delete_all it does not come back, and a new one is there."""
    gateway, api = weir.start("gateway"), weir.start("api")
    weir.start("writer")
    credentials = weir.credentials
    key = {"X-Api-Key": credentials.ingest_key}
    event = {"name": "sale", "id": "order-1", "observed_at": time.time() - 10, "data": {}}
    receipts = []
    for _ in range(2):
        status, answer = call(gateway, "POST", "/v1/events", [event, {**event, "id": "order-2"}], key)
        assert status == 202
        assert isinstance(answer, dict)
        receipts.append(answer["receipt"])

    path = f"/api/bucket/{credentials.bucket_id}/data"
    token = {"Authorization": f"Bearer {credentials.access_token}"}
    status, points = call(
        api, "POST", f"{path}/events/stats", {"event_name": "sale"}, {**token, "X-Weir-Receipt": receipts[-1]}
    )
    assert status == 200
    assert isinstance(points, list)
    assert sum(point[1] for point in points) == 2

    status, deleted = call(api, "DELETE", f"{path}/events/delete_all", {}, token)
    assert (status, deleted) == (200, [{"app_name": "", "events": ["sale"], "counts": {"sale": 2}}])
    status, answer = call(gateway, "POST", "/v1/events", {**event, "id": "order-3"}, key)
    assert status == 202
    assert isinstance(answer, dict)
    status, events = call(
        api, "POST", f"{path}/events", {"event_name": "sale"}, {**token, "X-Weir-Receipt": answer["receipt"]}
    )
    assert status == 200
    assert isinstance(events, list)
    assert [e["_id"] for e in events] == ["order-3"]
    status, points = call(api, "POST", f"{path}/events/stats", {"event_name": "sale"}, token)
    assert isinstance(points, list)
    assert [point[1] for point in points] == [1]


async def test_node_reports_are_stored(weir: Weir) -> None:
    """Node reports take the same way, one row for each moment of a node."""
    gateway = weir.start("gateway")
    weir.start("writer")
    key = {"X-Api-Key": weir.credentials.ingest_key}
    report = {
        "host": "n1",
        "ip": "10.0.0.1",
        "version": "1.2",
        "status": "ONLINE",
        "observed_at": time.time(),
    }
    for _ in range(2):
        status, answer = call(gateway, "POST", "/v1/nodes", [report, {**report, "host": "n2"}], key)
        assert status == 202, answer
    deadline = time.monotonic() + 15
    rows: list[tuple[str, int]] = []
    while time.monotonic() < deadline and len(rows) < 2:
        with psycopg.connect(weir.database_dsn) as connection:
            rows = connection.execute(
                "SELECT host, count(*) FROM node_reports WHERE bucket_id = %s GROUP BY 1 ORDER BY 1",
                [weir.credentials.bucket_id],
            ).fetchall()
        await asyncio.sleep(0.1)
    assert rows == [("n1", 1), ("n2", 1)]
