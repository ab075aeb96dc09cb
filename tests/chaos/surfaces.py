"""Every query surface over HTTP against counts in SQL: 000, the servers of 001, 002, 003 and 004.

Asked once a round, when nothing is on its way. Each answer is compared with the raw rows of the bucket, id by
id, point by point, moment by moment, so surfaces that agree with them agree with each other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import psycopg
from psycopg.rows import TupleRow

from tests.chaos.content import NAMES
from tests.support.processes import Credentials

ASK_SECONDS = 30.0
ATTEMPTS = 4
PAGE = 10_000
JOURNAL_PAGE = 1_000
_WIDTHS = {"day": 86_400, "hour": 3_600, "minute": 60}
DEVICES_ASKED = ("device-0", "device-1")
_ROWS = """
SELECT id, events.name, app, server, device, (extract(epoch FROM observed_at) * 1000000)::bigint
FROM events JOIN buckets USING (bucket_key) WHERE bucket_id = %s
"""
_NODES = """
SELECT host, max(observed_at), count(*), round(avg(latency_ms))::int FROM node_reports
WHERE bucket_id = %s AND observed_at >= %s AND observed_at < %s GROUP BY host ORDER BY host
"""


@dataclass(frozen=True, slots=True)
class Door:
    """The query API, as the bucket's reader meets it."""

    session: aiohttp.ClientSession
    url: str
    credentials: Credentials

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """An answer's JSON. Asks again after a 5xx: the database may just be back. Fails on anything else."""
        told = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(1.0)
            try:
                async with self.session.request(
                    method,
                    self.url + path,
                    data=None if body is None else orjson.dumps(body),
                    headers={"X-Api-Key": self.credentials.read_key, "Content-Type": "application/json"},
                ) as response:
                    raw = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                told = repr(error)
                continue
            if response.status == 200:
                return orjson.loads(raw)
            told = f"{response.status}: {raw[:300].decode(errors='replace')}"
            if response.status < 500 and response.status != 429:
                break
        raise AssertionError(f"{method} {path}: {told}")


@dataclass(frozen=True, slots=True)
class Truth:
    """A bucket's raw rows, as SQL has them: (id, name, app, server, device, microseconds since 1970)."""

    rows: list[TupleRow]

    @property
    def first_ms(self) -> int:
        return int(min((row[5] for row in self.rows), default=0) // 1000)

    @property
    def last_ms(self) -> int:
        return int(max((row[5] for row in self.rows), default=0) // 1000) + 1

    def points(self, width_seconds: int, **labels: str) -> dict[int, int]:
        """Start of a period (seconds since 1970) → how many rows with these labels are in it."""
        places = {"name": 1, "app": 2, "server": 3, "device": 4}
        wanted = [(places[label], value) for label, value in labels.items()]
        width = width_seconds * 1_000_000
        found = Counter(
            row[5] // width * width_seconds
            for row in self.rows
            if all(row[place] == value for place, value in wanted)
        )
        return dict(found)


async def disagreements(url: str, dsn: str, credentials: Credentials) -> list[str]:
    """What each surface tells that the raw rows do not, in words; empty: all agree."""
    truth = await asyncio.to_thread(_truth, dsn, credentials.bucket_id)
    questions: list[Callable[[Door, Truth], Awaitable[str]]] = [
        _events,
        _statistics,
        _names_by_app,
        _servers,
        _journal,
        _streams,
        lambda door, _: _nodes(door, dsn),
    ]
    found = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as session:
        door = Door(session, url, credentials)
        for question in questions:
            try:
                found.append(await question(door, truth))
            except AssertionError as error:
                found.append(str(error))
    return [sentence for sentence in found if sentence]


def _truth(dsn: str, bucket_id: str) -> Truth:
    with psycopg.connect(dsn) as connection:
        return Truth(connection.execute(_ROWS, [bucket_id]).fetchall())


def _differ(surface: str, told: Mapping[Any, object], counted: Mapping[Any, object]) -> str:
    """Where two answers differ, in a few examples."""
    wrong = [key for key in {**told, **counted} if told.get(key) != counted.get(key)]
    some = [
        f"{key}: told {str(told.get(key))[:300]}, SQL has {str(counted.get(key))[:300]}" for key in wrong[:3]
    ]
    return f"{surface}, {len(wrong)} wrong: {'; '.join(some)}" if wrong else ""


def _data(door: Door) -> str:
    return f"/api/bucket/{door.credentials.bucket_id}/data"


async def _events(door: Door, truth: Truth) -> str:
    """000: every id of every name, page by page."""
    told: Counter[str] = Counter()
    for name in NAMES:
        offset = 0
        while True:
            page = await door.ask(
                "POST", f"{_data(door)}/events", {"event_name": name, "limit": PAGE, "offset": offset}
            )
            told.update(event["_id"] for event in page)
            offset += PAGE
            if len(page) < PAGE:
                break
    counted = Counter(row[0] for row in truth.rows)
    return (
        ""
        if told == counted
        else f"000 events: told {told.total()} ids, SQL counts {counted.total()}; "
        f"only one side has {sorted((told - counted) + (counted - told))[:3]}"
    )


async def _statistics(door: Door, truth: Truth) -> str:
    """000: histograms by day, hour and minute, from the first event to the last, point by point."""
    told: dict[tuple[str, str], dict[int, int]] = {}
    counted = {}
    for interval, width_seconds in _WIDTHS.items():
        for name in NAMES:
            asked = {
                "event_name": name,
                "interval": interval,
                "start": truth.first_ms,
                "end": truth.last_ms,
            }
            points = await door.ask("POST", f"{_data(door)}/events/stats", asked)
            told[name, interval] = {x // 1000: y for x, y in points if y}
            counted[name, interval] = truth.points(width_seconds, name=name)
    return _differ("000 statistics", told, counted)


async def _names_by_app(door: Door, truth: Truth) -> str:
    """000: names and their counts by app."""
    answer = await door.ask("GET", f"{_data(door)}/eventsKeysByApp")
    told = {(entry["app_name"], name): n for entry in answer for name, n in entry["counts"].items()}
    return _differ("000 names by app", told, dict(Counter((row[2], row[1]) for row in truth.rows)))


async def _servers(door: Door, truth: Truth) -> str:
    """001: what each server sent, and from which apps; machines that only report send no events."""
    answer = await door.ask("GET", f"/api/bucket/{door.credentials.bucket_id}/meta_servers")
    told = {
        entry["server_name"]: (entry["event_count"], sorted(entry["apps"]))
        for entry in answer
        if entry["event_count"]
    }
    counted = {
        server: (
            sum(row[3] == server for row in truth.rows),
            sorted({row[2] for row in truth.rows if row[3] == server} - {""}),
        )
        for server in {row[3] for row in truth.rows} - {""}
    }
    return _differ("001 servers", told, counted)


async def _journal(door: Door, truth: Truth) -> str:
    """002: the journal, and the counts by hour and day, of two devices."""
    told: dict[tuple[str, str], object] = {}
    counted: dict[tuple[str, str], object] = {}
    end = truth.last_ms // 1000 + 1
    name = NAMES[0]
    for device in DEVICES_ASKED:
        rows = [row for row in truth.rows if row[1] == name and row[4] == device]
        if not rows:
            continue
        counted[device, "journal"] = sorted(row[5] // 1_000_000 for row in rows)
        for mode, width in (("aggregate_hourly", "hour"), ("aggregate_daily", "day")):
            counted[device, mode] = truth.points(_WIDTHS[width], name=name, device=device)
        for mode in ("journal", "aggregate_hourly", "aggregate_daily"):
            entries: list[Any] = []
            while len(entries) % JOURNAL_PAGE == 0:
                page = len(entries) // JOURNAL_PAGE
                path = f"/devices/{device}/events/{name}?mode={mode}&end={end}&page={page}"
                more = await door.ask("GET", path)
                if not more:
                    break
                entries += more
            told[device, mode] = (
                entries if mode == "journal" else {entry["tst"]: entry["val"] for entry in entries}
            )
    return _differ("002", told, counted)


async def _streams(door: Door, truth: Truth) -> str:
    """003: the events of two devices, newest first, up to its limit."""
    until = datetime.fromtimestamp(truth.last_ms / 1000 + 1, UTC).isoformat()
    body = {"device_id": list(DEVICES_ASKED), "stream": "events", "limit": PAGE, "until": until}
    answer = await door.ask("POST", "/device_data", body)
    told = {entry["device_id"]: [event["event_id"] for event in entry["data"]] for entry in answer["data"]}
    counted = {}
    for device in DEVICES_ASKED:
        rows = sorted((-row[5], row[0]) for row in truth.rows if row[4] == device)
        counted[device] = [identifier for _, identifier in rows[:PAGE]]
    return _differ("003", told, counted)


async def _nodes(door: Door, dsn: str) -> str:
    """004: the nodes of today, their last report and mean latency."""
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    answer = await door.ask(
        "POST", f"/bucket/{door.credentials.bucket_id}/stats", {"day": day.date().isoformat()}
    )
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            _NODES, [door.credentials.bucket_id, day, day + timedelta(days=1)]
        ).fetchall()
    told = {
        node["host"]: datetime.fromisoformat(node["last_updated"]).replace(microsecond=0)
        for node in answer["nodeStats"]
    }
    counted = {row[0]: row[1].replace(microsecond=0) for row in rows}
    latencies = {row[0]: row[3] for row in rows}
    near = all(
        abs(node["avg_latency_ms"] - latencies.get(node["host"], 0)) <= 1 for node in answer["nodeStats"]
    )
    return _differ("004", told, counted) or ("" if near else f"004: latencies {answer}, SQL has {latencies}")
