"""The database's statistics of a day equal a slow count by hand, at every edge, for days past and today."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from query.interval import DAY, SECOND
from query.plan import HOUR
from query.request import moment
from query.uptime import NodeDay, node_days
from schema.connections import Connection, Duty, open_connection
from schema.settings import ApiSettings

BUCKET, OTHER_BUCKET = "a" * 24, "b" * 24
TODAY = 1_790_000_000 * SECOND // DAY * DAY
MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Report:
    """One node report; ``at`` in microseconds since 1970."""

    at: int
    node: tuple[str, str] = ("10.0.0.1", "a.example")
    status: str = "ONLINE"
    interval_seconds: int = 60
    latency_ms: float | None = None
    version: str = "1"


@dataclass(frozen=True, slots=True)
class Retirement:
    at: int
    node: tuple[str, str] = ("10.0.0.1", "a.example")


def by_hand(reports: list[Report], retirements: list[Retirement], now: int) -> list[NodeDay]:
    """The formula, one moment after the other: slow, and nothing to be clever about."""
    found = []
    for node in sorted({report.node for report in reports}, key=lambda node: (node[1], node[0])):
        day = _day_by_hand(
            sorted((report for report in reports if report.node == node), key=lambda report: report.at),
            [gone.at for gone in retirements if gone.node == node],
            node,
            min(TODAY + DAY, now),
        )
        if day is not None:
            found.append(day)
    return found


def _day_by_hand(
    reports: list[Report], retired: list[int], node: tuple[str, str], end: int
) -> NodeDay | None:
    reports = [report for report in reports if report.at < end]
    if not reports or reports[-1].at <= end - 7 * DAY:
        return None
    borders = {TODAY, end, *retired}
    for report in reports:
        borders |= {report.at, report.at + 3 * report.interval_seconds * SECOND}
    inside = sorted(border for border in borders if TODAY <= border <= end)
    online = observed = 0
    state: str | None = None
    for start, until in pairwise(inside):
        state = _state(reports, retired, start)
        observed += until - start if state is not None else 0
        online += until - start if state == "ONLINE" else 0
    if observed == 0 or state is None:
        return None
    today = [report.latency_ms for report in reports if report.at >= TODAY and report.latency_ms is not None]
    earlier = [report for report in reports if report.at < TODAY][-1:]
    latencies = [report.latency_ms for report in earlier if report.latency_ms is not None] + today
    mean = sum((Decimal(str(latency)) for latency in today), Decimal()) / len(today) if today else None
    return NodeDay(
        ip=node[0],
        host=node[1],
        uptime_percent=_rounded(Fraction(100 * online, observed), "0.01"),
        average_latency_ms=None if mean is None else _rounded(Fraction(mean), "1"),
        version=reports[-1].version,
        status=state,
        last_updated_at=moment(reports[-1].at),
        last_latency_ms=latencies[-1] if latencies else None,
    )


def _state(reports: list[Report], retired: list[int], at: int) -> str | None:
    """The node's state from ``at`` on; None: not observed."""
    before = [report for report in reports if report.at <= at]
    if not before:
        return None
    last = before[-1]
    if any(last.at <= gone <= at for gone in retired):
        return None
    return last.status if at < last.at + 3 * last.interval_seconds * SECOND else "OFFLINE"


def _rounded(exact: Fraction, step: str) -> float:
    steps = exact / Fraction(step)
    whole = math.floor(steps + Fraction(1, 2))
    return float((Decimal(whole) * Decimal(step)).quantize(Decimal(step), ROUND_HALF_UP))


# Moments near the edges of the day and of what a report holds are more frequent than chance would have them.
MOMENTS = st.builds(
    lambda around, away, by: TODAY + around + away + by,
    st.sampled_from([0, 0, DAY, DAY, 12 * HOUR, -3 * HOUR, -DAY, -6 * DAY, -7 * DAY, -8 * DAY]),
    st.one_of(
        st.sampled_from([0, 3 * SECOND, 30 * SECOND, MINUTE, 3 * MINUTE, 4 * MINUTE, HOUR, 3 * HOUR]),
        st.integers(-HOUR, HOUR),
        st.integers(-DAY, DAY),
    ),
    st.sampled_from([0, 0, 0, -1, 1]),
)
NODES = st.sampled_from([("10.0.0.1", "a.example"), ("10.0.0.1", "b.example"), ("", "a.example")])
REPORTS = st.builds(
    Report,
    MOMENTS,
    NODES,
    st.sampled_from(["ONLINE", "ONLINE", "ONLINE", "OFFLINE", "DISCONNECTED"]),
    st.sampled_from([1, 60, 600, 3600]),
    st.one_of(st.none(), st.integers(0, 2_000_000).map(lambda thousandths: thousandths / 1000)),
    st.sampled_from(["", "1", "2.0"]),
)
NOW = st.one_of(MOMENTS, st.just(TODAY + 30 * DAY))


@pytest.fixture
def world(database_dsn: str) -> Iterator[tuple[asyncio.Runner, Connection, Connection]]:
    settings = ApiSettings(database_dsn=database_dsn)
    with asyncio.Runner() as runner:
        owner = runner.run(open_connection(settings, Duty.MAINTENANCE))
        reader = runner.run(open_connection(settings, Duty.API))
        runner.run(owner.execute(BUCKETS))
        yield runner, owner, reader
        for connection in (reader, owner):
            runner.run(connection.close(timeout=5))


BUCKETS = f"""
INSERT INTO workspaces VALUES ('{"c" * 24}', 'tests');
INSERT INTO bucket_keys (bucket_id) VALUES ('{BUCKET}'), ('{OTHER_BUCKET}');
INSERT INTO buckets (bucket_id, bucket_key, workspace_id, name)
SELECT bucket_id, bucket_key, '{"c" * 24}', 'tests' FROM bucket_keys;
"""
INSERT_REPORTS = """
INSERT INTO node_reports (bucket_id, observed_at, host, ip, received_at, version, status, latency_ms,
    interval_seconds)
VALUES ($1, $2, $3, $4, now(), $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""


async def fill(owner: Connection, reports: list[Report], retirements: list[Retirement]) -> None:
    await owner.execute("DELETE FROM node_reports; DELETE FROM node_retirements")
    # Another bucket has the same nodes, and other reports of them.
    others = [replace(r, at=r.at + 7 * SECOND, status="DISCONNECTED", latency_ms=9.0) for r in reports]
    await owner.executemany(
        INSERT_REPORTS,
        [
            (
                bucket,
                moment(r.at),
                r.node[1],
                r.node[0],
                r.version,
                r.status,
                r.latency_ms,
                r.interval_seconds,
            )
            for bucket, found in ((BUCKET, reports), (OTHER_BUCKET, others))
            for r in found
        ],
    )
    await owner.executemany(
        "INSERT INTO node_retirements VALUES ($1, $2, $3, $4)",
        [
            (bucket, gone.node[0], gone.node[1], moment(gone.at + apart))
            for bucket, apart in ((BUCKET, 0), (OTHER_BUCKET, MINUTE))
            for gone in retirements
        ],
    )


async def check(
    owner: Connection, reader: Connection, reports: list[Report], retirements: list[Retirement], now: int
) -> None:
    # The same node at the same moment twice: the first holds.
    kept = list({(report.node, report.at): report for report in reversed(reports)}.values())
    await fill(owner, reports, list(dict.fromkeys(retirements)))
    expected = by_hand(kept, retirements, now) if now > TODAY else []
    assert (await node_days(reader, BUCKET, TODAY + DAY // 3, now)).nodes == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reports=st.lists(REPORTS, max_size=14),
    retirements=st.lists(st.builds(Retirement, MOMENTS, NODES), max_size=3),
    now=NOW,
)
@example(
    reports=[Report(TODAY + HOUR, interval_seconds=3600), Report(TODAY + 3 * HOUR)],
    retirements=[Retirement(TODAY + 2 * HOUR)],
    now=TODAY + DAY,
)
@example(reports=[Report(TODAY + DAY - 3 * MINUTE)], retirements=[], now=TODAY + 2 * DAY)
@example(reports=[Report(TODAY - 3 * MINUTE)], retirements=[], now=TODAY + DAY)
@example(reports=[Report(TODAY + DAY - 1)], retirements=[], now=TODAY + 2 * DAY)
@example(reports=[Report(TODAY)], retirements=[Retirement(TODAY)], now=TODAY + DAY)
@example(reports=[Report(TODAY - 6 * DAY), Report(TODAY + HOUR)], retirements=[], now=TODAY + 2 * HOUR)
@example(reports=[Report(TODAY - 6 * DAY)], retirements=[], now=TODAY + DAY)
@example(reports=[Report(TODAY - 6 * DAY + 1)], retirements=[], now=TODAY + DAY)
@example(reports=[Report(TODAY - 400 * DAY), Report(TODAY + DAY // 2)], retirements=[], now=TODAY + DAY)
def test_the_database_counts_what_a_hand_counts(
    world: tuple[asyncio.Runner, Connection, Connection],
    reports: list[Report],
    retirements: list[Retirement],
    now: int,
) -> None:
    runner, owner, reader = world
    runner.run(check(owner, reader, reports, retirements, now))
