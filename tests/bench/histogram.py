"""Histogram through the planner and the ladder, against the same question to raw rows: server-side time.

Two days, four buckets of equal size; one of them is asked for its one event name, as the surface asks: for a
name. Four apps run on two servers each. Rollups hold what the writer and maintenance would have left: every
shard has a part of every open period, and the shards of closed ones are merged. Times are PostgreSQL's own,
planning and execution; the wall time through ``Reader`` stands beside them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson

from ingest.writer import refresh, shards
from query import sql
from query.execute import Reader, hours_around, open_reader, planned
from query.interval import Interval, Unit
from query.plan import Plan, Slice
from query.request import Filters, Histogram, Range, Scope
from schema.settings import ApiSettings
from tests.bench import ground, recount
from tests.bench.arithmetic import summary
from tests.bench.figures import Figure, say
from tests.bench.ground import Ground, Plot
from tests.bench.scale import Scale

DAYS = 2
NAMES = 10
APPS = 4
SERVERS_OF_APP = 2
DEVICES = 1000
SHARDS = 4
_MARGIN_SECONDS = 60.0

_FILL = f"""
INSERT INTO events
SELECT bucket_key, 'name-' || name, 'events', 'app-' || app,
       'server-' || app || '-' || floor(random() * {SERVERS_OF_APP})::int, observed_at,
       gen_random_uuid()::text, observed_at, 'device-' || floor(random() * {DEVICES})::int,
       jsonb_build_object('value', number, 'message', 'request served')
FROM (
    SELECT ($3::int[])[1 + number % $4] AS bucket_key, number, floor(random() * {APPS})::int AS app,
           CASE WHEN number % $4 = 0 THEN 0 ELSE floor(random() * {NAMES})::int END AS name,
           $1::timestamptz + random() * INTERVAL '{DAYS} days' AS observed_at
    FROM generate_series($5::int, $6::int) AS number
) AS drawn
WHERE observed_at < $2
"""
_ROLL_UP = f"""
INSERT INTO event_counts_minute (bucket_key, name, period, shard, event_count)
SELECT bucket_key, name, time_bucket('1 minute', observed_at), abs(hashtext(id)) % {SHARDS}, count(*)
FROM events GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
INSERT INTO event_counts_hour (bucket_key, name, app, server, period, shard, event_count)
SELECT bucket_key, name, app, server, time_bucket('1 hour', observed_at),
       abs(hashtext(id)) % {SHARDS}, count(*)
FROM events GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 5, 3, 4, 6;
INSERT INTO event_counts_day (bucket_key, name, app, server, period, shard, event_count)
SELECT bucket_key, name, app, server, time_bucket('1 day', observed_at),
       abs(hashtext(id)) % {SHARDS}, count(*)
FROM events GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 5, 3, 4, 6;
"""
_RUNGS = ("event_counts_minute", "event_counts_hour", "event_counts_day")
_PORTION = 250_000


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """By minute and by hour. Raises Void when an answer differs from the raw rows'."""
    async with ground.plot(where) as plot:
        connection = await ground.connected(plot.dsn)
        end = datetime.now(UTC)
        await _fill(connection, plot, scale.histogram_rows, end)
        reader = await open_reader(_api_settings(plot, settings))
        try:
            figures = []
            for unit in (Unit.MINUTE, Unit.HOUR):
                scope, asked = Scope((plot.buckets[0].bucket_key,)), Filters(name="name-0")
                question = Histogram(scope, _last_days(end), Interval(unit), asked)
                figures.append(await _compared(connection, reader, question, scale, unit))
        finally:
            await reader.close(2.0)
            await connection.close(timeout=5)
    return figures


def _api_settings(plot: Plot, settings: dict[str, str]) -> ApiSettings:
    """What the query API would be told: ``settings`` has variables of its environment."""
    given = {name.removeprefix("WEIR_").lower(): value for name, value in settings.items()}
    return ApiSettings.model_validate({**given, "database_dsn": plot.dsn})


async def _fill(connection: asyncpg.Connection[asyncpg.Record], plot: Plot, rows: int, end: datetime) -> None:
    begun = time.monotonic()
    keys = [bucket.bucket_key for bucket in plot.buckets]
    start = end - timedelta(days=DAYS)
    for first in range(1, rows + 1, _PORTION):
        last = min(first + _PORTION - 1, rows)
        await connection.execute(_FILL, start, end, keys, len(keys), first, last)
    if await connection.fetchval("SELECT edition FROM store_state") == "apache":
        await connection.execute(_ROLL_UP)
        await shards.merge(connection, _MARGIN_SECONDS)
    else:
        await refresh.refresh_current(connection, _MARGIN_SECONDS)
    for table in ("events", *_RUNGS):
        await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.execute("CHECKPOINT")
    say(f"histogram: {rows:,} rows ready after {time.monotonic() - begun:.0f} s")


def _last_days(end: datetime) -> Range:
    until = round(end.timestamp() * 1_000_000)
    return Range(until - DAYS * 86_400_000_000, until)


async def _compared(
    connection: asyncpg.Connection[asyncpg.Record],
    reader: Reader,
    question: Histogram,
    scale: Scale,
    unit: Unit,
) -> Figure:
    raw = Plan((Slice(None, question.range.start, question.range.end),))
    ladder = await reader.in_snapshot(
        lambda snapshot: planned(snapshot, question.range, question.interval, question.filters.dimensions)
    )
    points, _ = await reader.histogram(question)
    counted = await _counted(connection, question)
    if sum(count for _, count in points) != counted:
        raise recount.Void(
            f"the histogram counts {sum(count for _, count in points)}, the rows are {counted}"
        )
    raw_ms: list[float] = []
    ladder_ms: list[float] = []
    wall_ms: list[float] = []
    for _ in range(scale.histogram_rounds + 1):
        raw_ms.append(await _server_ms(connection, question, raw))
        ladder_ms.append(await _server_ms(connection, question, ladder))
        begun = time.monotonic()
        await reader.histogram(question)
        wall_ms.append((time.monotonic() - begun) * 1000)
    # The first round warms caches.
    raw_ms, ladder_ms, wall_ms = raw_ms[1:], ladder_ms[1:], wall_ms[1:]
    say(f"histogram by {unit}: raw {raw_ms}, ladder {ladder_ms}, wall {wall_ms} ms")
    return Figure(
        f"histogram of {DAYS} days by {unit}: raw scan ÷ ladder",
        summary([raw / mine for raw, mine in zip(raw_ms, ladder_ms, strict=True)]),
        "times faster",
        f"histogram_{unit}",
        rate=summary(ladder_ms),
        against=summary(raw_ms),
        rate_unit="ms",
        facts={
            "rows": scale.histogram_rows,
            "rows_of_bucket": counted,
            "names": NAMES,
            "apps": APPS,
            "servers_of_app": SERVERS_OF_APP,
            "shards": SHARDS,
            "points": len(points),
            "wall_ms": summary(wall_ms),
            "plan": [
                f"{piece.rung.table if piece.rung else 'events'}: {(piece.end - piece.start) / 1e6:.0f} s"
                for piece in ladder.slices
            ],
        },
    )


async def _counted(connection: asyncpg.Connection[asyncpg.Record], question: Histogram) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM events WHERE bucket_key = $1 AND observed_at >= to_timestamp($2::float8)"
            " AND observed_at < to_timestamp($3::float8)",
            question.scope.bucket_keys[0],
            question.range.start / 1e6,
            question.range.end / 1e6,
        )
    )


async def _server_ms(connection: asyncpg.Connection[asyncpg.Record], question: Histogram, way: Plan) -> float:
    """Planning and execution of the statement for this way."""
    statement = sql.counts_by_period(
        question.scope, way, question.interval, question.filters, hours_around(question.range)
    )
    text = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement.text}"
    (found,) = orjson.loads(await connection.fetchval(text, *statement.arguments))
    explained: dict[str, Any] = found
    return float(explained["Planning Time"]) + float(explained["Execution Time"])
