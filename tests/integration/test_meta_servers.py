"""``meta_servers``: what really arrived, counted exactly, first and last moments to the microsecond."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from query.interval import DAY, SECOND
from query.plan import HOUR
from query.servers import MAX_APPS, MAX_SERVERS
from tests.support.api_door import Door
from tests.support.bounds import AT_AND_ABOVE
from tests.support.stored import Occurrence, Stored

NOON = 1_790_000_000 * SECOND // DAY * DAY + 12 * HOUR


async def servers(api: Door, bucket: str = "first", who: str = "owner") -> dict[str, dict[str, Any]]:
    answer = await api.ask("GET", f"/api/bucket/{api.buckets[bucket]}/meta_servers", {}, who=who)
    assert answer.status == 200, answer.body
    found = {one["server_name"]: one for one in answer.body}
    assert list(found) == sorted(found)
    return found


def iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


def report(dsn: str, bucket: str, at: datetime, host: str, **values: Any) -> None:
    row = {"ip": "10.0.0.1", "version": "1.0", "status": "ONLINE", "interval": 60, **values}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO node_reports VALUES (%s, %s, %s, %s, now(), %s, %s, NULL, %s)",
            (bucket, at, host, row["ip"], row["version"], row["status"], row["interval"]),
        )


async def test_nothing_arrived(api: Door) -> None:
    assert await servers(api) == {}


async def test_servers_of_events_with_their_apps_and_moments(api: Door, stored: Stored) -> None:
    events = [
        Occurrence(NOON - 40 * DAY + 17, "a", "boot", "shop", "one"),
        Occurrence(NOON - 40 * DAY + 18, "b", "boot", "shop", "two"),
        Occurrence(NOON - 3 * DAY + 5, "c", "order", "", "one"),
        Occurrence(NOON - 3 * DAY + HOUR + 6, "d", "order", "billing", "one"),
        Occurrence(NOON + 7, "e", "boot", "shop", "one"),
        Occurrence(NOON + 8, "f", "boot", "shop", ""),
    ]
    await stored.write(api.buckets["first"], events)
    await stored.write(api.buckets["theirs"], [Occurrence(NOON, "x", "boot", "shop", "elsewhere")])
    for late in (True, False):
        await stored.maintain(late=late)
        assert await servers(api, who="first read key") == {
            "one": {
                "server_name": "one",
                "apps": ["billing", "shop"],
                "first_seen": iso(NOON - 40 * DAY + 17),
                "last_seen": iso(NOON + 7),
                "event_count": 4,
                "node": None,
            },
            "two": {
                "server_name": "two",
                "apps": ["shop"],
                "first_seen": iso(NOON - 40 * DAY + 18),
                "last_seen": iso(NOON - 40 * DAY + 18),
                "event_count": 1,
                "node": None,
            },
        }
    # A row that is late changes the first moment.
    await stored.write(api.buckets["first"], [Occurrence(NOON - 41 * DAY, "g", "boot", "x", "two")])
    assert (await servers(api))["two"]["first_seen"] == iso(NOON - 41 * DAY)


async def test_retention_hides_what_is_older(api: Door, stored: Stored, database_dsn: str) -> None:
    now = time.time_ns() // 1000
    await stored.write(
        api.buckets["first"],
        [Occurrence(now - 3 * DAY, "a", server="one"), Occurrence(now - HOUR, "b", server="one")],
    )
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE buckets SET retention_days = 1")
    one = (await servers(api))["one"]
    assert (one["event_count"], one["first_seen"]) == (1, iso(now - HOUR))


async def test_nodes_by_their_newest_report(api: Door, stored: Stored, database_dsn: str) -> None:
    bucket, now = api.buckets["first"], datetime.now(UTC)
    await stored.write(bucket, [Occurrence(NOON, "a", "boot", "shop", "one")])
    report(database_dsn, bucket, now - timedelta(days=9), "one", version="0.9")
    report(database_dsn, bucket, now - timedelta(seconds=5), "one", version="1.1", status="DISCONNECTED")
    report(database_dsn, bucket, now - timedelta(hours=1), "one", ip="10.0.0.9")
    report(database_dsn, bucket, now - timedelta(seconds=181), "silent")
    report(database_dsn, bucket, now - timedelta(seconds=170), "slow", ip="::1")
    report(database_dsn, bucket, now - timedelta(days=1), "retired")
    report(database_dsn, api.buckets["theirs"], now, "elsewhere")
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO node_retirements (bucket_id, ip, host) VALUES (%s, '10.0.0.1', 'retired')", [bucket]
        )
    found = await servers(api)
    assert set(found) == {"one", "silent", "slow"}
    assert found["one"]["node"] == {
        "ip": "10.0.0.1",
        "host": "one",
        "version": "1.1",
        "status": "DISCONNECTED",
    }
    assert (found["one"]["event_count"], found["one"]["apps"]) == (1, ["shop"])
    assert found["one"]["first_seen"] == min(iso(NOON), (now - timedelta(days=9)).isoformat())
    assert (found["silent"]["node"]["status"], found["silent"]["event_count"]) == ("OFFLINE", 0)
    assert found["slow"]["node"]["status"] == "ONLINE"


REPORTS = """
INSERT INTO node_reports
SELECT bucket_id, now(), 's' || i, '', now(), '', 'ONLINE', NULL, 60
FROM buckets, generate_series(2, %s) AS i WHERE bucket_id = %s
"""


@AT_AND_ABOVE
@pytest.mark.parametrize("of", ["events", "reports"])
async def test_servers_are_shown_up_to_a_bound_and_the_answer_says_so(
    api: Door, stored: Stored, database_dsn: str, of: str, beyond: int
) -> None:
    first, count = api.buckets["first"], MAX_SERVERS + beyond
    senders = range(1, 1 + (count if of == "events" else 1))
    # Of many names: the moments of a server are looked for among the events of its name and hour.
    events = [Occurrence(NOON + n, f"{n}", f"boot {n % 1000}", "shop", f"s{n}") for n in senders]
    await stored.write(first, events)
    if of == "reports":
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            connection.execute(REPORTS, [count, first])
    answer = await api.ask("GET", f"/api/bucket/{first}/meta_servers", {})
    assert (answer.status, len(answer.body)) == (200, MAX_SERVERS)
    assert len({one["server_name"] for one in answer.body}) == MAX_SERVERS
    assert answer.headers.get("X-Weir-Incomplete") == ("servers" if beyond else None)
    assert answer.headers["Cache-Control"] == "no-store"


@AT_AND_ABOVE
async def test_apps_of_servers_are_shown_up_to_a_bound_and_the_answer_says_so(
    api: Door, stored: Stored, beyond: int
) -> None:
    """A server is shown with all of its apps, and counted whole, or left out."""
    first, count = api.buckets["first"], MAX_APPS + beyond
    events = [
        Occurrence(NOON + n, f"{n}", "boot", f"app {n}", "early" if n < 3 else "late") for n in range(count)
    ]
    for start in range(0, count, 5_000):
        await stored.write(first, events[start : start + 5_000])
    answer = await api.ask("GET", f"/api/bucket/{first}/meta_servers", {})
    assert answer.status == 200
    found = {one["server_name"]: (one["event_count"], len(one["apps"])) for one in answer.body}
    assert found == {"early": (3, 3)} | ({} if beyond else {"late": (count - 3, count - 3)})
    assert answer.headers.get("X-Weir-Incomplete") == ("servers" if beyond else None)
