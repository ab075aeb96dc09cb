"""SQL says the same of documents as a slow reading of the same condition: on the real database, at random."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from query.filters.compile import predicate, sort_keys
from query.filters.conditions import (
    Condition,
    Contains,
    ContainsAnyCase,
    EndsWith,
    Equals,
    Lies,
    Not,
    Order,
    Present,
    StartsWith,
    Tag,
)
from query.sql import Arguments
from schema.connections import Duty, open_connection
from schema.settings import ApiSettings
from tests.support.filter_oracle import CONDITIONS, DOCUMENTS, TAGS, document_of, holds, json_of, sort_key

Ask = Callable[[str, list[Any]], list[Any]]
A = Tag(("a",))
BIG = 2**53 + 1
TELLING = [
    {"a": "50%"}, {"a": "50x"}, {"a": "a_c"}, {"a": "abc"}, {"a": "a\\c"}, {"a": "ΑΣ"}, {"a": "ας"}, {"a": 1},
    {"a": "1"}, {"a": True}, {"a": None}, {}, {"a": []}, {"a": [1]}, {"a": [[1]]}, {"a": ["ABC", None]},
    {"a": {}}, {"a": {"a": 1}}, {"a": ""}, {"a": "B"}, {"a": "Ä"}, {"a": BIG}, {"a": BIG - 1}, {"a": BIG},
]  # fmt: skip


@pytest.fixture(scope="module")
def ask(template_database: str, database_server: str) -> Iterator[Ask]:
    """Runs a statement with the rights of the query API."""
    from tests.support.databases import clone_of

    with clone_of(database_server, template_database) as dsn, asyncio.Runner() as runner:
        connection = runner.run(open_connection(ApiSettings(database_dsn=dsn), Duty.API))

        async def fetch(text: str, values: list[Any]) -> list[Any]:
            return list(await connection.fetch(text, *values))

        yield lambda text, values: runner.run(fetch(text, values))
        runner.run(connection.close(timeout=5))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    condition=CONDITIONS,
    documents=st.lists(DOCUMENTS, min_size=1, max_size=8),
)
@example(condition=Contains(A, "%"), documents=TELLING)
@example(condition=Contains(A, "_"), documents=TELLING)
@example(condition=Contains(A, "\\"), documents=TELLING)
@example(condition=Contains(A, None), documents=TELLING)
@example(condition=ContainsAnyCase(A, "aBC"), documents=TELLING)
@example(condition=ContainsAnyCase(A, "ας"), documents=TELLING)
@example(condition=ContainsAnyCase(A, "ä"), documents=TELLING)
@example(condition=Lies(A, Order.LESS, "a"), documents=TELLING)
@example(condition=Lies(A, Order.GREATER, Decimal(BIG - 1)), documents=TELLING)
@example(condition=Equals(A, Decimal(BIG)), documents=TELLING)
@example(condition=StartsWith(A, "a_"), documents=TELLING)
@example(condition=EndsWith(A, ""), documents=TELLING)
@example(condition=Equals(A, None), documents=TELLING)
@example(condition=Not(Equals(A, None)), documents=TELLING)
@example(condition=Not(Present(A)), documents=TELLING)
@example(condition=Not(Lies(A, Order.LESS, "b")), documents=TELLING)
def test_sql_and_the_oracle_agree(ask: Ask, condition: Condition, documents: list[Any]) -> None:
    texts = [json_of(document) for document in documents]
    arguments = Arguments()
    statement = (
        f"SELECT {predicate(condition, arguments)} AS holds FROM"
        f" unnest({arguments(tuple(texts), 'jsonb[]')}) WITH ORDINALITY AS given (data, place) ORDER BY place"
    )
    answers = [row["holds"] for row in ask(statement, arguments.values)]
    # Neither side may say "unknown".
    assert answers == [holds(condition, document_of(text)) for text in texts]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tag=TAGS, documents=st.lists(DOCUMENTS, min_size=2, max_size=8), descending=st.booleans())
@example(tag=A, documents=TELLING, descending=False)
@example(tag=A, documents=TELLING, descending=True)
def test_sql_and_the_oracle_sort_alike(ask: Ask, tag: Tag, documents: list[Any], descending: bool) -> None:
    texts = [json_of(document) for document in documents]
    arguments = Arguments()
    kind, *values = sort_keys(tag, arguments)
    direction = "DESC" if descending else "ASC"
    order = ", ".join([kind, *(f"{value} {direction}" for value in values), "place"])
    statement = (
        f"SELECT place FROM unnest({arguments(tuple(texts), 'jsonb[]')}) WITH ORDINALITY"
        f" AS given (data, place) ORDER BY {order}"
    )
    places = [row["place"] - 1 for row in ask(statement, arguments.values)]
    read = [document_of(text) for text in texts]
    assert places == sorted(
        range(len(read)), key=lambda place: (*sort_key(read[place], tag, descending=descending), place)
    )
