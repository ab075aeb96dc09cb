"""Rules and filters as texts: what they become, where a refusal points, and that no text can hurt."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.filters.compile import predicate
from query.filters.conditions import (
    ALWAYS,
    MAX_DEPTH,
    MAX_LEAVES,
    MAX_STEPS,
    MAX_TAG,
    MAX_TEXT,
    MAX_VALUE,
    MAX_VALUES,
    Condition,
    Contains,
    ContainsAnyCase,
    Equals,
    Every,
    Lies,
    Not,
    OneOf,
    Order,
    Present,
    Some,
    Tag,
    all_of,
    depth,
    leaves,
    of_stream,
)
from query.filters.pointing import Unparsable
from query.filters.rules import parse_rules
from query.filters.tags import parse_tag
from query.filters.trees import OPERATORS, parse_filters
from query.sql import Arguments
from schema.errors import Invalid
from tests.support.filter_oracle import CONDITIONS, SCALARS, TAGS
from tests.support.filter_texts import filter_tokens, rule_text

A = Tag(("a",))


@given(CONDITIONS, st.sampled_from(["", " ", "\n\t"]))
def test_a_filter_written_down_is_read_as_it_was(condition: Condition, space: str) -> None:
    assert parse_filters(space.join(filter_tokens(condition)), "filters") == condition


@given(st.lists(st.one_of(st.builds(Present, TAGS), st.builds(Equals, TAGS, SCALARS)), max_size=4))
def test_rules_written_down_are_read_as_they_were(conditions: list[Any]) -> None:
    assert parse_rules([rule_text(condition) for condition in conditions], "rule") == conditions


@given(CONDITIONS, st.data())
def test_what_is_foreign_is_pointed_at_where_it_stands(condition: Condition, data: st.DataObject) -> None:
    tokens = filter_tokens(condition)
    place = data.draw(st.integers(0, len(tokens)))
    before = "".join(tokens[:place])
    with pytest.raises(Unparsable) as refused:
        parse_filters(before + "?" + "".join(tokens[place:]), "filters")
    assert refused.value.position == len(before)
    assert refused.value.expected
    assert refused.value.members["character"] == len(before) + 1
    assert f"at character {len(before) + 1}: expected " in refused.value.message


@given(CONDITIONS, st.data())
def test_what_breaks_off_is_pointed_at_its_end(condition: Condition, data: st.DataObject) -> None:
    tokens = filter_tokens(condition)
    place = data.draw(st.integers(0, len(tokens) - 1))
    text = "".join(tokens[:place])
    with pytest.raises(Unparsable, match="found the end") as refused:
        parse_filters(text, "filters")
    assert refused.value.position == len(text)
    # What was expected is what would have come, in the words of the grammar.
    assert refused.value.expected[0][0] in '"atfn'


ENTRIES: list[tuple[str, Condition]] = [
    ("name", Present(Tag(("name",)))),
    ('tenant_user = "t_123"', Equals(Tag(("tenant_user",)), "t_123")),
    ("amount=100", Equals(Tag(("amount",)), Decimal(100))),
    ("amount = 1e2", Equals(Tag(("amount",)), Decimal(100))),
    ("raw.size.width = -0.5", Equals(Tag(("raw", "size", "width")), Decimal("-0.5"))),
    ("ok = true", Equals(Tag(("ok",)), True)),
    ("ok = false", Equals(Tag(("ok",)), False)),
    ("ok = null", Equals(Tag(("ok",)), None)),
    ("say = 'it \"is\"'", Equals(Tag(("say",)), 'it "is"')),
    (r'say = "it \"is\" \u00e4"', Equals(Tag(("say",)), 'it "is" ä')),
    ('"a b"."c.d" = 1', Equals(Tag(("a b", "c.d")), Decimal(1))),
    ("größe = 1", Equals(Tag(("größe",)), Decimal(1))),
    (" items . 0 ", Present(Tag(("items", "0")))),
    ("true", Present(Tag(("true",)))),
]


@pytest.mark.parametrize(("text", "condition"), ENTRIES)
def test_entries_of_a_rule(text: str, condition: Condition) -> None:
    assert parse_rules([text], "rule") == [condition]


POINTED: list[tuple[str, int, str]] = [
    ("", 1, "a tag"),
    ("= 3", 1, "a tag"),
    ("name = test", 8, "a text in quotes, a number, true, false or null"),
    ("name =", 7, "a text in quotes"),
    ("name == 3", 7, "a number"),
    ("name = 12x", 10, "the end"),
    ("name = 01", 9, "the end"),
    ('name = "x', 8, "a text in quotes"),
    ("a b", 3, '".", "=" or the end'),
    ("a..b", 3, "a tag"),
    ("a.", 3, "a tag"),
    ("a = 3 AND b = 4", 7, "the end"),
    ("a = 1e999", 5, "a double reaches"),
    (f"a = {'1' * 61}", 5, "60 digits"),
    (r'a = "\u0000"', 5, "U+0000"),
    (r'a = "\ud800"', 5, "surrogates"),
    (r'"\u0000" = 1', 1, "U+0000"),
    ("a\x00b", 1, "U+0000"),
    (f"a = '{'x' * (MAX_VALUE + 1)}'", 5, "at most 1000 characters"),
    ("a" * (MAX_TAG + 1), 1, "at most 250 characters"),
    (".".join("a" * (MAX_STEPS + 1)), 2 * MAX_STEPS + 1, "at most 16 names"),
]


@pytest.mark.parametrize(("text", "character", "expected"), POINTED)
def test_a_refusal_of_an_entry_names_parameter_and_character(
    text: str, character: int, expected: str
) -> None:
    with pytest.raises(Unparsable) as refused:
        parse_rules(["fine", text], "xrule")
    assert refused.value.members["parameter"] == "xrule[1]"
    assert refused.value.members["character"] == character
    assert expected in refused.value.message
    assert refused.value.status == 400


FILTERS: list[tuple[Any, Condition]] = [
    (["a", "EQUALS", 1], Equals(A, Decimal(1))),
    (["a", "NOT_EQUALS", "x"], Not(Equals(A, "x"))),
    (["a", "EXISTS"], Present(A)),
    (["a", "EXISTS", True], Present(A)),
    (["a", "EXISTS", False], Not(Present(A))),
    (["a", "IN", [1, "x", None]], OneOf(A, (Decimal(1), "x", None))),
    (["a", "LESS_OR_EQUAL", "m"], Lies(A, Order.LESS_OR_EQUAL, "m")),
    (["EQUALS", "EQUALS", "AND"], Equals(Tag(("EQUALS",)), "AND")),
    (["my field.x", "EXISTS"], Present(Tag(("my field", "x")))),
    (['"a.b".c', "EXISTS"], Present(Tag(("a.b", "c")))),
    (
        {"AND": [["s.t", "CONTAINS", "abc"], {"OR": [["u", "CASE_INSENSITIVE_CONTAINS", "X"]]}]},
        Every((Contains(Tag(("s", "t")), "abc"), Some((ContainsAnyCase(Tag(("u",)), "X"),)))),
    ),
    ({"NOT": {"NOT": ["a", "EXISTS"]}}, Not(Not(Present(A)))),
]


@pytest.mark.parametrize(("given_filter", "condition"), FILTERS)
def test_filters_as_objects_and_as_texts(given_filter: Any, condition: Condition) -> None:
    assert parse_filters(given_filter, "filters") == condition
    assert parse_filters(json.dumps(given_filter), "filters") == condition


def many(part: str, times: int) -> str:
    return ",".join([part] * times)


EXISTS = '["a","EXISTS"]'
REFUSED: list[tuple[Any, int, str]] = [
    ("", 1, '"{" or "["'),
    ("{}", 2, '"AND", "OR" or "NOT"'),
    ({"XOR": []}, 2, '"AND", "OR" or "NOT"'),
    ('{"AND":[]}', 9, '"{" or "["'),
    ('{"AND":[["a","EXISTS"]],"OR":[]}', 24, '"}"'),
    ('{"NOT":[["a","EXISTS"]]}', 9, "a text in double quotes"),
    ('["a","EQUAL",1]', 6, '"EQUALS", "NOT_EQUALS"'),
    ('["a",">",1]', 6, '"GREATER_THAN"'),
    ('["a","EQUALS"]', 14, '","'),
    ('["a","EQUALS",[1]]', 15, "a number, true, false or null"),
    ('["a","LESS_THAN",true]', 18, "a text in double quotes or a number"),
    ('["a","STARTS_WITH",1]', 20, "a text in double quotes"),
    ('["a","IN",[]]', 12, "a number"),
    ('["a","IN",1]', 11, '"["'),
    ('["a","EXISTS",1]', 15, "true or false"),
    ('["a..b","EXISTS"]', 5, "a name"),
    ('["","EXISTS"]', 3, "a name"),
    (r'["\u00e4..b","EXISTS"]', 3, "a name"),
    ('[1,"EXISTS"]', 2, "a text in double quotes"),
    (f'["a","IN",[{many("1", MAX_VALUES + 1)}]]', 6, "at most 100 values"),
    (f'{{"OR":[{many(EXISTS, MAX_LEAVES + 1)}]}}', 2, "at most 100 leaves"),
    ('{"NOT":' * (MAX_DEPTH + 1) + '["a","EXISTS"]' + "}" * (MAX_DEPTH + 1), 2, "at most 16 groups"),
]  # fmt: skip


@pytest.mark.parametrize(("given_filter", "character", "expected"), REFUSED)
def test_a_refusal_of_a_filter_points_at_the_character(
    given_filter: Any, character: int, expected: str
) -> None:
    with pytest.raises(Unparsable) as refused:
        parse_filters(given_filter, "filters")
    assert refused.value.members["character"] == character
    assert expected in refused.value.message


@pytest.mark.parametrize("given_filter", [1, True, 1.5, "x" * (MAX_TEXT + 1), [["x" * MAX_TEXT]]])
def test_what_is_no_filter_at_all_is_refused_with_its_name(given_filter: Any) -> None:
    with pytest.raises(Invalid, match=r"^filters: "):
        parse_filters(given_filter, "filters")


def test_bounds_are_met_exactly() -> None:
    deep = '{"NOT":' * MAX_DEPTH + '["a","EXISTS"]' + "}" * MAX_DEPTH
    assert depth(parse_filters(deep, "filters")) == MAX_DEPTH
    wide = f'{{"OR":[{many(json.dumps(["a", "EXISTS"]), MAX_LEAVES)}]}}'
    assert leaves(parse_filters(wide, "filters")) == MAX_LEAVES
    assert len(parse_rules(["a"] * MAX_LEAVES, "rule")) == MAX_LEAVES
    with pytest.raises(Invalid, match=r"^rule: 101 entries"):
        parse_rules(["a"] * (MAX_LEAVES + 1), "rule")


@pytest.mark.parametrize(
    ("steps", "stream", "within"),
    [
        (("raw", "device_id"), "raw", ("device_id",)),
        (("device_id",), "raw", ("device_id",)),
        (("raw",), "raw", ("raw",)),
        (("raw", "raw"), "raw", ("raw",)),
        (("raw", "raw", "x"), "raw", ("raw", "x")),
        (("Raw", "x"), "raw", ("Raw", "x")),
        (("a", "b", "x"), "a.b", ("x",)),
        (("a", "b"), "a.b", ("a", "b")),
    ],
)
def test_the_stream_in_front_of_a_tag(steps: tuple[str, ...], stream: str, within: tuple[str, ...]) -> None:
    assert Tag(steps).within(stream) == Tag(within)
    condition = Every((Not(Present(Tag(steps))), Some((Equals(Tag(steps), None),))))
    expected = Every((Not(Present(Tag(within))), Some((Equals(Tag(within), None),))))
    assert of_stream(condition, stream) == expected


def test_a_conjunction_of_nothing_is_always_true() -> None:
    assert all_of([]) == ALWAYS
    assert all_of([ALWAYS, Present(A)]) == Present(A)
    assert all_of([Present(A), Equals(A, None)]) == Every((Present(A), Equals(A, None)))


PIECES = st.sampled_from([
    *"{}[]:,.=\"'\\ ?-eE01a\n\x00\x7fä😀", '"AND"', '"OR"', '"NOT"', '"a"', "true", "null", "1e5", "\\u00",
    "\ud800",
    *(f'"{operator}"' for operator in OPERATORS), '["a","EXISTS"]', '{"AND":[', '{"NOT":', "]}", "  ",
])  # fmt: skip


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join)))
def test_no_text_is_more_than_invalid(text: str) -> None:
    for read in (
        lambda: parse_filters(text, "filters"),
        lambda: parse_rules([text], "rule"),
        lambda: parse_tag(text, "sort_by"),
    ):
        try:
            read()
        except Invalid as refused:
            # It can be sent, whatever the text was.
            refused.message.encode()


def full(piece: str) -> str:
    return (piece * (MAX_TEXT // len(piece) + 1))[:MAX_TEXT]


@pytest.mark.parametrize(
    "piece",
    [
        '"', "\\", '"\\', '\\"', "[", "{", '{"NOT":', '{"AND":[', "a", "a.", ".", " ", "0", "1e", "'", '""',
        '["a","EXISTS"],', "-", "\n", "ä", "a=",
    ],
)  # fmt: skip
@pytest.mark.parametrize("front", ["", '"', '["a","EQUALS","', '["a","IN",[', "a = ", "a = '", '{"OR":['])
def test_no_text_takes_long(piece: str, front: str) -> None:
    text = (front + full(piece))[:MAX_TEXT]
    started_at = time.process_time()
    for read in (
        lambda: parse_filters(text, "filters"),
        lambda: parse_rules([text], "rule"),
        lambda: parse_tag(text, "sort_by"),
    ):
        with pytest.raises(Invalid):
            read()
    assert time.process_time() - started_at < 2


# The whole vocabulary of compiled conditions.
WORDS = {
    *("data", "element", "jsonb_typeof", "jsonb_array_elements", "strpos", "starts_with", "lower", "right"),
    *("coalesce", "CASE", "WHEN", "THEN", "ELSE", "END", "IS", "NOT", "NULL", "AND", "OR", "ANY", "EXISTS"),
    *("SELECT", "FROM", "AS", "WHERE", "COLLATE", "C", "pg_c_utf8", "true", "false", "0"),
    *("string", "number", "array", "text", "jsonb", "integer"),
}


@given(CONDITIONS)
def test_no_value_and_no_tag_stands_in_the_sql(condition: Condition) -> None:
    arguments = Arguments()
    text = predicate(condition, arguments)
    assert set(re.findall(r"'([^']*)'", text)) <= {"string", "number", "array", "{}"}
    assert set(re.findall(r"\$([0-9]+)", text)) == {str(n + 1) for n in range(len(arguments.values))}
    assert set(re.findall(r"\w+", re.sub(r"\$[0-9]+", "", text))) <= WORDS
