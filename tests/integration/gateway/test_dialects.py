"""Every dialect over real sockets, through Kafka and the real writer, into rows; repeats are stored once."""

from __future__ import annotations

import asyncio
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
import zstandard

from schema.topics import ensure_topics
from tests.integration.gateway.door import NDJSON, TIMEOUT, Door
from tests.support.processes import Weir, deployed
from tests.support.topics import TopicNames

CLOUD_EVENT = {"specversion": "1.0", "type": "sale", "source": "/shop", "id": "1"}
COLUMNS = "name, stream, device, app, server, id, data"


@pytest.fixture
async def stack(kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path) -> Any:
    """A deployment with a gateway and a writer."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    with deployed(kafka_bootstrap, database_dsn, topics, tmp_path) as weir:
        weir.start("gateway")
        weir.start("writer")
        yield weir


def door(weir: Weir) -> Door:
    return Door(weir.processes[0], weir.credentials.ingest_key)


async def stored(weir: Weir, *, count: int, columns: str = COLUMNS) -> list[tuple[Any, ...]]:
    """The bucket's rows by time and id, once a last event that is sent now is among them."""
    # One for each partition: what was sent before it there is stored, or will never be.
    last = [
        {"name": "last", "id": f"last-{n}", "observed_at": 1_000_000_000, "device": f"{n}"} for n in range(40)
    ]
    status, _, _ = await door(weir).post(last)
    assert status == 202
    deadline = time.monotonic() + 20
    while True:
        with psycopg.connect(weir.database_dsn) as connection:
            ended = connection.execute("SELECT count(*) FROM events WHERE name = 'last'").fetchone()
            rows = connection.execute(
                f"SELECT {columns} FROM events WHERE name <> 'last' ORDER BY observed_at, id"
            ).fetchall()
        if ended == (40,):
            assert len(rows) == count, rows
            return rows
        assert time.monotonic() < deadline, (ended, rows)
        await asyncio.sleep(0.1)


async def test_every_dialect_ends_as_a_row(stack: Weir) -> None:
    send = door(stack)
    batch = orjson.dumps(
        [{**CLOUD_EVENT, "id": "2", "subject": "till", "data": [1]}, {**CLOUD_EVENT, "id": 3}]
    )
    binary = {"ce_specversion": "1.0", "ce_type": "sale", "ce_source": "/shop", "ce_id": "4", "ce_ext": "e"}
    packed = zstandard.compress(b'{"name":"packed","id":"5","data":{"by":"zstd"}}')
    framed = zlib.compress(b'{"name":"packed","id":"6","data":{"by":"deflate"}}')
    structured = {"Content_Type": "application/cloudevents+json; charset=UTF-8"}
    answers = [
        await send.post(orjson.dumps({**CLOUD_EVENT, "data": {"x": 1}}), **structured),
        await send.post(batch, Content_Type="application/cloudevents-batch+json"),
        await send.post(b'{"x": 4}', **binary),
        await send.post(packed, Content_Encoding="zstd"),
        await send.post(framed, Content_Encoding="deflate"),
    ]
    assert [(status, body["accepted"]) for status, body, _ in answers] == [(202, 1)] * 5
    assert [one["index"] for one in answers[1][1]["rejected"]] == [1]

    status, body, headers = await send.post(b"open", "/devices/d%201/events/door", Content_Type="text/plain")
    assert (status, body) == (200, {"responseStatus": 200, "message": "OK"})
    assert headers["X-Weir-Receipt"]
    status, _, _ = await send.post({"by": "Ada"}, "/laas/api/v1/devices/d2/events/door")
    assert status == 200
    create = {"device_id": "d3", "stream": "raw", "event_data": {"x": 3}, "observed_at": time.time()}
    status, ids, _ = await send.post(create, "/event_create")
    assert status == 200

    rows = await stored(stack, count=8)
    by_id = {row[5]: row for row in rows}
    assert by_id["/shop 1"] == ("sale", "events", "", "/shop", "", "/shop 1", {"x": 1})
    assert by_id["/shop 2"] == ("sale", "events", "till", "/shop", "", "/shop 2", {"value": [1]})
    assert by_id["/shop 4"][6] == {"x": 4, "cloudevents": {"ext": "e"}}
    assert (by_id["5"][6], by_id["6"][6]) == ({"by": "zstd"}, {"by": "deflate"})
    assert by_id[ids[0]][:3] == ("raw", "raw", "d3")
    doors = {row[2]: (row[1], row[6]) for row in rows if row[0] == "door"}
    assert doors == {"d 1": ("events", {"value": "open"}), "d2": ("events", {"by": "Ada"})}


async def test_a_request_that_is_repeated_under_its_key_is_stored_once(stack: Weir) -> None:
    """Through two gateways at once, with and without moments and ids, in every dialect."""
    doors = [door(stack), Door(stack.start("gateway"), stack.credentials.ingest_key)]
    moment = time.time() - 5
    mixed = [{"name": "a"}, {"name": "a", "observed_at": moment}, {"name": "a", "id": "own"}, {"nam": 1}]
    lines = b'{"name":"b","device":"d"}\n\n{"name":"b","device":"e"}\n'
    cloud = orjson.dumps({**CLOUD_EVENT, "id": "again"})
    create = {"device_id": "d", "stream": "c"}
    for _ in range(3):
        answers = await asyncio.gather(
            *(one.post(mixed, Idempotency_Key="k") for one in doors),
            *(one.post(lines, Idempotency_Key="k2", **NDJSON) for one in doors),
            *(
                one.post(cloud, Idempotency_Key="k3", Content_Type="application/cloudevents+json")
                for one in doors
            ),
            *(one.post(b"x", "/devices/d/events/e", Idempotency_Key="k4") for one in doors),
            *(one.post(create, "/event_create", Idempotency_Key="k5") for one in doors),
        )
        assert [status for status, _, _ in answers] == [202] * 6 + [400] * 2 + [200] * 2
        assert [body for _, body, _ in answers[-2:]] == [["k5:0"]] * 2
        answers = await asyncio.gather(
            *(
                one.post(b"x", "/devices/d/events/e", Idempotency_Key="k4", Content_Type="text/plain")
                for one in doors
            )
        )
        assert [status for status, _, _ in answers] == [200] * 2
    rows = await stored(stack, count=8, columns="id, name")
    assert sorted(rows) == [
        ("/shop again", "sale"),
        ("k2:0", "b"),
        ("k2:1", "b"),
        ("k4:0", "e"),
        ("k5:0", "c"),
        ("k:0", "a"),
        ("k:1", "a"),
        ("own", "a"),
    ]


async def test_node_reports_under_a_key_need_their_moment(stack: Weir) -> None:
    send = door(stack)
    reports = [{"host": "h", "observed_at": time.time() - 1}, {"host": "h"}]
    for _ in range(2):
        status, body, _ = await send.post(reports, "/v1/nodes", Idempotency_Key="k")
        assert (status, body["accepted"], body["rejected"][0]["index"]) == (202, 1, 1)
    await stored(stack, count=0)
    with psycopg.connect(stack.database_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM node_reports").fetchone() == (1,)


async def test_refusals_have_the_form_of_their_surface(weir: Weir) -> None:
    process = weir.start("gateway")
    good, stranger = Door(process, weir.credentials.ingest_key), Door(process, None)
    reader = Door(process, weir.credentials.read_key)
    for prefix in ("/devices", "/laas/api/v1/devices"):
        path = f"{prefix}/d/events/e"
        for who, body, headers, status in (
            (stranger, b"{}", {}, 401),
            (reader, b"{}", {}, 403),
            (good, b"{", {}, 400),
            (good, b"x" * 300_000, {"Content_Type": "text/plain"}, 413),
            (good, b"x", {"Content_Encoding": "br"}, 415),
            (good, b"{}", {"Idempotency_Key": "x" * 123}, 400),
            (good, b'{"x":"\\u0000"}', {}, 400),
        ):
            answered, answer, _ = await who.post(body, path, **headers)
            assert (answered, answer["responseStatus"], bool(answer["message"])) == (status, status, True)
        answered, answer, _ = await good.post(b"{}", f"{prefix}/{'d' * 201}/events/e")
        assert (answered, set(answer)) == (400, {"responseStatus", "message"})
    for fields, who, status in (
        ({"device_id": "d"}, good, 400),
        ({"device_id": "d", "stream": "s", "observed_at": "2999-01-01T00:00:00Z"}, good, 400),
        ({"device_id": "d", "stream": "s"}, stranger, 401),
    ):
        answered, answer, headers = await who.post(fields, "/event_create")
        assert (answered, answer["status"]) == (status, status)
        assert headers["Content-Type"] == "application/problem+json"
    for body, headers, status in (
        (b"[]", {"Content_Type": "application/cloudevents+avro"}, 415),
        (b"{}", {"Content_Type": "application/cloudevents+json"}, 400),
        (b"{}", {"Content_Type": "application/cloudevents-batch+json"}, 400),
        (b"{}", {"ce_specversion": "1.0"}, 400),
        (b'{"name":"a"}', {"Idempotency_Key": ""}, 400),
        (zstandard.compress(bytes(500_000_000)), {"Content_Encoding": "zstd"}, 413),
        (zlib.compress(bytes(60_000_000)), {"Content_Encoding": "deflate"}, 413),
        (zstandard.compress(b'{"name":"a"}' * 100)[:-1], {"Content_Encoding": "zstd"}, 400),
    ):
        answered, answer, _ = await good.post(body, **headers)
        assert answered == status, answer
        assert answer["detail"]
    assert process.resident_bytes < 250 * 1024 * 1024
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as session,
        session.options(f"{process.url}/v1/events", headers={"Origin": "https://a.example"}) as answer,
    ):
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_web_pages_may_send_where_they_are_allowed_to(weir: Weir) -> None:
    page = "https://app.example.com"
    process = weir.start("gateway", WEIR_GATEWAY_ORIGINS=page)
    wanted = {
        "Origin": page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as session,
        session.options(f"{process.url}/v1/events", headers=wanted) as answer,
    ):
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, page)
        assert answer.headers["Access-Control-Allow-Headers"] == "x-api-key"
    for key, path, status in (
        (weir.credentials.ingest_key, "/v1/events", 202),
        (None, "/v1/events", 401),
        (None, "/devices/d/events/e", 401),
    ):
        answered, _, headers = await Door(process, key).post({"name": "a"}, path, Origin=page)
        assert (answered, headers["Access-Control-Allow-Origin"]) == (status, page)
        _, _, headers = await Door(process, key).post({"name": "a"}, path, Origin="https://evil.example")
        assert "Access-Control-Allow-Origin" not in headers
