"""``meta_servers``: what really arrived, counted exactly, first and last moments to the microsecond."""

from __future__ import annotations

import random
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


@pytest.mark.parametrize("rows", [1, 2, 64])
async def test_first_and_last_moments_are_exact_however_the_events_lie(
    api: Door, stored: Stored, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("query.edges.FEWEST_ROWS", rows)
    monkeypatch.setattr("query.edges.GROWTH", 2)
    source = random.Random(rows)
    days = [0, 0, 1, 40]
    events = [
        Occurrence(
            # Few moments, so that many events share one.
            NOON - source.choice(days) * DAY + source.choice((0, HOUR)) + source.randrange(40) * SECOND,
            f"{n}",
            source.choice(("boot", "boot", "boot", "order", "rare" if n % 50 == 0 else "boot")),
            source.choice(("shop", "till")),
            f"s{int(source.paretovariate(0.5))}" if n % 7 else "",
        )
        for n in range(700)
    ]
    await stored.write(api.buckets["first"], events)
    await stored.write(api.buckets["theirs"], [Occurrence(NOON - 50 * DAY, "x", "boot", "shop", "s1")])
    await stored.maintain()
    heard: dict[str, list[int]] = {}
    for event in events:
        if event.server:
            heard.setdefault(event.server, []).append(event.observed_at)
    found = await servers(api)
    assert len(heard) > 20
    assert {name: (one["first_seen"], one["last_seen"]) for name, one in found.items()} == {
        name: (iso(min(moments)), iso(max(moments))) for name, moments in heard.items()
    }


async def test_beyond_the_rows_that_may_be_walked_a_server_keeps_its_hour(
    api: Door, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.edges.FEWEST_ROWS", 10)
    monkeypatch.setattr("query.edges.MAX_ROWS", 90)
    busy = [Occurrence(NOON + n * SECOND, f"{n}", server="busy") for n in range(1, 201)]
    await stored.write(api.buckets["first"], [*busy, Occurrence(NOON + 100 * SECOND, "once", server="rare")])
    await stored.maintain()
    found = await servers(api)
    assert (found["busy"]["first_seen"], found["busy"]["last_seen"]) == (
        iso(NOON + SECOND),
        iso(NOON + 200 * SECOND),
    )
    assert (found["rare"]["first_seen"], found["rare"]["last_seen"]) == (iso(NOON), iso(NOON))
    monkeypatch.setattr("query.edges.MAX_ROWS", 1000)
    rare = (await servers(api))["rare"]
    assert rare["first_seen"] == rare["last_seen"] == iso(NOON + 100 * SECOND)


async def test_beyond_the_names_that_may_be_looked_for_the_last_servers_keep_their_hour(
    api: Door, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("query.edges.MAX_PAIRS", 3)
    events = [
        Occurrence(NOON + n * SECOND, f"{name} {server}", name, server=server)
        for n, server in enumerate(("one", "three", "two"), 1)
        for name in ("boot", "order")
    ]
    await stored.write(api.buckets["first"], events)
    await stored.maintain()
    found = await servers(api)
    assert {name: one["first_seen"] for name, one in found.items()} == {
        "one": iso(NOON + SECOND),
        "three": iso(NOON),
        "two": iso(NOON),
    }
    assert all(one["first_seen"] == one["last_seen"] for one in found.values())


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
    # All of one name and hour, which is the most that a server's moments can be looked for among.
    events = [Occurrence(NOON + n, f"{n}", "boot", "shop", f"s{n}") for n in senders]
    await stored.write(first, events)
    if of == "reports":
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            connection.execute(REPORTS, [count, first])
    began = time.monotonic()
    answer = await api.ask("GET", f"/api/bucket/{first}/meta_servers", {})
    assert (answer.status, len(answer.body)) == (200, MAX_SERVERS)
    # A second on a machine that does nothing else. Looked for one by one they took 18.
    assert time.monotonic() - began < 9
    if of == "events":
        moments = {one["server_name"]: (one["first_seen"], one["last_seen"]) for one in answer.body}
        assert moments == {f"s{n}": (iso(NOON + n),) * 2 for n in senders if f"s{n}" in moments}
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
