"""Every answer of the planner equals a count by hand: late events, repeats, deletions, refreshes and all.

The database is written to by the writer's own transaction and refreshed by the writer's own maintenance, in
whichever edition it is. The hand counts over a model in memory, which never asks the database.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.tenancy.administration import administration, create_bucket, create_user, create_workspace
from api.tenancy.deletion import empty_bucket
from query.events import batches
from query.execute import Reader, open_reader, pool_options
from query.interval import DAY, SECOND, Interval, Unit
from query.metadata import names_by_app
from query.plan import HOUR
from query.request import Filters, Histogram, Metadata, Page, Range, Scope
from schema.connections import Duty, Pool, close_pool, open_pool
from schema.settings import ApiSettings
from tests.support.stored import Occurrence, Stored, stored_in

MINUTE = 60 * SECOND
BUCKETS = 2
BACK = 4 * DAY
AHEAD = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Offset:
    """A moment: so far from now, back to a multiple of ``step``, and ``by`` from there. Microseconds."""

    from_now: int
    step: int = 1
    by: int = 0

    def at(self, now: int) -> int:
        return (now + self.from_now) // self.step * self.step + self.by


@dataclass(frozen=True, slots=True)
class Store:
    """Events that are stored, at moments relative to now."""

    bucket: int
    events: tuple[tuple[Offset, int, str, str, str, str], ...]
    partition: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """The events of an earlier Store once more, on another partition."""

    which: int


@dataclass(frozen=True, slots=True)
class Maintain:
    late: bool


@dataclass(frozen=True, slots=True)
class Delete:
    bucket: int


@dataclass(frozen=True, slots=True)
class Ask:
    bucket: int
    start: Offset
    end: Offset
    interval: Interval
    filters: Filters


# Borders are more frequent than chance would have them; the last hours more than those before.
OFFSETS = st.builds(
    Offset,
    st.one_of(st.integers(-3 * HOUR, AHEAD), st.integers(-BACK, AHEAD)),
    st.sampled_from([1, MINUTE, HOUR, DAY]),
    st.sampled_from([0, 0, -1, 1]),
)
EVENTS = st.tuples(
    OFFSETS,
    st.integers(0, 3),
    st.sampled_from(["boot", "click", "größe"]),
    st.sampled_from(["", "shop"]),
    st.sampled_from(["", "s1"]),
    st.sampled_from(["", "d1"]),
)
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.sampled_from([1, 1, 2, 3, 5, 90]))
FILTERS = st.builds(
    Filters,
    st.sampled_from([None, "boot", "click", "größe", "never"]),
    st.sampled_from([None, None, "", "shop"]),
    st.sampled_from([None, None, "", "s1"]),
    st.sampled_from([None, None, None, "", "d1"]),
)
ASKS = st.builds(
    Ask,
    st.integers(0, BUCKETS - 1),
    OFFSETS,
    st.one_of(OFFSETS, st.just(Offset(AHEAD))),
    INTERVALS,
    FILTERS,
)
STORES = st.builds(
    Store, st.integers(0, BUCKETS - 1), st.lists(EVENTS, max_size=12).map(tuple), st.integers(0, 5)
)
STEPS = st.lists(
    st.one_of(
        STORES,
        STORES,
        st.builds(Repeat, st.integers(0, 5)),
        st.builds(Maintain, st.booleans()),
        st.builds(Delete, st.integers(0, BUCKETS - 1)),
        ASKS,
        ASKS,
    ),
    min_size=3,
    max_size=14,
)
FIRST, LAST = Offset(-BACK - 2 * DAY), Offset(AHEAD + DAY)
EVERYTHING = Ask(0, FIRST, LAST, Interval(Unit.DAY), Filters())


class World:
    """One database with a reader of the query API's rights, and two buckets that nobody used before."""

    def __init__(self, stored: Stored, reader: Reader, primary: Pool, dsn: str) -> None:
        self.stored = stored
        self.reader = reader
        self.primary = primary
        self.dsn = dsn
        self.buckets: list[str] = []
        self.now = 0
        # Below this moment raw rows are gone.
        self.floor = 0

    async def begin(self) -> None:
        with administration(self.dsn) as connection:
            workspace = create_workspace(connection, "w")
            owner = create_user(connection, f"{workspace}@example.com")
            self.buckets = [create_bucket(connection, workspace, "b", owner_id=owner) for _ in range(BUCKETS)]
        self.now = int(await self.stored.writer.fetchval("SELECT extract(epoch FROM now())")) * SECOND

    async def scope(self, bucket: int) -> Scope:
        key = await self.stored.writer.fetchval(
            "SELECT bucket_key FROM buckets WHERE bucket_id = $1", self.buckets[bucket]
        )
        return Scope((key,))

    def events_of(self, bucket: int) -> list[Occurrence]:
        return list(self.stored.model[self.buckets[bucket]].values())

    async def delete(self, bucket: int) -> None:
        expected = Counter((event.app, event.name) for event in self.events_of(bucket))

        async def count(connection: object, key: int) -> Counter[tuple[str, str]]:
            found = await names_by_app(connection, Metadata(Scope((key,)), Range(), Filters()))  # type: ignore[arg-type]
            return Counter({(e.app, name): n for e in found.apps for name, n in e.counts.items()})

        # No fence: records are handed to the writer one by one here, so none is on its way.
        async def no_ends() -> dict[int, int]:
            return {}

        deleted = await empty_bucket(
            self.primary, self.buckets[bucket], "weir.events", no_ends, count, acquire_seconds=5
        )
        assert deleted == expected
        self.stored.model[self.buckets[bucket]].clear()

    async def check(self, ask: Ask) -> None:
        scope = await self.scope(ask.bucket)
        a, b = ask.start.at(self.now), ask.end.at(self.now)
        asked = Range(min(a, b), max(a, b))
        matching = [event for event in self.events_of(ask.bucket) if matches(event, ask.filters)]
        await self.check_histogram(Histogram(scope, asked, ask.interval, ask.filters), matching)
        await self.check_names(Metadata(scope, asked, ask.filters), matching)
        await self.check_page(
            Page(scope, asked, ask.filters, limit=7, offset=ask.interval.count % 4), matching
        )

    async def check_histogram(self, asked: Histogram, matching: list[Occurrence]) -> None:
        points, plan = await self.reader.histogram(asked)
        within = [
            event.observed_at
            for event in matching
            if asked.range.start <= event.observed_at < asked.range.end
            and not any(gone.start <= event.observed_at < gone.end for gone in plan.left_out)
        ]
        assert {x: y for x, y in points if y} == Counter(
            asked.interval.period(at) // 1000 for at in within
        ), plan
        following = [asked.interval.following(x * 1000) // 1000 for x, _ in points[:-1]]
        assert [x for x, _ in points[1:]] == following
        assert not points or (points[0][1] and points[-1][1])

    async def check_names(self, asked: Metadata, matching: list[Occurrence]) -> None:
        found = await self.reader.in_snapshot(lambda connection: names_by_app(connection, asked))
        expected = Counter(
            (event.app, event.name)
            for event in matching
            if asked.range.start <= event.observed_at < asked.range.end
            and not any(gone.start <= event.observed_at < gone.end for gone in found.plan.left_out)
        )
        counted = [(entry.app, name, n) for entry in found.apps for name, n in entry.counts.items()]
        assert counted == [(app, name, n) for (app, name), n in sorted(expected.items())], found.plan

    async def check_page(self, page: Page, matching: list[Occurrence]) -> None:
        rows = [row async for batch in batches(self.reader, page) for row in batch]
        expected = sorted(
            (
                event
                for event in matching
                if max(page.range.start, self.floor) <= event.observed_at < page.range.end
            ),
            key=lambda event: (-event.observed_at, event.id.encode()),
        )[page.offset : page.offset + page.limit]
        assert [(row["at"], row["id"], row["name"]) for row in rows] == [
            (event.observed_at // 1000, event.id, event.name) for event in expected
        ]


def matches(event: Occurrence, filters: Filters) -> bool:
    return all(getattr(event, label) == value for label, value in filters.wanted.items())


@asynccontextmanager
async def world_of(dsn: str) -> AsyncIterator[World]:
    api = ApiSettings(database_dsn=dsn)
    primary = await open_pool(api, Duty.API, server_settings=pool_options(api), command_seconds=30)
    reader = await open_reader(api)
    try:
        async with stored_in(dsn) as stored:
            world = World(stored, reader, primary, dsn)
            await world.begin()
            yield world
    finally:
        await reader.close(5)
        await close_pool(primary, 5)


async def play(world: World, steps: list[object]) -> None:
    written: list[tuple[str, list[Occurrence], int]] = []
    for step in steps:
        match step:
            case Store(bucket, events, partition):
                made = [
                    Occurrence(at.at(world.now), f"é{number}", name, app, server, device)
                    for at, number, name, app, server, device in sorted(events, key=lambda event: event[2:])
                ]
                written.append((world.buckets[bucket], made, partition))
                await world.stored.write(*written[-1][:2], partition=partition)
            case Repeat(which) if written:
                bucket_id, made, partition = written[which % len(written)]
                await world.stored.write(bucket_id, made, partition=partition + 6)
            case Maintain(late):
                await world.stored.maintain(late=late)
            case Delete(bucket):
                await world.delete(bucket)
            case Ask():
                await world.check(step)
            case _:
                pass
    for bucket in range(BUCKETS):
        for interval in (Interval(Unit.DAY), Interval(Unit.HOUR), Interval(Unit.MINUTE, 5)):
            await world.check(Ask(bucket, FIRST, LAST, interval, Filters()))
    assert world.stored.letters == []


LATE = ((Offset(-30 * HOUR), 0, "boot", "shop", "s1", "d1"), (Offset(-29 * HOUR), 1, "boot", "", "", ""))

# Minutes of the open hour that are materialized by now, and others: late although their hour is open.
SOON = tuple((Offset(-minutes * MINUTE), minutes, "boot", "shop", "s1", "d1") for minutes in range(0, 60, 3))
SOON_LATE = tuple((Offset(-minutes * MINUTE), minutes, "boot", "", "", "") for minutes in range(1, 60, 3))


@pytest.mark.timeout(400)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
@example(
    steps=[Store(0, LATE[:1], 0), Maintain(True), Store(0, LATE, 1), EVERYTHING, Maintain(True), EVERYTHING]
)
@example(
    steps=[Store(0, SOON, 0), Maintain(False), Store(0, SOON_LATE, 1), EVERYTHING, Maintain(True), EVERYTHING]
)
@example(steps=[Store(0, LATE, 0), Maintain(True), Delete(0), EVERYTHING, Store(0, LATE, 0), EVERYTHING])
async def test_every_plan_counts_what_a_count_by_hand_counts(database_dsn: str, steps: list[object]) -> None:
    async with world_of(database_dsn) as world:
        await play(world, steps)


DENSE = tuple(
    Occurrence(
        0, f"{hour}", ("boot", "click")[hour % 2], ("", "shop")[hour % 3 % 2], "", ("", "d1")[hour % 2]
    )
    for hour in range(-100, 2)
)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("filters", [Filters("boot"), Filters(None, "shop"), Filters("click", device="d1")])
async def test_counts_outlive_raw_rows_and_what_nothing_can_answer_is_named(
    database_dsn: str, filters: Filters
) -> None:
    async with world_of(database_dsn) as world:
        events = [
            Occurrence(world.now + int(e.id) * HOUR + 7 * SECOND, e.id, e.name, e.app, e.server, e.device)
            for e in DENSE
        ]
        await world.stored.write(world.buckets[0], events)
        await world.stored.drop_raw_rows(days=2)
        world.floor = (world.now - 2 * DAY) // DAY * DAY
        for interval in (
            Interval(Unit.DAY),
            Interval(Unit.HOUR),
            Interval(Unit.MINUTE),
            Interval(Unit.SECOND),
        ):
            for start in (FIRST, Offset(-3 * DAY), Offset(-3 * DAY, HOUR), Offset(-3 * DAY, DAY, 1)):
                await world.check(Ask(0, start, LAST, interval, filters))
        scope = await world.scope(0)
        whole_days = Range(FIRST.at(world.now) // DAY * DAY, LAST.at(world.now))
        points, plan = await world.reader.histogram(
            Histogram(scope, whole_days, Interval(Unit.DAY), Filters("boot"))
        )
        assert plan.left_out == ()
        assert sum(y for _, y in points) == sum(event.name == "boot" for event in events)
        await world.stored.write(world.buckets[0], [Occurrence(world.floor - 1, "too late")])
        assert [letter.kind for letter in world.stored.letters] == ["floor"]


async def test_what_is_past_a_buckets_retention_is_seen_by_nobody(database_dsn: str) -> None:
    async with world_of(database_dsn) as world:
        moments = [world.now - hours * HOUR for hours in range(60)]
        await world.stored.write(world.buckets[0], [Occurrence(at, str(at)) for at in moments])
        (key,) = (await world.scope(0)).bucket_keys
        scope = Scope((key,), visible_from=world.now - 30 * HOUR + 1)
        everything = Filters("boot")
        points, _ = await world.reader.histogram(
            Histogram(scope, Range(0, LAST.at(world.now)), Interval(Unit.DAY), everything)
        )
        found = await world.reader.in_snapshot(
            lambda connection: names_by_app(connection, Metadata(scope, Range(), everything))
        )
        rows = [
            row
            async for batch in batches(world.reader, Page(scope, Range(), everything, 100))
            for row in batch
        ]
        assert sum(y for _, y in points) == 30
        assert found.apps[0].counts == {"boot": 30}
        assert len(rows) == 30


async def test_two_buckets_in_one_scope_are_counted_together_and_no_third(database_dsn: str) -> None:
    async with world_of(database_dsn) as world:
        first, second = world.buckets
        await world.begin()
        third = world.buckets[0]
        for bucket, count in ((first, 1), (second, 2), (third, 40)):
            await world.stored.write(bucket, [Occurrence(world.now - i * HOUR, "x") for i in range(count)])
        rows = await world.stored.writer.fetch(
            "SELECT bucket_key FROM buckets WHERE bucket_id = ANY ($1)", [first, second]
        )
        scope = Scope(tuple(row["bucket_key"] for row in rows))
        for asked, expected in ((scope, 3), (Scope(()), 0)):
            points, _ = await world.reader.histogram(
                Histogram(asked, Range(0, LAST.at(world.now)), Interval(Unit.WEEK), Filters())
            )
            page = Page(asked, Range(), Filters(), 100)
            rows = [row async for batch in batches(world.reader, page) for row in batch]
            assert sum(y for _, y in points) == expected
            assert len(rows) == expected
