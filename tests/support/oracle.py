"""The oracle: after any trouble, what was acknowledged is stored, once, and every rollup equals a recount.

It reads the database directly, as a superuser, so that it does not depend on the code that it judges.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import TupleRow

Database = psycopg.Connection[TupleRow]

_LAG = "SELECT coalesce(sum(next_offset), 0) FROM partition_offsets WHERE topic = %s"


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 as drivers want them."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def wait_stored(dsn: str, topic: str, ends: dict[int, int], seconds: float = 60.0) -> None:
    """Until the writers have stored the topic up to ``ends`` (partition → end offset), unaided."""
    wanted = sum(ends.values())
    deadline = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(_LAG, [topic]).fetchone()
            assert row is not None
            if row[0] >= wanted:
                return
            assert time.monotonic() < deadline, f"{wanted - row[0]} records not stored after {seconds} s"
            time.sleep(0.1)


def stored_ids(dsn: str, bucket_id: str) -> list[str]:
    """The ids of all events of a bucket, as often as they are stored."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT id FROM events JOIN buckets USING (bucket_key) WHERE bucket_id = %s", [bucket_id]
        ).fetchall()
    return [row[0] for row in rows]


def check(dsn: str, bucket_id: str, acknowledged: set[str], unknown: set[str]) -> int:
    """All that was promised of a bucket; returns how many events are stored."""
    ids = stored_ids(dsn, bucket_id)
    assert len(ids) == len(set(ids)), f"{len(ids) - len(set(ids))} events are stored twice"
    lost = acknowledged - set(ids)
    assert not lost, f"{len(lost)} acknowledged events are not stored, among them {sorted(lost)[:3]}"
    alien = set(ids) - acknowledged - unknown
    assert not alien, f"{len(alien)} events are stored that nobody sent, among them {sorted(alien)[:3]}"
    check_rollups(dsn)
    return len(ids)


def check_rollups(dsn: str, bucket_id: str | None = None, *, living: bool = False) -> None:
    """Every rollup equals a recount of the raw rows; stale hours apart, which no reader takes from it.

    ``bucket_id``: of this bucket alone; ``living``: not of keys whose rows are being purged. Below the raw
    floor there are no rows to recount.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        (edition,) = connection.execute("SELECT edition FROM store_state").fetchone() or ("",)
        for rollup, period, dimensions in (
            ("event_counts_minute", "minute", "name"),
            ("event_counts_hour", "hour", "name, app, server"),
            ("event_counts_day", "day", "name, app, server"),
            ("device_counts_day", "day", "device, name"),
        ):
            # What questions read, and the whole of a real-time aggregate.
            for table in (f"{rollup}_built", *([rollup] if edition == "community" else [])):
                wrong = _differences(connection, (bucket_id, living), table, period, dimensions)
                assert not wrong, f"{table}: {len(wrong)} counts are wrong, among them {wrong[:3]}"


def _differences(
    connection: Database,
    asked: tuple[str | None, bool],
    table: str,
    period: str,
    dimensions: str,
) -> list[TupleRow]:
    rollup = table.removesuffix("_built")
    # Events without a device are left out of the rung of devices.
    counted = "device <> ''" if "device" in dimensions else "true"
    until = "'infinity'::timestamptz"
    if table != rollup:
        until = f"(SELECT complete_until FROM rollup_coverage WHERE rollup = '{rollup}')"
    wanted = (
        "(%(bucket)s::text IS NULL"
        " OR bucket_key = (SELECT bucket_key FROM buckets WHERE bucket_id = %(bucket)s))"
        " AND (NOT %(living)s OR bucket_key NOT IN"
        " (SELECT bucket_key FROM bucket_keys WHERE retired_at IS NOT NULL))"
    )
    floor = "(SELECT raw_floor FROM store_state)"
    return connection.execute(
        f"""
        WITH kept AS (
            SELECT bucket_key, period, {dimensions}, sum(event_count)::bigint AS event_count
            FROM {table} WHERE event_count <> 0 AND period >= {floor} AND period < {until} AND {wanted}
            GROUP BY bucket_key, period, {dimensions}
        ), counted AS (
            SELECT bucket_key, time_bucket('1 {period}', observed_at) AS period, {dimensions},
                   count(*) AS event_count
            FROM events
            WHERE {counted} AND observed_at >= {floor} AND observed_at < {until} AND {wanted}
            GROUP BY bucket_key, 2, {dimensions}
        )
        SELECT bucket_key, period, {dimensions}, kept.event_count, counted.event_count
        FROM kept FULL JOIN counted USING (bucket_key, period, {dimensions})
        WHERE coalesce(kept.event_count, 0) <> coalesce(counted.event_count, 0)
          AND NOT EXISTS (
              SELECT FROM rollup_stale_hours AS stale WHERE stale.rollup = '{rollup}'
                AND time_bucket('1 {"day" if period == "day" else "hour"}', stale.hour)
                  = time_bucket('1 {"day" if period == "day" else "hour"}', period))
        """,
        {"bucket": asked[0], "living": asked[1]},
    ).fetchall()
