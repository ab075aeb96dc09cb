"""A device's journal and counts equal those by hand: several buckets, late events, built days, retentions."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from query import journal
from query.execute import open_reader
from query.interval import DAY, SECOND, Interval, Unit
from query.journal import Occurrences, occurrences, scopes_of
from query.plan import HOUR
from query.request import Range
from schema.settings import ApiSettings
from tests.support.stored import Occurrence, stored_in

MOMENTS = st.builds(
    lambda days, step, by: (days, step, by),
    st.integers(-5 * DAY, 2 * HOUR),
    st.sampled_from([1, SECOND, HOUR, DAY]),
    st.sampled_from([0, 0, -1, 1]),
)
EVENTS = st.tuples(
    st.integers(0, 2),
    MOMENTS,
    st.sampled_from(["boot", "boot", "crash"]),
    st.sampled_from(["d1", "d1", "d2", ""]),
)


@dataclass(frozen=True, slots=True)
class Ask:
    start: tuple[int, int, int]
    end: tuple[int, int, int]
    interval: Interval | None
    older_first: bool
    name: str


ASKS = st.builds(
    Ask,
    MOMENTS,
    MOMENTS,
    st.sampled_from([None, Interval(Unit.HOUR), Interval(Unit.DAY)]),
    st.booleans(),
    st.sampled_from(["boot", "crash", "never"]),
)


# Days ago, at its first microsecond.
def days_ago(days: int) -> tuple[int, int, int]:
    return (-days * DAY, DAY, 0)


ALL_DAYS = Ask(days_ago(9), (HOUR, 1, 0), Interval(Unit.DAY), older_first=True, name="boot")
OLD = [(0, days_ago(3), "boot", "d1"), (1, days_ago(4), "boot", "d1")]


def at(moment: tuple[int, int, int], now: int) -> int:
    from_now, step, by = moment
    return (now + from_now) // step * step + by


@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(st.tuples(st.lists(EVENTS, max_size=10), st.booleans()), min_size=1, max_size=4),
    asks=st.lists(ASKS, min_size=1, max_size=6),
    retention=st.sampled_from([0, 0, DAY, 2 * DAY + 5]),
    # 0: as if each day were far from the others.
    near=st.sampled_from([0, journal.NEAR_DAYS]),
)
@example(batches=[(OLD, True), (OLD, False)], asks=[ALL_DAYS], retention=0, near=0)
@example(batches=[(OLD[1:], True)], asks=[ALL_DAYS], retention=DAY, near=0)
@example(batches=[(OLD, True)], asks=[ALL_DAYS], retention=DAY, near=0)
async def test_what_is_found_is_what_a_hand_finds(
    database_dsn: str,
    batches: list[tuple[list[tuple[int, tuple[int, int, int], str, str]], bool]],
    asks: list[Ask],
    retention: int,
    near: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "NEAR_DAYS", near)
    monkeypatch.setattr(journal, "MANY_DAYS", near)
    now = time.time_ns() // 1000
    with administration(database_dsn) as connection:
        owner = create_user(connection, f"{time.time_ns()}@example.com")
        workspace = create_workspace(connection, "ours")
        buckets = [create_bucket(connection, workspace, "b", owner_id=owner) for _ in range(3)]
        rows = connection.execute("SELECT bucket_id, bucket_key FROM buckets").fetchall()
    keys = {str(bucket_id): int(str(bucket_key)) for bucket_id, bucket_key in rows}
    # The third bucket is somebody else's; the second one's retention may be shorter.
    visible_from = [0, now - retention if retention else 0]
    scopes = scopes_of([(keys[buckets[n]], visible_from[n]) for n in range(2)])
    async with stored_in(database_dsn) as stored:
        reader = await open_reader(ApiSettings(database_dsn=database_dsn))
        for batch, (events, maintained) in enumerate(batches):
            for bucket in range(3):
                await stored.write(
                    buckets[bucket],
                    [
                        Occurrence(at(moment, now), f"{batch} {number}", name, device=device)
                        for number, (of, moment, name, device) in enumerate(events)
                        if of == bucket
                    ],
                )
            if maintained:
                await stored.maintain()
        for ask in asks:
            start, last = sorted((at(ask.start, now), at(ask.end, now)))
            seen = [
                event
                for n in range(2)
                for event in stored.model[buckets[n]].values()
                if (event.device, event.name) == ("d1", ask.name) and event.observed_at >= visible_from[n]
            ]
            asked = Occurrences(scopes, "d1", ask.name, Range(start, last + 1), ask.older_first)
            found = await reader.in_snapshot(partial(occurrences, asked=asked, interval=ask.interval))
            if not seen:
                assert found is None
                continue
            moments = [event.observed_at for event in seen if start <= event.observed_at <= last]
            assert found is not None
            assert found.rows == by_hand(moments, ask)
        await reader.close(5)


def by_hand(moments: list[int], ask: Ask) -> list[tuple[int, int]]:
    ordered = sorted(moments, reverse=not ask.older_first)
    if ask.interval is None:
        return [(moment // SECOND, 1) for moment in ordered]
    width = HOUR if ask.interval.unit is Unit.HOUR else DAY
    counted = Counter(moment // width * width // SECOND for moment in ordered)
    return list(counted.items())
