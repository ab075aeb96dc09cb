"""Thirty days of events and a few of node reports, as writers and maintenance would have left them.

Rows go in by COPY, a day after the other in order of time; rollups follow from them, open periods spread over
shards and closed ones merged; then maintenance runs to its end, and every count is compared with a recount.
Two events of three are a few names'; a few devices send most; one workspace has thousands of buckets.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import asyncpg
import orjson
import psycopg

from api.tenancy.administration import add_workspace_member, create_access_token, create_user
from ingest.writer import chunks, device_days, refresh, retention, shards
from schema.connections import Duty, open_connection
from schema.settings import WriterSettings
from schema.tables import EVENT_COLUMNS, MERGED_SHARD
from tests.bench import ground, recount
from tests.bench.figures import say
from tests.bench.ground import Plot
from tests.bench.scale import Scale

APPS = 8
SERVERS_OF_APP = 5
# Weights; the last ones are rare.
NAMES = {
    "request": 40.0,
    "reading": 20.0,
    "login": 10.0,
    "click": 8.0,
    "error": 5.0,
    **{f"step-{n}": 1.0 for n in range(16)},
    "crash": 0.05,
    "recall": 0.002,
}
SENSOR_STREAM = "sensors"
SENSOR_NAMES = frozenset({"reading", "error"})
BUCKETS = 4
# Of all events: the first bucket's, those of the three beside it, and the rest of the large workspace's.
SHARES = (0.60, 0.15, 0.08, 0.02)
BUSY_BUCKETS_OF_LARGE = 500
# For so many buckets of the large workspace there is one workspace with a bucket of its own.
SMALL_WORKSPACES = 10
WITHOUT_DEVICE = 0.1
RARE_APP = "app-rare"
RARE_APP_SHARE = 0.0005
NODE_SECONDS = 60
SEED = 20_260_101
_MARGIN_SECONDS = 60.0
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Stock:
    """What is in the database, and who may ask. ``devices``: of the first bucket, the busiest first.

    ``owner``, ``of_many``, ``superuser``: headers of a user of the bench's four buckets, of one of the large
    workspace, and of one who may read everything. Moments in UTC.
    """

    plot: Plot
    edition: str
    events: int
    start: datetime
    end: datetime
    devices: list[str]
    owner: dict[str, str]
    of_many: dict[str, str]
    superuser: dict[str, str]

    @property
    def key(self) -> dict[str, str]:
        """Headers with the first bucket's read key."""
        return {"X-Api-Key": self.plot.buckets[0].read_key}


async def filled(plot: Plot, scale: Scale) -> Stock:
    """Fill a plot. Raises Void when a count of a rollup is not what the rows say."""
    begun = time.monotonic()
    end = datetime.now(UTC).replace(microsecond=0)
    start = end - scale.query_days * _DAY
    people, large = await asyncio.to_thread(_tenants, plot, scale.query_buckets)
    keys = [bucket.bucket_key for bucket in plot.buckets]
    crowd = _Crowd(keys, large, scale.query_devices)
    connection = await ground.connected(plot.dsn)
    try:
        days = scale.query_days
        for day in range(days):
            count = scale.query_events * (day + 1) // days - scale.query_events * day // days
            await connection.copy_records_to_table(
                "events", columns=EVENT_COLUMNS, records=crowd.events(start + day * _DAY, count), timeout=600
            )
        say(f"queries: {scale.query_events:,} rows after {time.monotonic() - begun:.0f} s")
        await connection.execute(
            _REPORTS,
            plot.buckets[0].bucket_id,
            end,
            scale.query_report_days,
            scale.query_nodes,
            timeout=600,
        )
        edition = await connection.fetchval("SELECT edition FROM store_state")
        await _maintained(plot, connection, edition)
        say(f"queries: rolled up after {time.monotonic() - begun:.0f} s")
        await recount.check_sums(connection, scale.query_events)
        await recount.check_every_count(plot.dsn)
        for table in ("events", "node_reports", *_RUNGS, "device_counts_day", "buckets", "workspaces"):
            await connection.execute(f"VACUUM ANALYZE {table}", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close(timeout=5)
    say(f"queries: {scale.query_events:,} rows, counted twice, after {time.monotonic() - begun:.0f} s")
    return Stock(plot, edition, scale.query_events, start, end, crowd.devices_of(keys[0]), *people)


class _Crowd:
    """Devices with their buckets, apps and servers, and the events that they send."""

    def __init__(self, keys: list[int], large: list[int], devices: int) -> None:
        self._random = random.Random(SEED)
        # Half as many events for a device of twice the rank, nearly; shuffled over the buckets.
        weights = [1 / (rank + 1) ** 0.8 for rank in range(devices)]
        nobody = sum(weights) * WITHOUT_DEVICE / (1 - WITHOUT_DEVICE)
        self._names = [f"device-{n:05d}" for n in range(devices)] + [""]
        self._weights = list(accumulate([*weights, nobody]))
        shares = list(accumulate(SHARES))
        self._homes = []
        for _ in range(devices):
            drawn = self._random.random()
            place = next((n for n, share in enumerate(shares) if drawn < share), None)
            self._homes.append(self._random.choice(large) if place is None else keys[place])
        # The busiest and the events of no device belong to the bucket that is asked most.
        self._homes[0] = keys[0]
        self._homes.append(keys[0])
        self._event_names = list(NAMES)
        self._event_weights = list(accumulate(NAMES.values()))
        self._data = [_data(self._random) for _ in range(4096)]
        self._number = 0

    def devices_of(self, bucket_key: int) -> list[str]:
        """The devices of a bucket, the busiest first."""
        pairs = zip(self._names[:-1], self._homes, strict=False)
        return [name for name, home in pairs if home == bucket_key]

    def events(self, start: datetime, count: int) -> Iterator[tuple[Any, ...]]:
        """A day's events as rows of COPY, in order of time."""
        draw = self._random
        moments = sorted(draw.random() for _ in range(count))
        devices = draw.choices(range(len(self._names)), cum_weights=self._weights, k=count)
        names = draw.choices(self._event_names, cum_weights=self._event_weights, k=count)
        data = draw.choices(self._data, k=count)
        begin = int(start.timestamp() * 1000)
        for moment, device, name, text in zip(moments, devices, names, data, strict=True):
            self._number += 1
            at = start + timedelta(seconds=moment * 86_400)
            milliseconds = begin + int(moment * 86_400_000)
            app, server = _place(device, self._number)
            yield (
                self._homes[device],
                name,
                SENSOR_STREAM if name in SENSOR_NAMES else "events",
                app,
                server,
                at,
                _id(milliseconds, self._number),
                at + timedelta(milliseconds=250),
                self._names[device],
                text,
            )


def _id(milliseconds: int, number: int) -> str:
    """In the form and the order of UUIDv7s."""
    high, low = milliseconds >> 16, milliseconds & 0xFFFF
    return f"{high:08x}-{low:04x}-7{number & 0xFFF:03x}-8000-{number:012x}"


def _place(device: int, number: int) -> tuple[str, str]:
    if number % round(1 / RARE_APP_SHARE) == 0:
        return RARE_APP, f"{RARE_APP}-server-0"
    app = device % APPS
    return f"app-{app}", f"app-{app}-server-{(device // APPS + number) % SERVERS_OF_APP}"


def _data(draw: random.Random) -> str:
    """What a device might send: some 200 bytes."""
    return orjson.dumps(
        {
            "amount": draw.randrange(1000),
            "tenant_user": f"t_{draw.randrange(50)}",
            "message": draw.choice(["request served", "Door opened", "disk nearly full", "reading taken"]),
            "temperature": round(draw.gauss(20, 5), 2),
            "size": {"width": draw.randrange(100), "height": draw.randrange(100)},
            "tags": draw.sample(["red", "green", "blue", "Loud", "late"], 2),
            "ok": draw.random() < 0.97,
            **({"note": None} if draw.random() < 0.2 else {}),
        }
    ).decode()


_LARGE = """
WITH keys AS (
    INSERT INTO bucket_keys (bucket_id)
    SELECT substr(md5('large ' || number), 1, 24) FROM generate_series(1, %s) AS number
    RETURNING bucket_key, bucket_id
)
INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name, events_per_second)
SELECT bucket_id, bucket_key, %s, 'one of many', 0 FROM keys RETURNING bucket_key
"""


# What else a database has: without them any workspace would look large to the planner.
_SMALL = """
WITH small AS (
    INSERT INTO workspaces
    SELECT substr(md5('small ' || number), 1, 24), 'small' FROM generate_series(1, %s) AS number
    RETURNING workspace_id
), keys AS (
    INSERT INTO bucket_keys (bucket_id) SELECT workspace_id FROM small RETURNING bucket_key, bucket_id
)
INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name, events_per_second)
SELECT bucket_id, bucket_key, bucket_id, 'alone', 0 FROM keys
"""


def _tenants(plot: Plot, buckets: int) -> tuple[tuple[dict[str, str], ...], list[int]]:
    """Headers of the three people, and keys of those buckets of the large workspace that get events."""
    people = []
    with psycopg.connect(plot.dsn) as connection:
        row = connection.execute("SELECT workspace_id FROM buckets LIMIT 1").fetchone()
        assert row is not None
        large = "1" * 24
        connection.execute("INSERT INTO workspaces VALUES (%s, 'large')", [large])
        keys = [key for (key,) in connection.execute(_LARGE, [buckets, large]).fetchall()]
        connection.execute(_SMALL, [buckets // SMALL_WORKSPACES])
        for who, workspace, role in (
            ("owner", str(row[0]), "owner"),
            ("of-many", large, "member"),
            ("superuser", None, ""),
        ):
            user = create_user(connection, f"{who}@bench.example")
            if workspace is None:
                connection.execute("UPDATE users SET superuser = true WHERE user_id = %s", [user])
            else:
                add_workspace_member(connection, workspace, user, role)
            token = create_access_token(connection, user, lifetime=timedelta(hours=6))
            people.append({"Authorization": f"Bearer {token}"})
        connection.execute(
            "INSERT INTO partition_offsets (topic, partition, next_offset) VALUES (%s, 0, 1000)",
            [plot.events_topic],
        )
    return tuple(people), keys[:BUSY_BUCKETS_OF_LARGE]


_RUNGS = ("event_counts_minute", "event_counts_hour", "event_counts_day")
_REPORTS = f"""
INSERT INTO node_reports
SELECT $1, reported_at, 'host-' || node, '10.0.' || node / 250 || '.' || node % 250, reported_at, '2.1.0',
    CASE WHEN number % 1000 = node THEN 'DISCONNECTED' ELSE 'ONLINE' END, 5 + number % 40, {NODE_SECONDS}
FROM generate_series(date_trunc('day', $2::timestamptz, 'UTC') - $3::int * INTERVAL '1 day', $2,
        INTERVAL '{NODE_SECONDS} seconds') WITH ORDINALITY AS reports (reported_at, number),
    generate_series(1, $4::int) AS node
WHERE (number + node) % 500 <> 0
ORDER BY reported_at, node
"""
# As a writer's rows lie: an hour after the other, in an hour by key.
_ROLL_UP = """
INSERT INTO {table} (bucket_key, {dimensions}, period, shard, event_count)
SELECT bucket_key, {dimensions}, date_trunc('{unit}', observed_at, 'UTC') AS period,
    CASE WHEN date_trunc('{closes}', observed_at, 'UTC') < date_trunc('{closes}', now() - $1::interval, 'UTC')
        THEN {merged} ELSE abs(hashtext(id)) % {shards} END AS shard,
    count(*)
FROM events GROUP BY 1, {numbers}
ORDER BY date_trunc('hour', date_trunc('{unit}', observed_at, 'UTC')), bucket_key, {dimensions}, period
"""


async def _maintained(plot: Plot, connection: asyncpg.Connection[asyncpg.Record], edition: str) -> None:
    """Rollups as the writer's transactions leave them, then every step of maintenance."""
    await connection.execute("ANALYZE events", timeout=600)
    settings = WriterSettings(database_dsn=plot.dsn)
    margin = timedelta(seconds=_MARGIN_SECONDS)
    if edition == "apache":
        for table, unit, closes, dimensions in (
            ("event_counts_minute", "minute", "hour", ("name",)),
            ("event_counts_hour", "hour", "hour", ("name", "app", "server")),
            ("event_counts_day", "day", "day", ("name", "app", "server")),
        ):
            statement = _ROLL_UP.format(
                table=table,
                unit=unit,
                closes=closes,
                dimensions=", ".join(dimensions),
                merged=MERGED_SHARD,
                shards=4,
                numbers=", ".join(str(number) for number in range(2, len(dimensions) + 4)),
            )
            await connection.execute(statement, margin, timeout=600)
    owner = await open_connection(settings, Duty.MAINTENANCE, command_seconds=900)
    try:
        await chunks.make_ahead(owner)
        if edition == "apache":
            await device_days.build(owner, _MARGIN_SECONDS)
            await shards.merge(owner, _MARGIN_SECONDS)
        else:
            await refresh.refresh_late(owner, _MARGIN_SECONDS)
            await retention.compress(owner, settings.compress_after_days)
    finally:
        await owner.close(timeout=5)
