"""What the gateway answers, and that what it acknowledged lies in Kafka at the place that it named."""

from __future__ import annotations

import asyncio
import gzip
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest

from schema.identities import new_bucket_id, new_secret, secret_digest, secret_prefix
from schema.records import EVENTS, NODE_REPORTS, STAMPED, decode_labels, event_id
from tests.integration.gateway.door import NDJSON, Door, records_of
from tests.support.bounds import AT_AND_ABOVE
from tests.support.processes import Weir


async def test_receipts_name_the_records_that_hold_what_was_sent(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    moment = datetime.now(UTC).isoformat()
    events = [
        {"name": f"n{n % 3}", "id": f"id-{n}", "observed_at": moment, "device": f"d{n}"} for n in range(60)
    ]
    answers = await asyncio.gather(*(door.post(events[start : start + 20]) for start in (0, 20, 40)))
    assert {status for status, _, _ in answers} == {202}
    for start, (_, body, _) in zip((0, 20, 40), answers, strict=True):
        assert (body["accepted"], body["rejected"]) == (20, [])
        found = {
            (event_id(tail).decode(), decode_labels(segment.labels)[0])
            for record in await records_of(weir, body["receipt"])
            for segment in record.segments
            for tail in segment.tails
            if segment.bucket_id.hex() == weir.credentials.bucket_id and segment.kind == EVENTS
        }
        assert {(f"id-{n}", f"n{n % 3}") for n in range(start, start + 20)} <= found


async def test_an_id_without_a_moment_is_stamped_and_flagged(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    status, body, _ = await door.post([{"name": "a", "id": "x"}, {"name": "a"}])
    assert status == 202
    flags = {
        event_id(tail).decode() == "x": segment.flags
        for record in await records_of(weir, body["receipt"])
        for segment in record.segments
        for tail in segment.tails
    }
    assert flags == {True: STAMPED, False: 0}


async def test_node_reports_travel_as_such(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    status, body, _ = await door.post(
        {"reports": [{"host": "h"}, {"host": "h", "status": "UP"}]}, "/v1/nodes"
    )
    assert status == 202
    assert [one["index"] for one in body["rejected"]] == [1]
    [record] = await records_of(weir, body["receipt"])
    assert [(segment.kind, len(segment.tails)) for segment in record.segments] == [(NODE_REPORTS, 1)]


async def test_bodies_good_and_bad(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    packed = gzip.compress(orjson.dumps([{"name": "a"}] * 100))
    bomb = gzip.compress(b'[{"name":"' + b"a" * 60_000_000 + b'"}]')
    future = (datetime.now(UTC) + timedelta(hours=25)).isoformat()
    cases: list[tuple[bytes, dict[str, str], int, int | None]] = [
        (b'{"name":"a"}', {}, 202, 1),
        (b'[{"name":"a"},{"name":"b"}]', {}, 202, 2),
        (b'{"events":[{"name":"a"}]}', {}, 202, 1),
        (b'{"name":"a"}\n{"name":"b"}\n', NDJSON, 202, 2),
        (b"[]", {}, 202, 0),
        (packed, {"Content_Encoding": "gzip"}, 202, 100),
        (packed[:-4], {"Content_Encoding": "gzip"}, 400, None),
        (b"no gzip", {"Content_Encoding": "gzip"}, 400, None),
        (bomb, {"Content_Encoding": "gzip"}, 413, None),
        (packed, {"Content_Encoding": "br"}, 415, None),
        (b'{"name":"a"}', {"Content-Type": "text/plain"}, 415, None),
        (b'{"name":"a"}', {"Content-Type": "application/json; charset=latin-1"}, 415, None),
        (b"", {}, 400, None),
        (b"{", {}, 400, None),
        (b"\xff", {}, 400, None),
        (b"[" * 100_000, {}, 400, None),
        (b'{"name":"a","observed_at":' + b"9" * 5000 + b"}", {}, 400, None),
        (b'{"name":"a","data":{"x":"\\u0000"}}', {}, 400, None),
        (b'{"name":"a","data":{"x":"\\ud800"}}', {}, 400, None),
        (b'{"name":"a","data":{"x":NaN}}', {}, 400, None),
        (b'{"name":"a","data":{"x":1e999}}', {}, 400, None),
        (orjson.dumps({"name": "a", "observed_at": future}), {}, 400, None),
        (b'{"name":"a","colour":"red"}', {}, 400, None),
        (b'{"name":"a","data":"' + b"x" * 300_000 + b'"}', {}, 413, None),
        (b" " * (10 * 1024 * 1024) + b"[]", {}, 413, None),
    ]
    for body, headers, status, accepted in cases:
        answered, answer, sent = await door.post(body, **headers)
        assert answered == status, (body[:60], answer)
        assert sent["X-Request-ID"]
        if accepted is not None:
            assert answer["accepted"] == accepted
        else:
            assert answer["detail"]
            assert sent["Content-Type"] == "application/problem+json"
    assert (await door.post(b'{"name":"a"}'))[0] == 202
    assert (await door.get("/v1/events"))[0] == 405
    assert (await door.get("/elsewhere"))[0] == 404
    process = weir.processes[0]
    assert process.resident_bytes < 250 * 1024 * 1024


async def test_good_events_of_a_mixed_batch_are_kept(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    status, answer, _ = await door.post(
        [
            {"name": "a"},
            {"nam": "b"},
            {"name": "c", "observed_at": "yesterday"},
            5,
            {"name": "d", "colour": 1},
            {"name": "e"},
        ]
    )
    assert (status, answer["accepted"]) == (202, 2)
    assert [(one["index"], one["error"].split(":")[0]) for one in answer["rejected"]] == [
        (1, "name"),
        (2, "observed_at"),
        (3, "not a JSON object that can be read (Expected `object`, got `int`)"),
        (4, "colour"),
    ]


@AT_AND_ABOVE
async def test_limits_at_n_and_one_beyond(weir: Weir, beyond: int) -> None:
    process = weir.start(
        "gateway",
        WEIR_MAX_EVENTS="50",
        WEIR_MAX_EVENT_BYTES="2048",
        WEIR_MAX_BODY_BYTES="20000",
        WEIR_MAX_NESTING="4",
    )
    door = Door(process, weir.credentials.ingest_key)

    def answered(refusal: int) -> int:
        return refusal if beyond else 202

    assert (await door.post([{"name": "a"}] * (50 + beyond)))[0] == answered(400)
    one = b'{"name":"a","data":"%b"}'
    text = b"x" * (2048 - len(one) + 2 + beyond)
    assert (await door.post(one % text))[0] == answered(413)
    body = b'[{"name":"a"}]'
    body += b" " * (20_000 - len(body) + beyond)
    assert (await door.post(body))[0] == answered(413)
    assert (await door.post(gzip.compress(body), Content_Encoding="gzip"))[0] == answered(413)
    data: dict[str, Any] = {}
    for _ in range(3 + beyond):
        data = {"a": data}
    assert (await door.post({"name": "a", "data": data}))[0] == answered(400)


async def test_a_bucket_is_held_to_its_rate(weir: Weir) -> None:
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE buckets SET events_per_second = 10")
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    assert (await door.post([{"name": "a"}] * 20))[0] == 202
    status, answer, headers = await door.post([{"name": "a"}] * 20)
    assert status == 429
    wait_seconds = int(headers["Retry-After"])
    assert 1 <= wait_seconds <= 3
    assert "rate" in answer["detail"]
    await asyncio.sleep(wait_seconds)
    assert (await door.post([{"name": "a"}] * 20))[0] == 202


async def test_who_may_write(weir: Weir) -> None:
    keys = {scope: new_secret(kind) for scope, kind in (("read", "read"), ("admin", "admin"))}
    member, stranger = new_secret("ingest"), new_secret("ingest")
    bucket_id = weir.credentials.bucket_id
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        for scope, key in keys.items():
            _add_key(connection, key, scope, bucket_id=bucket_id)
        owner = connection.execute("SELECT user_id FROM bucket_members").fetchone()
        assert owner is not None
        _add_key(connection, member, "ingest", user_id=owner[0])
        other = new_bucket_id()
        connection.execute("INSERT INTO users VALUES (%s, 'other@example.com', 'other')", [other])
        _add_key(connection, stranger, "ingest", user_id=other)
    gateway = weir.start("gateway")

    async def answer(key: str | None, **headers: str) -> int:
        return (await Door(gateway, key).post({"name": "a"}, **headers))[0]

    assert await answer(weir.credentials.ingest_key) == 202
    assert await answer(weir.credentials.ingest_key, X_Weir_Bucket=bucket_id) == 202
    assert await answer(weir.credentials.ingest_key, X_Weir_Bucket="0" * 24) == 403
    assert await answer(keys["admin"]) == 202
    assert await answer(keys["read"]) == 403
    assert await answer(None) == 401
    assert await answer("nonsense") == 401
    assert await answer(new_secret("ingest")) == 401
    assert await answer(member) == 400
    assert await answer(member, X_Weir_Bucket=bucket_id) == 202
    assert await answer(member, X_Weir_Bucket="0" * 24) == 404
    assert await answer(member, X_Weir_Bucket="no id") == 404
    assert await answer(stranger, X_Weir_Bucket=bucket_id) == 403
    log = gateway.log()
    for secret in (weir.credentials.ingest_key, member, stranger, *keys.values()):
        assert secret not in log


async def test_a_revoked_key_is_refused_soon(weir: Weir) -> None:
    door = Door(weir.start("gateway", WEIR_KEY_REFRESH_SECONDS="1"), weir.credentials.ingest_key)
    assert (await door.post({"name": "a"}))[0] == 202
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now()")
    deadline = time.monotonic() + 5
    while (await door.post({"name": "a"}))[0] != 401:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_the_raw_floor_and_retention_are_learned(weir: Weir) -> None:
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE store_state SET raw_floor = now() - INTERVAL '30 days'")
        connection.execute("UPDATE buckets SET retention_days = 10")
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    await asyncio.sleep(0.5)
    now = datetime.now(UTC)
    days = [0, 9, 11, 31]
    events = [{"name": "a", "observed_at": (now - timedelta(days=day)).isoformat()} for day in days]
    _, answer, _ = await door.post(events)
    assert answer["accepted"] == 2
    assert ["retention" in one["error"] for one in answer["rejected"]] == [True, False]
    assert "stored events begin" in answer["rejected"][1]["error"]


async def test_metrics_and_readiness(weir: Weir) -> None:
    door = Door(weir.start("gateway"), weir.credentials.ingest_key)
    await door.post([{"name": "a"}, {}])
    _, text = await door.get("/metrics")
    for line in (
        'weir_events_accepted_total{kind="event"} 1.0',
        'weir_events_refused_total{reason="invalid"} 1.0',
        "weir_queued_bytes 0.0",
        "weir_cached_keys 1.0",
    ):
        assert line in text
    status, text = await door.get("/readyz")
    assert (status, orjson.loads(text)["missing"]) == (200, {})


@pytest.mark.parametrize("clients", [32])
async def test_sigterm_under_load_answers_or_refuses_and_loses_nothing(weir: Weir, clients: int) -> None:
    gateway = weir.start("gateway")
    door = Door(gateway, weir.credentials.ingest_key)
    acknowledged: dict[str, str] = {}
    unanswered = 0

    async def send(client: int) -> None:
        nonlocal unanswered
        for number in range(10_000):
            name = f"{client}-{number}"
            try:
                status, body, _ = await door.post({"name": "a", "id": name, "observed_at": 1_790_000_000})
            except (OSError, aiohttp.ServerDisconnectedError):
                unanswered += 1
                return
            assert status == 202
            acknowledged[name] = body["receipt"]

    sending = [asyncio.create_task(send(client)) for client in range(clients)]
    await asyncio.sleep(1.0)
    before = time.monotonic()
    code = await asyncio.to_thread(gateway.terminate)
    assert code == 0
    assert time.monotonic() - before < 10
    async with asyncio.timeout(15):
        await asyncio.gather(*sending)
    assert acknowledged
    assert unanswered == clients
    found: set[str] = set()
    for receipt in set(acknowledged.values()):
        for record in await records_of(weir, receipt):
            found |= {event_id(t).decode() for segment in record.segments for t in segment.tails}
    assert set(acknowledged) <= found


def _add_key(
    connection: psycopg.Connection[tuple[object, ...]],
    key: str,
    scope: str,
    *,
    bucket_id: str | None = None,
    user_id: str | None = None,
) -> None:
    connection.execute(
        "INSERT INTO api_keys (key_id, prefix, secret_sha256, scope, bucket_id, user_id)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        [new_bucket_id(), secret_prefix(key), secret_digest(key), scope, bucket_id, user_id],
    )
