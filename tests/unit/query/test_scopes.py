"""No statement that `query` builds sees another's rows: each part of each of them, whatever is asked."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import query
from query import devices, edges, journal, servers, sql, streams, uptime
from query.filters.conditions import Contains, Equals, Every, Not, Present, Some, Tag
from query.interval import DAY, Interval, Unit
from query.plan import HOUR, Knowledge, Plan, Slice, plan
from query.request import END_OF_TIME, Filters, Page, Range, Scope
from query.sql import Statement
from schema.tables import LADDER
from tests.support.scoped import TENANTS_TABLES, places

COMPLETE = {rung.table: END_OF_TIME for rung in LADDER}
BUCKET = "a" * 24
AT = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12
) | st.sampled_from(["' OR true --", "x) OR (true", "$1", "WHERE", "bucket_key = 1 OR", "events"])
LABELS = st.none() | TEXTS
SCOPES = st.builds(
    Scope,
    # A few keys, or more than a statement shows its planner.
    st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=3, unique=True).map(tuple)
    | st.integers(1, 2**30).map(lambda first: tuple(range(first, first + sql.FEW_KEYS + 5))),
    st.integers(0, 20_000 * DAY),
)
RANGES = st.builds(
    lambda start, length: Range(start, start + length), st.integers(0, 30_000 * DAY), st.integers(1, 90 * DAY)
)
INTERVALS = st.builds(Interval, st.sampled_from(Unit), st.integers(1, 90))
TAGS = st.builds(Tag, st.lists(TEXTS, min_size=1, max_size=3).map(tuple))
CONDITIONS = st.recursive(
    st.builds(Present, TAGS) | st.builds(Equals, TAGS, TEXTS) | st.builds(Contains, TAGS, TEXTS),
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=1, max_size=3).map(tuple).map(Every)
        | st.lists(inner, min_size=1, max_size=3).map(tuple).map(Some)
    ),
    max_leaves=5,
)
# Where a statement's text may name a table: each is looked at below.
COVERED = {
    "counts_by_period", "counted_by_period", "counts_by_app", "events_page", "list_statement", "holders",
    "counts_statement", "times", "counts", "stream_page", "stream_count", "stream_names", "statement",
    "stream_page_in_one_pass", "stream_total", "_counts", "_to_hours", "_of_hours", "_walks",
    "walk_statement", "_REGISTERED", "_NODES",
}  # fmt: skip


class Recorder:
    """In the place of a connection: keeps what is asked, finds nothing."""

    def __init__(self) -> None:
        self.asked: list[Statement] = []

    async def fetch(self, text: str, *arguments: Any, timeout: float | None = None) -> list[Any]:  # noqa: ARG002
        self.asked.append(Statement(text, arguments))
        return []

    async def cursor(self, text: str, *arguments: Any) -> Recorder:
        self.asked.append(Statement(text, arguments))
        return Nothing()


class Nothing(Recorder):
    """A cursor without rows."""

    async def fetch(self, *_wanted: Any, **_options: Any) -> list[Any]:
        return []


def inline(scope: Scope) -> list[Statement]:
    """What `edges` asks on its way from days to moments."""
    recorder: Any = Recorder()
    found = [
        edges.Edge("s1", AT, AT + timedelta(days=1), is_last=True),
        edges.Edge("s2", AT, AT + timedelta(hours=1), is_last=False),
    ]
    asyncio.run(edges.moments_of(recorder, scope, found, ["boot"]))
    assert len(recorder.asked) == 2
    walks = [edges.Walk("boot", AT, ["s2"])]
    return [*recorder.asked, edges.walk_statement(scope, walks, 64, is_last=False)]


def built(
    scopes: list[Scope], span: Range, interval: Interval, filters: Filters, condition: Any, text: str
) -> Iterator[tuple[Statement, list[Scope]]]:
    """Every statement of every builder, with the scopes that it may see."""
    first = scopes[0]
    stale = {rung.table: [span.start // HOUR * HOUR + 30 * HOUR] for rung in LADDER}
    known = Knowledge(stale, COMPLETE)
    way = plan(span, interval, filters.dimensions, known)
    alone = [first]
    yield sql.counts_by_period(first, way, interval, filters, Range(0, DAY)), alone
    yield sql.counts_by_app(first, way, filters, 10), alone
    yield sql.events_page(Page(first, span, filters, 10)), alone
    yield servers._counts(first, way), alone
    yield from ((one, alone) for one in inline(first))
    yield devices.list_statement(first, way, BUCKET, text, 10), alone
    yield devices.counts_statement(first, way, filters), alone
    yield journal.holders(first, way, filters), alone
    asked = journal.Occurrences(tuple(scopes), text, text, span)
    raw = [(scope, Plan((Slice(None, span.start, span.end),))) for scope in scopes]
    yield journal.times(asked, raw), scopes
    yield journal.counts(asked, raw, interval), scopes
    # One list of keys for all scopes, and, for each of another retention, a narrowing.
    everything = Scope(tuple(sorted(key for scope in scopes for key in scope.bucket_keys)))
    wanted = streams.Streams(tuple(scopes), (text,), text, span, 5, condition)
    yield streams.stream_page(wanted), [everything]
    yield streams.stream_count(wanted), [everything]
    yield streams.stream_names(wanted), [everything]
    names = streams.Names((span.start + span.end) // 2, (text, "boot"))
    yield streams.stream_page(wanted, names), [everything]
    yield streams.stream_count(wanted, names), [everything]
    for found in (None, names):
        yield streams.stream_page_in_one_pass(wanted, found), [everything]
        yield streams.stream_total(wanted, found, 9), [everything]
    yield uptime.statement(BUCKET, span.start, span.end + DAY), []
    yield Statement(devices._REGISTERED, (BUCKET, text)), []
    yield Statement(servers._NODES, (BUCKET, AT)), []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(SCOPES, min_size=1, max_size=3),
    RANGES,
    INTERVALS,
    st.builds(Filters, *[LABELS] * 4),
    CONDITIONS,
    TEXTS,
)
def test_every_place_that_names_a_table_says_whose_rows(
    scopes: list[Scope], span: Range, interval: Interval, filters: Filters, condition: Any, text: str
) -> None:
    for statement, seen in built(scopes, span, interval, filters, condition, text):
        keys = [scope.bucket_keys for scope in seen]
        allowed = [one[0] if len(one) == 1 else [*one] for one in keys]
        found = list(places(statement.text))
        assert found, statement.text
        for place in found:
            assert place.parameter is not None, (place.table, statement.text)
            assert statement.arguments[place.parameter - 1] in [*allowed, BUCKET], (place, statement.text)


def test_no_text_that_names_a_table_is_overlooked() -> None:
    """A new statement somewhere in the package has to be added above."""
    overlooked = []
    for path in Path(query.__path__[0]).rglob("*.py"):
        for name, text in _texts(ast.parse(path.read_text())):
            if re.search(rf"\b(?:FROM|JOIN)\s+(?:{TENANTS_TABLES}|\{{)", text) and name not in COVERED:
                overlooked.append(f"{path.name}: {name}")
    assert overlooked == []


def _texts(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(function or name of the module's level, text with its placeholders) of every string in a module."""
    for node in tree.body:
        for inner in ast.walk(node):
            owner = inner if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) else None
            if owner is not None:
                yield from ((owner.name, text) for text in _strings(owner))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield from ((node.targets[0].id, text) for text in _strings(node))


def _strings(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in inner.values
            )
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM events",
        "SELECT * FROM events WHERE name = $1::text",
        "SELECT * FROM events WHERE bucket_key = $1::integer OR true",
        "SELECT * FROM events WHERE (bucket_key = $1::integer OR true) AND name = 'a'",
        "SELECT * FROM (SELECT * FROM events) AS x WHERE bucket_key = $1::integer",
        "SELECT * FROM events WHERE name = 'a' UNION ALL SELECT 1 FROM devices WHERE bucket_id = $1",
        "SELECT * FROM events WHERE bucket_key <> $1::integer",
        "SELECT * FROM events ORDER BY (SELECT 1 WHERE bucket_key = $1::integer)",
        "SELECT * FROM events WHERE NOT bucket_key = $1::integer",
    ],
)
def test_the_reading_finds_what_is_unscoped(text: str) -> None:
    assert None in [place.parameter for place in places(text)]


def test_the_reading_follows_what_is_scoped() -> None:
    text = (
        "SELECT * FROM events WHERE bucket_key = ANY ($2::integer[]) AND (a OR b) GROUP BY 1"
        " UNION ALL (SELECT 1 FROM devices WHERE bucket_id = $1 AND device > 'x' ORDER BY 1 LIMIT 1)"
    )
    assert [place.parameter for place in places(text)] == [2, 1]
