"""Every route of both doors, called by every kind of caller: the exact status and the form of the body.

What is refused must not change a row, anybody's; what is allowed must not change or show a row of a tenant
that the caller has nothing to do with.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition

from schema.connections import new_reader
from schema.records import decode_record
from tests.access_matrix.calls import CALLS, Call, Form
from tests.access_matrix.columns import CALLERS, COLUMNS
from tests.access_matrix.page import PAGE, page
from tests.access_matrix.rights import RIGHTS
from tests.access_matrix.tenants import OURS_OF_IT, THEIRS_OF_IT, fresh_bucket
from tests.access_matrix.world import (
    EMPTY_HERE,
    SUPERUSERS,
    TENANTS_ROWS,
    Answer,
    World,
    filled,
    filled_path,
    use,
)
from tests.support.doors import gateway, query_api

REVOCATION_SECONDS = 30.0


async def routes() -> set[tuple[str, str, str]]:
    """Door, method and path of every route that the two applications serve."""
    served: set[tuple[str, str, str]] = set()
    async with query_api() as api:
        for door, app in (("api", api), ("gateway", gateway())):
            for route in app.router.routes():
                assert route.resource is not None
                served.add((door, route.method, route.resource.canonical))
    return served


async def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {(call.door, call.method, call.path) for call in CALLS} == await routes()


def test_the_page_is_what_the_table_says() -> None:
    """`python -m tests.access_matrix --write` has been run since the table changed."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_right_has_a_row_and_every_row_its_name() -> None:
    assert {call.right for call in CALLS} == set(RIGHTS)
    assert [name for name, count in Counter(call.name for call in CALLS).items() if count > 1] == []


def test_every_caller_and_every_table_is_there(world: World) -> None:
    assert set(CALLERS) <= set(world.cast.credentials)
    assert [table for table in world.tables if table not in TENANTS_ROWS] == []
    found = world.digest(world.cast.theirs)
    assert [table for table, (count, _) in found.items() if not count and table not in EMPTY_HERE] == []


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_what_a_call_answers_to_everybody(world: World, call: Call) -> None:
    allowed: list[tuple[str, str]] = []
    refused: list[tuple[str, str]] = []
    for column in COLUMNS:
        cell = RIGHTS[call.right][column.head]
        # Where nobody is asked who he is, one of each kind will do.
        callers = column.callers[:1] if call.right == "open" else column.callers
        (allowed if cell in ("ok", "none") else refused).extend((caller, cell) for caller in callers)
    requests = {caller: request_of(world, call, caller) for caller, _ in refused}
    with unchanged(world):
        for caller, cell in refused:
            check_refused(world.ask(caller, *requests[caller]), call, int(cell), caller)
    theirs = world.digest(world.cast.theirs)
    for caller, cell in allowed:
        bucket = fresh_bucket(world.connection, world.cast) if call.fresh else None
        answer = world.ask(caller, *request_of(world, call, caller, bucket))
        check_allowed(answer, call, caller)
        if call.right in ("streams", "journal"):
            check_device(answer, caller, empty=cell == "none")
        if call.door == "gateway" and call.right.endswith(("send", "-s")):
            world.sent[bucket_of(world, caller)] += 1
    assert world.digest(world.cast.theirs) == theirs


def request_of(
    world: World, call: Call, caller: str, bucket: str | None = None
) -> tuple[str, str, str, Any, dict[str, str]]:
    """Door, method, target, body, headers."""
    names = world.names(caller, bucket)
    names["file"] = call.file
    if call.path == "/v1/keys/{key_id}":
        names["key_id"] = names["own_key_id"]
    target = filled_path(call.path, call.query, names)
    return call.door, call.method, target, filled(call.body, names), filled(call.headers, names)


def check_refused(answer: Answer, call: Call, status: int, caller: str) -> None:
    assert answer.status == status, (caller, answer.text)
    check_form(answer, call.form, caller)


def check_form(answer: Answer, form: Form, caller: str) -> None:
    body, status = answer.body, answer.status
    forms: dict[Form, dict[str, Any]] = {
        Form.MSG: {"msg": str},
        Form.DEVICE: {"responseStatus": status, "message": str},
        Form.STATS: {"success": False, "message": str},
        Form.PROBLEM: {
            "type": "about:blank",
            "title": str,
            "status": status,
            "detail": str,
            "request_id": str,
        },
        Form.AGENT: {"error": True, "msg": str},
    }
    expected = forms[form]
    assert set(body) - {"active"} == set(expected), (caller, body)
    for name, value in expected.items():
        assert isinstance(body[name], str) if value is str else body[name] == value, (caller, body)
    assert answer.media_type == ("application/problem+json" if form is Form.PROBLEM else "application/json")
    assert ("WWW-Authenticate" in answer.headers) == (status == 401), caller


def check_allowed(answer: Answer, call: Call, caller: str) -> None:
    assert answer.status == call.status, (caller, answer.text)
    if call.status >= 400:
        check_form(answer, call.form, caller)
    if call.method == "HEAD":
        assert answer.text == ""
    elif "/" in call.gives:
        assert answer.media_type == call.gives, caller
    elif call.gives == "[]":
        assert isinstance(answer.body, list), (caller, answer.text)
    else:
        # Who manages a bucket sees its secret id; CALLS names what everybody sees.
        shown = set(answer.body) - {"secret_id"}
        assert shown == set(call.gives.split()), (caller, answer.text)


def check_device(answer: Answer, caller: str, *, empty: bool) -> None:
    """Events of the device that another tenant has too: his only for who may see everything."""
    found = answer.body if isinstance(answer.body, list) else answer.body["data"][0]["data"]
    visible = OURS_OF_IT + (THEIRS_OF_IT if caller in SUPERUSERS else 0)
    assert len(found) == (0 if empty else visible), (caller, answer.text)


def bucket_of(world: World, caller: str) -> str:
    """The bucket that a caller's events go to."""
    cast = world.cast
    return {"admin key of second": cast.second, "admin key of elsewhere": cast.elsewhere.bucket}.get(
        caller, cast.ours.bucket
    )


@contextmanager
def unchanged(world: World) -> Iterator[None]:
    """Fails when a row of anybody's is not what it was before the block."""
    before = world.digest()
    yield
    assert world.digest() == before


def test_a_revoked_key_opens_nothing_within_thirty_seconds(world: World) -> None:
    """It was in the gateway's cache when it was revoked, and the gateway runs with its defaults."""
    while (answers := use(world)) != (401, 401):
        assert answers == (401, 202), "the query API refuses it at once"
        world.sent[world.cast.ours.bucket] += 1
        assert time.monotonic() < world.revoked_at + REVOCATION_SECONDS
        time.sleep(0.5)


def test_what_reached_kafka_is_what_was_accepted(world: World) -> None:
    """Nothing of what was refused, and nothing in a bucket that its sender may not write to."""
    found = asyncio.run(kept(world))
    assert found == world.sent


async def kept(world: World) -> Counter[str]:
    """Bucket id → events and reports in the topic."""
    reader = new_reader(world.weir.topics.settings(world.weir.kafka_bootstrap))
    await reader.start()
    try:
        places = [TopicPartition(world.weir.topics.events, number) for number in range(4)]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        await reader.seek_to_beginning(*places)
        found: Counter[str] = Counter()
        for place in places:
            while await reader.position(place) < ends[place]:
                message = await reader.getone(place)
                for segment in decode_record(message.value).segments:
                    found[segment.bucket_id.hex()] += len(segment.tails)
        return found
    finally:
        await reader.stop()
