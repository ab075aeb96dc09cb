"""Many links that send large packets: a gateway stays within its memory, and loses nothing that it has read.

Raw sockets, since no honest client stops in the middle of a packet.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import orjson
import psycopg

from ingest.gateway.pm2.packets import MAX_PACKET_BYTES
from ingest.gateway.pm2.sharing import TURN_SECONDS
from schema.identities import secret_digest
from schema.topics import ensure_topics
from tests.integration.gateway.door import Door
from tests.integration.gateway.test_outages import MEMORY_BYTES, frozen
from tests.support import secret_search, servers
from tests.support.processes import Process, Weir, deployed
from tests.support.topics import TopicNames
from tests.unit.gateway.test_frames import TEXT, frame

MIB = 1024 * 1024
SECRET = secrets.token_hex(16)
NO_MASK = bytes(4)


@contextmanager
def linkable(
    kafka_bootstrap: str, dsn: str, topics: TopicNames, folder: Path, **settings: str
) -> Iterator[tuple[Weir, Process, str]]:
    """A deployment, its gateway, and what a link is opened with."""
    quick = {"WEIR_GATEWAY_SETTLE_SECONDS": "0", "WEIR_BUCKET_EVENTS_PER_SECOND": "0"}
    with deployed(kafka_bootstrap, dsn, topics, folder, **quick, **settings) as weir:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "UPDATE buckets SET secret_id_sha256 = %s, secret_id_encrypted = 'x'", [secret_digest(SECRET)]
            )
            row = connection.execute("SELECT public_id FROM buckets").fetchone()
        assert row is not None
        secret_search.note(SECRET)
        yield weir, weir.start("gateway"), f"X-KM-PUBLIC: {row[0]}\r\nX-KM-SECRET: {SECRET}\r\n"


def request(identity: str, number: int) -> bytes:
    """For a link."""
    return (
        "GET /api/node/link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{identity}X-KM-SERVER: s{number}\r\n\r\n"
    ).encode()


@asynccontextmanager
async def links(gateway: Process, identity: str, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """So many links, each of a machine of its own."""
    writers: list[asyncio.StreamWriter] = []

    async def opened(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writers.append(writer)
        writer.write(request(identity, number))
        assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    try:
        for start in range(0, count, 50):
            await asyncio.gather(*map(opened, range(start, min(count, start + 50))))
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


def event(number: int, size: int = 0) -> bytes:
    """A frame with an event of about so many bytes."""
    process = {"name": "shop", "server": "s1"}
    data = {"n": number, "text": "x" * size}
    payload = {"at": int(time.time() * 1000), "name": "sale", "data": data, "process": process}
    return frame(TEXT, orjson.dumps({"channel": "human:event", "payload": payload}), mask=NO_MASK)


async def accepted(gateway: Process) -> int:
    """Events that Kafka has acknowledged."""
    _, metrics = await Door(gateway, None).get("/metrics")
    [line] = [
        line for line in metrics.splitlines() if line.startswith('weir_events_accepted_total{kind="event"}')
    ]
    return int(float(line.split()[1]))


async def has_accepted(gateway: Process, count: int) -> bool:
    return await accepted(gateway) == count


async def until(question: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not await question():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def most_resident(gateway: Process, seconds: float) -> int:
    most = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, gateway.resident_bytes)
        await asyncio.sleep(0.05)
    return most


async def is_back(gateway: Process, before: int) -> bool:
    """A little is left to whoever allocates."""
    return gateway.resident_bytes < before + 20 * MIB


async def test_beginnings_of_large_packets_are_bounded_and_each_of_them_is_read_to_its_end(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    await ensure_topics(topics.settings(kafka_bootstrap))
    with linkable(kafka_bootstrap, database_dsn, topics, tmp_path) as (_, gateway, identity):
        before = gateway.resident_bytes
        async with links(gateway, identity, 151) as [honest, *others]:
            packet = frame(TEXT, b" " * (MAX_PACKET_BYTES - 1), mask=NO_MASK)
            begun = 1900 * 1024
            for writer in others:
                writer.write(packet[:begun])
            most = await most_resident(gateway, 2)
            # Not one of them has its turn without the rest of its packet, and nobody else is read.
            honest.write(event(1))
            await asyncio.sleep(0.5)
            assert await accepted(gateway) == 0
            for writer in others:
                writer.write(packet[begun:])
            await asyncio.gather(*(writer.drain() for writer in others))

            async def all_read() -> bool:
                _, metrics = await Door(gateway, None).get("/metrics")
                return 'refused_total{reason="invalid"} 150.0' in metrics

            reading = asyncio.create_task(until(all_read))
            while not reading.done():
                most = max(most, await most_resident(gateway, 0.2))
            await reading
            await until(lambda: has_accepted(gateway, 1))
        assert most < before + 70 * MIB, f"{most / MIB:.0f} MiB"
        await until(lambda: is_back(gateway, before))


async def test_who_does_not_end_its_packet_ends_when_others_wait(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    await ensure_topics(topics.settings(kafka_bootstrap))
    small = {"WEIR_GATEWAY_LINK_BYTES": str(4 * MIB)}
    with linkable(kafka_bootstrap, database_dsn, topics, tmp_path, **small) as (_, gateway, identity):
        async with links(gateway, identity, 2) as [honest, other]:
            other.write(frame(TEXT, bytes(MAX_PACKET_BYTES - 1), mask=NO_MASK)[: 1900 * 1024])
            await other.drain()
            await asyncio.sleep(1)
            honest.write(event(1))
            await asyncio.sleep(1)
            assert await accepted(gateway) == 0
            await until(lambda: has_accepted(gateway, 1), TURN_SECONDS + 10)
            assert "the rest of a packet did not come" in gateway.log()


async def test_a_flood_while_kafka_is_frozen_stays_within_memory_and_loses_nothing(
    database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """Each sends more than its sockets' buffers hold; all of it is stored, once."""
    with (
        servers.new_kafka() as kafka,
        linkable(kafka.bootstrap, database_dsn, topics, tmp_path) as (weir, gateway, identity),
    ):
        weir.start("writer")
        before = gateway.resident_bytes
        async with links(gateway, identity, 100) as writers:
            pid = kafka.pid
            assert pid is not None

            async def send(number: int, writer: asyncio.StreamWriter) -> None:
                for each in range(6):
                    writer.write(event(6 * number + each, 150_000))
                    await writer.drain()

            with frozen(pid):
                sending = asyncio.gather(*(send(*one) for one in enumerate(writers)))
                most = await most_resident(gateway, 6)
                assert await accepted(gateway) == 0
            arriving = asyncio.create_task(until(lambda: all_stored(weir, 600), 60))
            while not arriving.done():
                most = max(most, await most_resident(gateway, 0.2))
            await arriving
            await sending
        assert most < MEMORY_BYTES, f"{most / MIB:.0f} MiB"
        assert most < before + 110 * MIB, f"{most / MIB:.0f} MiB"
        await until(lambda: is_back(gateway, before))


async def test_who_sends_before_the_answer_is_dropped(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """While a link is held, nobody counts what arrives: an agent waits for the answer, as it has to."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    with linkable(kafka_bootstrap, database_dsn, topics, tmp_path) as (weir, _, identity):
        gateway = weir.start("gateway", WEIR_GATEWAY_SETTLE_SECONDS="20")
        for pause_seconds in (0.0, 1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            pieces = [request(identity, 1), event(1, 100)]
            if pause_seconds:
                writer.write(pieces.pop(0))
                await asyncio.sleep(pause_seconds)
            writer.write(b"".join(pieces))
            answer = b""
            async with asyncio.timeout(10):
                with suppress(ConnectionError):
                    answer = await reader.read()
            assert b" 101 " not in answer
            writer.close()


async def all_stored(weir: Weir, count: int) -> bool:
    with psycopg.connect(weir.database_dsn) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT data->>'n') FROM events").fetchone()
    return row == (count, count)


def packet_of(channel: str, payload: bytes) -> bytes:
    return frame(TEXT, b'{"channel":"%b","payload":%b}' % (channel.encode(), payload), mask=NO_MASK)


ROOM = MAX_PACKET_BYTES - 200
# What is sent, and whether it is refused; what is left aside is not even read.
BOMBS = {
    "changes": (packet_of("status:patch", b"[" + b"{}," * (ROOM // 3) + b"{}]"), True),
    "ones": (packet_of("status:patch", b"[" + b"1," * (ROOM // 2) + b"1]"), True),
    "changes in a change": (packet_of("status:patch", b'[{"value":[' + b"1," * (ROOM // 2) + b"1]}]"), False),
    "nested changes": (packet_of("status:patch", b"[" * ROOM), True),
    "a nested value": (packet_of("status:patch", b'[{"value":' + b"[" * ROOM), True),
    "processes": (packet_of("status", b'{"data":{"process":[' + b"{}," * (ROOM // 3) + b"{}]}}"), False),
    "a nested status": (packet_of("status", b'{"data":' + b'{"a":' * (ROOM // 5)), True),
    "a nested packet": (packet_of("logs", b"[" * ROOM), True),
    "a large event": (packet_of("human:event", b'{"name":"a","data":[' + b"1," * (ROOM // 2) + b"1]}"), True),
    "a nested event": (packet_of("human:event", b'{"name":"a","data":' + b"[" * (ROOM // 2)), True),
    "a long name": (packet_of("human:event", b'{"name":"' + b"n" * ROOM + b'"}'), True),
    "a long moment": (packet_of("human:event", b'{"name":"a","at":' + b"9" * ROOM + b"}"), True),
    "keys": (frame(TEXT, b"{" + b'"a":1,' * (ROOM // 6) + b'"a":1}', mask=NO_MASK), True),
}  # fmt: skip


async def test_a_packets_bombs_cost_no_more_than_honest_packets(
    kafka_bootstrap: str, database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """Counted before anything is decoded: others are answered meanwhile, and the link goes on."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    with linkable(kafka_bootstrap, database_dsn, topics, tmp_path) as (weir, gateway, identity):
        before = gateway.resident_bytes
        door = Door(gateway, weir.credentials.ingest_key)
        async with links(gateway, identity, 1) as [link]:
            refused = most = 0
            for number, (kind, (packet, is_refused)) in enumerate(BOMBS.items()):
                refused += is_refused
                begun_at = time.monotonic()
                link.write(packet)
                link.write(event(number))

                async def arrived(number: int = number) -> bool:
                    nonlocal most
                    most = max(most, gateway.resident_bytes)
                    return await accepted(gateway) > number

                await until(arrived, 10)
                assert time.monotonic() - begun_at < 2, kind
                _, metrics = await door.get("/metrics")
                expected = f'weir_events_refused_total{{reason="invalid"}} {refused}.0'
                assert refused == 0 or expected in metrics, kind
        assert most < before + 40 * MIB, f"{most / MIB:.0f} MiB"
