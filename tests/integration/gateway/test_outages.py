"""The gateway while Kafka or the database is frozen, killed or late: bounded answers, bounded memory."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import orjson
import psutil
import psycopg

from schema.identities import new_secret
from schema.migrations.migrate import upgrade
from tests.integration.gateway.door import Door, records_of
from tests.support import servers
from tests.support.databases import dsn_of, new_database
from tests.support.processes import Process, Weir, deployed, wait_ready
from tests.support.topics import TopicNames

MEMORY_BYTES = 250 * 1024 * 1024


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A server and its children, stopped for as long as the block runs."""
    process = psutil.Process(pid)
    stopped = [process, *process.children(recursive=True)]
    for one in stopped:
        os.kill(one.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in stopped:
            os.kill(one.pid, signal.SIGCONT)


async def until_answered(door: Door, wanted: int, seconds: float) -> None:
    """Until an event is answered with this status, unaided."""
    started = time.monotonic()
    while (await door.post({"name": "a"}))[0] != wanted:
        assert time.monotonic() - started < seconds, f"no {wanted} within {seconds} s"
        await asyncio.sleep(0.2)


async def until_listening(door: Door, seconds: float) -> None:
    """Until a gateway that has just been started takes connections, ready or not."""
    started = time.monotonic()
    while True:
        try:
            await door.get("/healthz")
        except aiohttp.ClientConnectorError:
            assert time.monotonic() - started < seconds, f"nobody listens after {seconds} s"
            await asyncio.sleep(0.2)
        else:
            return


@asynccontextmanager
async def loaded(gateway: Process, key: str, clients: int, body: bytes) -> AsyncIterator[Counter[int]]:
    """Clients that post the same body again and again while the block runs; counts the statuses."""
    statuses: Counter[int] = Counter()
    slowest = 0.0
    over = asyncio.Event()
    headers = {"X-Api-Key": key, "Content-Type": "application/json"}

    async def post(session: aiohttp.ClientSession) -> None:
        nonlocal slowest
        while not over.is_set():
            before = time.monotonic()
            async with session.post(f"{gateway.url}/v1/events", data=body, headers=headers) as answer:
                await answer.read()
                statuses[answer.status] += 1
            slowest = max(slowest, time.monotonic() - before)
            if answer.status != 202:
                await asyncio.sleep(0.05)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        tasks = [asyncio.create_task(post(session)) for _ in range(clients)]
        yield statuses
        over.set()
        async with asyncio.timeout(15):
            await asyncio.gather(*tasks)
    assert slowest < 8, f"a request waited {slowest:.1f} s"


async def test_a_frozen_kafka_is_a_503_in_time_and_memory_stays_bounded(
    database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """Under load with the broker frozen, then recovery unaided. The bench freezes it for a whole minute."""
    body = orjson.dumps([{"name": "a", "data": {"text": "x" * 1500}} for _ in range(200)])
    with servers.new_kafka() as kafka, deployed(kafka.bootstrap, database_dsn, topics, tmp_path) as weir:
        gateway = weir.start("gateway", WEIR_BUCKET_EVENTS_PER_SECOND="0")
        door = Door(gateway, weir.credentials.ingest_key)
        assert (await door.post({"name": "a"}))[0] == 202
        pid = kafka.pid
        assert pid is not None
        most_bytes = 0
        async with loaded(gateway, weir.credentials.ingest_key, 48, body) as statuses:
            await asyncio.sleep(2)
            with frozen(pid):
                before = time.monotonic()
                status, answer, headers = await door.post({"name": "a"})
                assert status == 503
                assert time.monotonic() - before < 5.5
                assert int(headers["Retry-After"]) >= 1
                assert answer["detail"]
                ready = await door.get("/readyz")
                assert ready[0] == 503
                assert "kafka" in orjson.loads(ready[1])["missing"]
                assert (await door.get("/healthz"))[0] == 200
                while time.monotonic() - before < 15:
                    most_bytes = max(most_bytes, gateway.resident_bytes)
                    await asyncio.sleep(1)
            await until_answered(door, 202, 20)
            for _ in range(5):
                most_bytes = max(most_bytes, gateway.resident_bytes)
                await asyncio.sleep(1)
        assert set(statuses) == {202, 503}
        assert most_bytes < MEMORY_BYTES, f"{most_bytes / 2**20:.0f} MiB"
        wait_ready(gateway, 5)


async def test_short_freezes_again_and_again(database_dsn: str, topics: TopicNames, tmp_path: Path) -> None:
    """Pauses that are shorter than the deadline cost time, no events and no memory."""
    body = orjson.dumps([{"name": "a", "data": {"text": "x" * 1500}} for _ in range(200)])
    with servers.new_kafka() as kafka, deployed(kafka.bootstrap, database_dsn, topics, tmp_path) as weir:
        gateway = weir.start("gateway", WEIR_BUCKET_EVENTS_PER_SECOND="0")
        pid = kafka.pid
        assert pid is not None
        most_bytes = 0
        async with loaded(gateway, weir.credentials.ingest_key, 48, body) as statuses:
            for _ in range(3):
                with frozen(pid):
                    await asyncio.sleep(3)
                    most_bytes = max(most_bytes, gateway.resident_bytes)
                await asyncio.sleep(2)
                most_bytes = max(most_bytes, gateway.resident_bytes)
        assert statuses[202]
        assert most_bytes < MEMORY_BYTES, f"{most_bytes / 2**20:.0f} MiB"


async def test_a_killed_kafka_comes_back(database_dsn: str, topics: TopicNames, tmp_path: Path) -> None:
    """Also: the gateway starts without Kafka, says what is missing, and finds it when it comes."""
    with servers.new_kafka() as kafka, deployed(kafka.bootstrap, database_dsn, topics, tmp_path) as weir:
        gateway = weir.start("gateway")
        door = Door(gateway, weir.credentials.ingest_key)
        status, answer, _ = await door.post({"name": "a", "id": "kept"})
        assert status == 202
        kafka.kill()
        before = time.monotonic()
        status, _, headers = await door.post({"name": "a"})
        assert (status, "Retry-After" in headers) == (503, True)
        assert time.monotonic() - before < 5.5
        late = weir.start("gateway", ready=False)
        late_door = Door(late, weir.credentials.ingest_key)
        await until_listening(late_door, 20)
        assert (await late_door.post({"name": "a"}))[0] == 503
        await asyncio.to_thread(kafka.start)
        await until_answered(door, 202, 20)
        await until_answered(late_door, 202, 20)
        assert await records_of(weir, answer["receipt"])


async def test_a_frozen_database_closes_the_door_to_strangers_only(
    kafka_bootstrap: str, topics: TopicNames, tmp_path: Path
) -> None:
    with servers.new_timescale() as server, new_database(dsn_of(server.dsn, "postgres"), "frozen") as name:
        dsn = dsn_of(server.dsn, name)
        await asyncio.to_thread(upgrade, dsn)
        with deployed(kafka_bootstrap, dsn, topics, tmp_path) as weir:
            gateway = weir.start("gateway", WEIR_KEY_REFRESH_SECONDS="1", WEIR_DATABASE_COMMAND_SECONDS="2")
            pid = server.pid
            assert pid is not None
            await _through_freeze(weir, gateway, pid)
            server.kill()
            status, _, headers = await Door(gateway, new_secret("ingest")).post({"name": "a"})
            assert (status, "Retry-After" in headers) == (503, True)
            assert (await Door(gateway, weir.credentials.ingest_key).post({"name": "a"}))[0] == 202
            await asyncio.to_thread(server.start)
            await until_answered(Door(gateway, new_secret("ingest")), 401, 15)


async def _through_freeze(weir: Weir, gateway: Process, pid: int) -> None:
    door = Door(gateway, weir.credentials.ingest_key)
    assert (await door.post({"name": "a"}))[0] == 202
    with frozen(pid):
        for _ in range(5):
            before = time.monotonic()
            assert (await door.post({"name": "a"}))[0] == 202
            assert time.monotonic() - before < 1
            await asyncio.sleep(1)
        before = time.monotonic()
        status, _, headers = await Door(gateway, new_secret("ingest")).post({"name": "a"})
        assert (status, "Retry-After" in headers) == (503, True)
        assert time.monotonic() - before < 5
        status, text = await door.get("/readyz")
        assert (status, list(orjson.loads(text)["degraded"])) == (200, ["database"])
    await until_answered(Door(gateway, new_secret("ingest")), 401, 15)
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = now()")
    await until_answered(door, 401, 10)
    with psycopg.connect(weir.database_dsn, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoked_at = NULL")
    await until_answered(door, 202, 10)
