"""The door of PM2's agent: handshake and link over real sockets, into rows; nothing that was read is lost."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
from aiohttp import WSCloseCode, WSMsgType

from ingest.gateway.pm2.packets import MAX_PACKET_BYTES
from schema.identities import secret_digest
from schema.topics import ensure_topics
from tests.integration.gateway.door import TIMEOUT, Door
from tests.support import secret_search
from tests.support.bounds import AT_AND_ABOVE
from tests.support.processes import Process, Weir, deployed
from tests.support.topics import TopicNames

SECRET = secrets.token_hex(16)
UNKNOWN = secrets.token_hex(16)
VERIFY = "/api/node/verifyPM2"


@pytest.fixture
async def weir(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> AsyncIterator[Weir]:
    """A deployment whose bucket has a secret id; without processes."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    settings = {"WEIR_GATEWAY_SETTLE_SECONDS": "0"}
    with deployed(kafka_bootstrap, database_dsn, topics, tmp_path, **settings) as weir:
        change(weir, "secret_id_sha256 = %s, secret_id_encrypted = 'x'", secret_digest(SECRET))
        secret_search.note(SECRET, UNKNOWN)
        yield weir


def change(weir: Weir, what: str, *values: object) -> None:
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute(f"UPDATE buckets SET {what}".encode(), values)


def rows(weir: Weir, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(weir.database_dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


async def until(weir: Weir, statement: str, expected: list[tuple[Any, ...]], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while (found := rows(weir, statement)) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


def public_id(weir: Weir) -> str:
    [(found,)] = rows(weir, "SELECT public_id FROM buckets")
    return str(found)


def identity(weir: Weir, secret: str = SECRET) -> dict[str, str]:
    return {"X-KM-PUBLIC": public_id(weir), "X-KM-SECRET": secret, "X-KM-SERVER": "s1"}


def link_url(gateway: Process) -> str:
    return f"{gateway.url}/api/node/link"


def event(number: int, name: str = "sale") -> str:
    payload = {
        "at": int(time.time() * 1000),
        "name": name,
        "data": {"n": number},
        "process": {"pm_id": 0, "name": "shop", "rev": None, "server": "s1"},
    }
    return orjson.dumps({"payload": payload, "channel": "human:event"}).decode()


def status() -> str:
    data = {"process": [], "server": {"hostname": "h", "pm2_version": "6.0.8"}}
    payload = {"data": data, "server_name": "s1", "internal_ip": "10.0.0.7"}
    return orjson.dumps({"payload": payload, "channel": "status"}).decode()


async def test_an_agent_is_told_where_to_connect(weir: Weir) -> None:
    gateway = weir.start("gateway")
    door = Door(gateway, None)
    asked = {"public_id": public_id(weir), "private_id": SECRET, "data": {"MACHINE_NAME": "s1", "CPUS": [{}]}}
    status_, answer, _ = await door.post(asked, VERIFY)
    assert status_ == 200
    assert answer["endpoints"] == {
        "ws": f"{link_url(gateway).replace('http', 'ws')}",
        "web": gateway.url,
    }
    assert (answer["active"], answer["error"], answer["disabled"], answer["pending"]) == (
        True,
        False,
        False,
        False,
    )
    for wrong in ({"private_id": UNKNOWN}, {"public_id": UNKNOWN}, {"private_id": "ü"}, {"public_id": ""}):
        status_, answer, _ = await door.post({**asked, **wrong}, VERIFY)
        assert (status_, answer["error"], answer["active"]) == (401, True, False)
        assert answer["msg"]
    for body in (b"", b"{", b"[]", b"{}", b'{"public_id":5,"private_id":"x"}'):
        status_, answer, _ = await door.post(body, VERIFY)
        assert (status_, set(answer)) == (400, {"error", "msg"})
    elsewhere = weir.start("gateway", WEIR_GATEWAY_URL="https://in.example.com/")
    _, answer, _ = await Door(elsewhere, None).post(asked, VERIFY)
    assert answer["endpoints"] == {
        "ws": "wss://in.example.com/api/node/link",
        "web": "https://in.example.com",
    }


async def test_packets_become_events_and_node_reports(weir: Weir) -> None:
    gateway = weir.start("gateway")
    weir.start("writer")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(link_url(gateway), headers=identity(weir)) as link:
            for text in (status(), event(1), "nonsense", event(2, name=""), status(), event(3)):
                await link.send_str(text)
            await link.ping()
            late = orjson.loads(event(4))
            late["payload"]["at"] += 48 * 3600 * 1000
            await link.send_str(orjson.dumps(late).decode())
            await until(
                weir,
                "SELECT name, app, server, device, stream, data FROM events ORDER BY observed_at, data->>'n'",
                [("sale", "shop", "s1", "", "events", {"n": n}) for n in (1, 3)],
            )
            await until(
                weir,
                "SELECT host, ip, version, status, latency_ms, interval_seconds FROM node_reports",
                [("s1", "10.0.0.7", "6.0.8", "ONLINE", None, 10)],
            )
            assert not link.closed
            _, metrics = await Door(gateway, None).get("/metrics")
            assert "weir_agent_links 1.0" in metrics
            assert 'weir_events_refused_total{reason="invalid"} 3.0' in metrics
        for headers in ({}, identity(weir, UNKNOWN), {**identity(weir), "X-KM-PUBLIC": "x"}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(link_url(gateway), headers=headers)
            assert refused.value.status == 401
        async with session.get(link_url(gateway), headers=identity(weir), timeout=TIMEOUT) as answer:
            assert answer.status == 426


async def test_a_link_waits_for_its_rate_and_loses_nothing(weir: Weir) -> None:
    change(weir, "events_per_second = 20")
    gateway = weir.start("gateway")
    weir.start("writer")
    begun_at = time.monotonic()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(link_url(gateway), headers=identity(weir)) as link,
    ):
        for number in range(120):
            await link.send_str(event(number))
            await asyncio.sleep(0.002)
        await until(weir, "SELECT count(*), count(DISTINCT data->>'n') FROM events", [(120, 120)], 30)
    # A lot that is larger than the burst waits until all of the burst is there again.
    assert time.monotonic() - begun_at > 1
    _, metrics = await Door(gateway, None).get("/metrics")
    assert 'weir_events_accepted_total{kind="event"} 120.0' in metrics


async def test_a_changed_secret_ends_its_links_silent_ones_too(weir: Weir) -> None:
    gateway = weir.start("gateway", WEIR_KEY_REFRESH_SECONDS="1")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(link_url(gateway), headers=identity(weir)) as link,
        session.ws_connect(link_url(gateway), headers=identity(weir)) as silent,
    ):
        await link.send_str(event(1))
        with pytest.raises(TimeoutError):
            await silent.receive(timeout=3)
        change(weir, "secret_id_sha256 = %s", secret_digest(UNKNOWN))
        deadline = time.monotonic() + 10
        while not link.closed:
            assert time.monotonic() < deadline
            try:
                await link.send_str(event(2))
                await link.receive(timeout=0.3)
            except (TimeoutError, ConnectionError):
                continue
        assert (await silent.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_links_are_held_and_a_gateway_that_stops_lets_go_of_held_ones(weir: Weir) -> None:
    gateway = weir.start("gateway", WEIR_GATEWAY_SETTLE_SECONDS="2")
    async with aiohttp.ClientSession() as session:
        begun_at = time.monotonic()
        async with session.ws_connect(link_url(gateway), headers=identity(weir), autoclose=False):
            assert time.monotonic() - begun_at >= 2
            beside = asyncio.create_task(session.ws_connect(link_url(gateway), headers=identity(weir)))
            await asyncio.sleep(0.5)
            assert not beside.done()
            gateway.child.terminate()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await beside
            assert refused.value.status == 503
    assert await asyncio.to_thread(gateway.child.wait, 12) == 0


@AT_AND_ABOVE
async def test_links_are_bounded(weir: Weir, beyond: int) -> None:
    gateway = weir.start("gateway", WEIR_GATEWAY_SOCKETS=str(2 - beyond))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(link_url(gateway), headers=identity(weir)),
    ):
        if not beyond:
            async with session.ws_connect(link_url(gateway), headers=identity(weir)) as second:
                assert not second.closed
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(link_url(gateway), headers=identity(weir))
        assert refused.value.status == 503


@AT_AND_ABOVE
async def test_a_packet_has_its_bytes(weir: Weir, beyond: int) -> None:
    """One more, and the link ends, with a reason that its agent and whoever runs the gateway can see."""
    gateway = weir.start("gateway")
    start, end = orjson.dumps({"channel": "logs", "payload": ""}).split(b'""')
    text = b'%b"%b"%b' % (start, b"x" * (MAX_PACKET_BYTES + beyond - len(start + end) - 2), end)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(link_url(gateway), headers=identity(weir)) as link,
    ):
        await link.send_str(text.decode())
        if beyond:
            message = await link.receive(timeout=10)
            assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.MESSAGE_TOO_BIG)
        else:
            await link.send_str(event(1))
        deadline = time.monotonic() + 10
        expected = 'refused_total{reason="too_large"} 1.0' if beyond else 'accepted_total{kind="event"} 1.0'
        while f"weir_events_{expected}" not in (await Door(gateway, None).get("/metrics"))[1]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert ("a packet is too large" in gateway.log()) is bool(beyond)


async def test_a_gateway_that_stops_stores_what_was_sent_before(weir: Weir) -> None:
    gateway = weir.start("gateway")
    weir.start("writer")
    sent = 0
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(link_url(gateway), headers=identity(weir), autoclose=False) as link,
    ):
        closing = asyncio.create_task(link.receive())
        # Faster than they are published, so that some are in the sockets' buffers when it stops.
        while not closing.done():
            await link.send_str(event(sent))
            sent += 1
            if sent == 2000:
                gateway.child.terminate()
            await asyncio.sleep(0 if sent < 2500 else 0.001)
        message = closing.result()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
        await link.close()
    assert await asyncio.to_thread(gateway.child.wait, 12) == 0
    assert sent >= 2000
    await until(weir, "SELECT count(*), count(DISTINCT data->>'n') FROM events", [(sent, sent)])
