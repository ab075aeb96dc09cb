"""Whatever is killed while events stream: each acknowledged event is stored once, each rollup is right."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from deploy.local.kafka import KafkaServer
from deploy.local.timescale import TimescaleServer
from schema.connections import new_reader, stop_within
from schema.migrations.migrate import upgrade
from schema.settings import KafkaSettings
from schema.topics import ensure_topics
from tests.support import oracle, servers
from tests.support.databases import dsn_of, new_database
from tests.support.load import Answers, Load
from tests.support.processes import Weir, deployed, wait_ready
from tests.support.topics import TopicNames

SEED = 20_260_101


async def end_offsets(weir: Weir) -> dict[int, int]:
    """Where the events topic ends now."""
    from aiokafka import TopicPartition

    settings: KafkaSettings = weir.topics.settings(weir.kafka_bootstrap)
    reader = new_reader(settings)
    try:
        await asyncio.wait_for(reader.start(), 20)
        places = [TopicPartition(settings.kafka_events_topic, p) for p in range(settings.kafka_partitions)]
        ends = await asyncio.wait_for(reader.end_offsets(places), 20)
        return {place.partition: end for place, end in ends.items()}
    finally:
        await stop_within(reader.stop(), 2, "reader")


async def judge(weir: Weir, answers: Answers, seconds: float = 60) -> None:
    """Let the writers finish, then ask the oracle."""
    ends = await end_offsets(weir)
    await asyncio.to_thread(oracle.wait_stored, weir.database_dsn, weir.topics.events, ends, seconds)
    assert answers.acknowledged, f"nothing was acknowledged at all: {answers.statuses}"
    await asyncio.to_thread(
        oracle.check, weir.database_dsn, weir.credentials.bucket_id, answers.acknowledged, answers.unknown
    )


async def test_writers_killed_in_mid_batch(weir: Weir) -> None:
    """kill -9 of a writer, again and again, with another one beside it half of the time."""
    gateway = weir.start("gateway")
    writers = [weir.start("writer")]
    load = asyncio.create_task(Load([gateway.url], weir.credentials.ingest_key, SEED).run(10))
    source = random.Random(SEED)
    while not load.done():
        await asyncio.sleep(source.uniform(0.3, 1.5))
        writers.pop(source.randrange(len(writers))).kill()
        writers += [
            weir.start("writer", ready=False)
            for _ in range(source.choice((1, 1, 2)) if len(writers) < 2 else 0)
        ]
        if not writers:
            writers.append(weir.start("writer", ready=False))
    await judge(weir, await load)


async def test_gateways_killed_under_load(weir: Weir) -> None:
    """kill -9 of a gateway loses requests without an answer, never one with."""
    weir.start("writer")
    gateways = [weir.start("gateway"), weir.start("gateway")]
    load = Load([gateway.url for gateway in gateways], weir.credentials.ingest_key, SEED + 1)
    running = asyncio.create_task(load.run(10))
    source = random.Random(SEED)
    while not running.done():
        await asyncio.sleep(source.uniform(0.5, 2))
        place = source.randrange(2)
        gateways[place].kill()
        gateways[place] = weir.start("gateway", ready=False)
        load.urls[place] = gateways[place].url
    answers = await running
    assert answers.statuses[0], "no request ever met a killed gateway: the test proves nothing"
    await judge(weir, answers)


async def test_kafka_killed_and_restarted(database_dsn: str, topics: TopicNames, tmp_path: Path) -> None:
    """kill -9 of the broker: 503 meanwhile, recovery unaided, nothing lost."""
    with servers.new_kafka() as kafka:
        await ensure_topics(topics.settings(kafka.bootstrap))
        with deployed(kafka.bootstrap, database_dsn, topics, tmp_path) as weir:
            await _through_kafka_outage(weir, kafka)


async def _through_kafka_outage(weir: Weir, kafka: KafkaServer) -> None:
    gateway = weir.start("gateway")
    weir.start("writer")
    load = asyncio.create_task(Load([gateway.url], weir.credentials.ingest_key, SEED + 2).run(22))
    await asyncio.sleep(3)
    kafka.kill()
    await asyncio.sleep(6)
    await asyncio.to_thread(kafka.start)
    answers = await load
    assert answers.statuses[503], f"the outage was never answered with 503: {answers.statuses}"
    assert not answers.unknown, "the gateway did not recover by itself"
    await judge(weir, answers, 90)


async def test_postgres_killed_and_restarted(
    kafka_bootstrap: str, topics: TopicNames, tmp_path: Path
) -> None:
    """kill -9 of the database: ingest goes on acknowledging, the writer catches up unaided."""
    await ensure_topics(topics.settings(kafka_bootstrap))
    with servers.new_timescale() as server, new_database(dsn_of(server.dsn, "postgres"), "killed") as name:
        dsn = dsn_of(server.dsn, name)
        await asyncio.to_thread(upgrade, dsn)
        with deployed(kafka_bootstrap, dsn, topics, tmp_path) as weir:
            await _through_database_outage(weir, server)


async def _through_database_outage(weir: Weir, server: TimescaleServer) -> None:
    gateway = weir.start("gateway")
    writer = weir.start("writer")
    load = Load([gateway.url], weir.credentials.ingest_key, SEED + 3)
    running = asyncio.create_task(load.run(14))
    await asyncio.sleep(3)
    server.kill()
    before = load.answers.statuses[202]
    await asyncio.sleep(4)
    during = load.answers.statuses[202] - before
    await asyncio.to_thread(server.start)
    answers = await running
    assert during > 20, f"only {during} requests were accepted while the database was away"
    assert not answers.unknown
    await judge(weir, answers)
    await asyncio.to_thread(wait_ready, writer)


async def test_sigterm_under_load_ends_every_process_within_its_grace(weir: Weir) -> None:
    """Each process ends in time, requests in flight get their answer, and nothing is lost."""
    gateway, writer, api = weir.start("gateway"), weir.start("writer"), weir.start("api")
    load = Load([gateway.url], weir.credentials.ingest_key, SEED + 4)
    running = asyncio.create_task(load.run(5))
    await asyncio.sleep(2)
    for process in (api, writer, gateway):
        started = time.monotonic()
        code = await asyncio.to_thread(process.terminate, 11)
        assert (process.role, code) == (process.role, 0)
        assert time.monotonic() - started < 10.5
    load.urls[:] = [weir.start("gateway").url]
    weir.start("writer")
    await judge(weir, await running)
