"""Statements about devices and nodes: tenancy in each part, nothing of a request in the text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from query.devices import counts_statement, list_statement
from query.interval import DAY, Interval, Unit
from query.journal import Occurrences, counts, holders, scopes_of, times
from query.plan import HOUR, Knowledge, Plan, Slice, plan
from query.request import END_OF_TIME, Filters, Range, Scope
from query.sql import Statement
from query.uptime import statement
from schema.tables import LADDER

COMPLETE = {rung.table: END_OF_TIME for rung in LADDER}
SCOPES = st.builds(Scope, st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=4, unique=True).map(tuple))
RANGES = st.builds(
    lambda start, length: Range(start, start + length), st.integers(0, 30_000 * DAY), st.integers(1, 90 * DAY)
)
BUCKET = "a" * 24


def made(scopes: list[Scope], span: Range, device: str, name: str) -> list[tuple[Statement, list[Scope]]]:
    known = Knowledge({rung.table: [span.start // HOUR * HOUR + 30 * HOUR] for rung in LADDER}, COMPLETE)
    asked = Occurrences(tuple(scopes), device, name, span)
    ways = [(scope, plan(span, Interval(Unit.DAY), asked.filters.dimensions, known)) for scope in scopes]
    raw = [(scope, Plan((Slice(None, span.start, span.end),))) for scope in scopes]
    first, way = ways[0]
    return [
        (holders(first, way, asked.filters), [first]),
        (times(asked, raw), scopes),
        (counts(asked, ways, Interval(Unit.DAY)), scopes),
        (list_statement(first, way, BUCKET, device, 10), [first]),
        (counts_statement(first, way, Filters(device=device)), [first]),
    ]


@given(st.lists(SCOPES, min_size=1, max_size=3), RANGES)
def test_every_part_that_reads_a_table_begins_with_the_tenancy_predicate(
    scopes: list[Scope], span: Range
) -> None:
    for asked, seen in made(scopes, span, "d1", "boot"):
        tables = re.findall(r"FROM (events|\w+_counts_\w+|devices)\b", asked.text)
        guards = re.findall(
            r"FROM (?:events|\w+_counts_\w+|devices) WHERE (?:bucket_key = (?:ANY \()?|bucket_id = )\$(\d+)",
            asked.text,
        )
        assert tables
        assert len(guards) == len(tables)
        allowed = [
            scope.bucket_keys[0] if len(scope.bucket_keys) == 1 else [*scope.bucket_keys] for scope in seen
        ]
        for number in guards:
            assert asked.arguments[int(number) - 1] in [*allowed, BUCKET]


@given(st.lists(SCOPES, min_size=1, max_size=3), RANGES, st.text("'\"$;-", min_size=3, max_size=9))
def test_nothing_that_a_caller_wrote_is_in_the_text(scopes: list[Scope], span: Range, wicked: str) -> None:
    plain = made(scopes, span, "device", "name")
    for (harmless, _), (asked, _) in zip(plain, made(scopes, span, wicked, f"{wicked}-"), strict=True):
        assert asked.text == harmless.text
        assert wicked in asked.arguments


def test_every_look_at_nodes_names_the_bucket() -> None:
    text = statement(BUCKET, 5 * DAY, 9 * DAY).text
    tables = re.findall(r"FROM (?:node_reports|node_retirements)\s+WHERE bucket_id = \$1::text", text)
    assert len(tables) == len(re.findall(r"FROM (?:node_reports|node_retirements)", text)) == 8


def test_one_scope_for_each_retention() -> None:
    assert scopes_of([(3, 0), (1, 5), (2, 0)]) == (Scope((3, 2), 0), Scope((1,), 5))
    assert scopes_of([]) == ()
