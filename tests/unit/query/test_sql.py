"""The statements: the tenancy predicate in each part, nothing of a request in the text."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query import sql
from query.interval import DAY, SECOND, Interval, Unit
from query.pages import Place
from query.plan import HOUR, Knowledge, Plan, plan
from query.request import END_OF_TIME, Filters, Page, Range, Scope, moment
from schema.tables import LADDER

COMPLETE = {rung.table: END_OF_TIME for rung in LADDER}
LABELS = st.one_of(
    st.none(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
)
FILTERS = st.builds(Filters, LABELS, LABELS, LABELS, LABELS)
SCOPES = st.builds(Scope, st.lists(st.integers(1, 2**31 - 1), max_size=4).map(tuple))
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, 90))
RANGES = st.builds(
    lambda start, length: Range(start, start + length), st.integers(0, 30_000 * DAY), st.integers(1, 90 * DAY)
)


def made(scope: Scope, asked: Range, interval: Interval, filters: Filters) -> list[sql.Statement]:
    stale = {rung.table: [asked.start // HOUR * HOUR + 30 * HOUR] for rung in LADDER}
    way = plan(asked, interval, filters.dimensions, Knowledge(stale, COMPLETE))
    return [
        sql.counts_by_period(scope, way, interval, filters, Range(0, DAY)),
        sql.counts_by_app(scope, way, filters, 10),
        sql.events_page(Page(scope, asked, filters, 10)),
        sql.events_page(Page(scope, asked, filters, 10), Place((asked, Range(0, DAY)), 3)),
    ]


@given(SCOPES, RANGES, INTERVALS, FILTERS)
def test_every_part_that_reads_a_table_begins_with_the_tenancy_predicate(
    scope: Scope, asked: Range, interval: Interval, filters: Filters
) -> None:
    keys = scope.bucket_keys
    for statement in made(scope, asked, interval, filters):
        tables = re.findall(r"FROM (events|\w+_counts_\w+)\b", statement.text)
        guarded = re.findall(
            r"FROM (?:events|\w+_counts_\w+) WHERE bucket_key = (?:ANY \()?\$(\d+)::integer", statement.text
        )
        assert tables
        assert len(guarded) == len(tables)
        for number in guarded:
            assert statement.arguments[int(number) - 1] == (keys[0] if len(keys) == 1 else list(keys))


@given(SCOPES, RANGES, INTERVALS, st.text("'\"$;-", min_size=3, max_size=9))
def test_nothing_that_a_caller_wrote_is_in_the_text(
    scope: Scope, asked: Range, interval: Interval, wicked: str
) -> None:
    plain = made(scope, asked, interval, Filters("a", "b", "c"))
    for harmless, statement in zip(
        plain, made(scope, asked, interval, Filters(wicked, "b", "c")), strict=True
    ):
        assert statement.text == harmless.text
        assert wicked in statement.arguments


@given(SCOPES, RANGES, INTERVALS, FILTERS)
def test_how_the_writer_spreads_its_counts_is_none_of_the_readers_business(
    scope: Scope, asked: Range, interval: Interval, filters: Filters
) -> None:
    for statement in made(scope, asked, interval, filters):
        assert "shard" not in statement.text
        assert "bucket_id" not in statement.text


def test_one_key_is_compared_by_equality_which_keeps_an_index_in_order() -> None:
    text = sql.events_page(Page(Scope((7,)), Range(), Filters("a"), 10)).text
    assert "bucket_key = $1::integer AND name = $2::text" in text


def test_thousands_of_keys_are_hidden_from_the_planner_and_none_is_left_out() -> None:
    keys = tuple(range(1, sql.FEW_KEYS + 2))
    for write, shape in (
        (sql.tenancy, "bucket_key = ANY ((SELECT $1::integer[])::integer[])"),
        (sql.tenancy_of_rows, "coalesce(bucket_key IN (SELECT unnest($1::integer[])), false)"),
    ):
        arguments = sql.Arguments()
        assert write(keys, arguments) == shape
        assert arguments.values == [list(keys)]
        assert write(keys[1:], sql.Arguments()) == "bucket_key = ANY ($1::integer[])"


def test_retention_is_part_of_every_page() -> None:
    statement = sql.events_page(Page(Scope((7,), visible_from=5 * SECOND), Range(), Filters("a"), 10))
    assert moment(5 * SECOND) in statement.arguments


@pytest.mark.parametrize(
    ("interval", "grouped"),
    [
        (Interval(Unit.MONTH, 3), "date_trunc('month', period, 'UTC')"),
        (Interval(Unit.WEEK), "date_bin($1::interval, period, $2::timestamptz)"),
    ],
)
def test_periods_are_cut_by_the_database(interval: Interval, grouped: str) -> None:
    way = plan(Range(0, 365 * DAY), interval, ["name"], Knowledge({}, COMPLETE))
    statement = sql.counts_by_period(Scope((1,)), way, interval, Filters("a"), Range(0, DAY))
    assert grouped in statement.text
    if interval.width is not None:
        assert statement.arguments[:2] == (timedelta(days=7), moment(-3 * DAY))


def test_a_plan_without_slices_is_never_made_into_a_statement() -> None:
    assert plan(Range(5, 5), None, [], Knowledge()) == Plan(())
