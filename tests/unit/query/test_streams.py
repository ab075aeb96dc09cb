"""The statements of streams: whose rows they can see, and that values are parameters."""

from __future__ import annotations

import re

import pytest

from query.filters.conditions import Equals, Not, Present, Some, Tag
from query.interval import DAY
from query.request import END_OF_TIME, Range, Scope
from query.streams import (
    Moment,
    Sorting,
    Streams,
    stream_count,
    stream_page,
    stream_page_in_one_pass,
    stream_total,
)

TAG = Tag(("x'; DROP TABLE events; --",))
SORTINGS = [Sorting(by, down) for by in (*Moment, TAG) for down in (True, False)]
SCOPES = [
    (),
    (Scope((3,)),),
    (Scope((3, 4)),),
    (Scope((3,)), Scope((4, 5), 7 * DAY), Scope((6,), 9 * DAY)),
]


def asked(scopes: tuple[Scope, ...], sorting: Sorting = SORTINGS[0], start: int = 0) -> Streams:
    condition = Some((Equals(TAG, "' OR true --"), Not(Present(TAG))))
    return Streams(scopes, ("d'1", "d2"), "ra'w", Range(start, END_OF_TIME), 5, condition, sorting)


@pytest.mark.parametrize("scopes", SCOPES)
@pytest.mark.parametrize("sorting", SORTINGS)
def test_the_first_predicate_of_whatever_reads_events_is_the_tenancy(
    scopes: tuple[Scope, ...], sorting: Sorting
) -> None:
    keys = sorted(key for scope in scopes for key in scope.bucket_keys)
    question = asked(scopes, sorting)
    for statement in (
        stream_page(question),
        stream_page_in_one_pass(question),
        stream_count(question),
        stream_total(question, None, 9),
    ):
        reads = re.findall(r"FROM events\s+WHERE (bucket_key = (?:ANY \()?\$(\d+)::integer)", statement.text)
        assert len(reads) == len(re.findall(r"\bevents\b", statement.text)) == 1
        given = statement.arguments[int(reads[0][1]) - 1]
        assert (given if isinstance(given, list) else [given]) == keys
        # A condition that is true of everything stays within its own parentheses.
        assert re.search(r"AND \(.* OR NOT .*\)(\s+(ORDER BY|LIMIT)|\)\) AS )", statement.text)


def test_values_are_parameters_each_of_them_used() -> None:
    asks = [asked(SCOPES[3], sorting) for sorting in SORTINGS]
    for statement in (*map(stream_page, asks), *map(stream_page_in_one_pass, asks)):
        assert "DROP" not in statement.text
        assert "d'1" not in statement.text
        assert "ra'w" not in statement.text
        numbers = {int(number) for number in re.findall(r"\$(\d+)", statement.text)}
        assert numbers == set(range(1, len(statement.arguments) + 1))


def test_a_shorter_retention_hides_what_the_range_would_show_and_costs_nothing_where_it_does_not() -> None:
    # The range begins where the bucket that shows most begins.
    text = stream_page(asked(SCOPES[3])).text
    assert text.count("NOT (bucket_key") == 2
    assert stream_page(asked(SCOPES[3], start=8 * DAY)).text.count("NOT (bucket_key") == 1
    assert "NOT (bucket_key" not in stream_page(asked(SCOPES[3], start=9 * DAY)).text
    alone = (Scope((4, 5), 7 * DAY),)
    assert "NOT (bucket_key" not in stream_page(asked(alone)).text
    assert asked(alone).seen.start == 7 * DAY


def test_nothing_is_seen_without_a_bucket_and_beyond_all_retentions() -> None:
    assert [] in stream_page(asked(())).arguments
    gone = Streams((Scope((1,), 5 * DAY),), ("d",), "raw", Range(0, 4 * DAY), 1)
    assert gone.seen.empty
