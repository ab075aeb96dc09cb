"""The live feed of real processes: quick, through faults, and no larger than it says."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from schema.topics import ensure_topics
from tests.support import servers
from tests.support.followers import Follower, following, public_ids
from tests.support.processes import Process, Weir, call, deployed, wait_ready
from tests.support.records import event, events, record, topic_of
from tests.support.topics import TopicNames

MIB = 1024 * 1024
STUCK = 8


async def accepted(weir: Weir, gateway: Process, name: str) -> float:
    """Send one event; the moment of its 202."""
    key = {"X-Api-Key": weir.credentials.ingest_key}
    status, answer = await asyncio.to_thread(call, gateway, "POST", "/v1/events", {"name": name}, key)
    assert (status, isinstance(answer, dict)) == (202, True), answer
    return time.monotonic()


async def follow(stack: AsyncExitStack, weir: Weir, api: Process, **options: Any) -> Follower:
    """Somebody who follows the bucket."""
    session = await stack.enter_async_context(aiohttp.ClientSession())
    connection = following(session, api.url, weir.credentials.access_token, **options)
    follower = await stack.enter_async_context(connection)
    await follower.follow(public_ids(weir.database_dsn)[weir.credentials.bucket_id])
    await follower.settled()
    return follower


async def test_within_a_second_of_every_process_and_sigterm_drops_the_connection(weir: Weir) -> None:
    """Each process reads for its own; one that stops drops its followers without a word, and is gone."""
    gateway, first, second = weir.start("gateway"), weir.start("api"), weir.start("api")
    async with AsyncExitStack() as stack:
        followers = [await follow(stack, weir, api) for api in (first, second, second)]
        delays = []
        for number in range(5):
            # Not a writer far and wide: what is live does not wait for it.
            accepted_at = await accepted(weir, gateway, f"e{number}")
            for follower in followers:
                assert (await follower.event())["event_name"] == f"e{number}"
                delays.append(time.monotonic() - accepted_at)
        assert max(delays) < 1.0, delays
        stopped_at = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(first.terminate))
        assert await followers[0].ending() == (1006, "")
        assert await stopping == 0
        assert time.monotonic() - stopped_at < 8
        await accepted(weir, gateway, "after")
        for follower in followers[1:]:
            assert (await follower.event())["event_name"] == "after"
    assert "live feed pauses" not in second.log()


async def test_the_feed_goes_on_after_kafka_was_away(
    database_dsn: str, topics: TopicNames, tmp_path: Path
) -> None:
    """The followers stay; /readyz says what is wrong meanwhile; what is accepted afterwards comes."""
    with servers.new_kafka() as kafka:
        await ensure_topics(topics.settings(kafka.bootstrap))
        with deployed(
            kafka.bootstrap, database_dsn, topics, tmp_path, WEIR_KAFKA_REQUEST_SECONDS="2"
        ) as weir:
            gateway, api = weir.start("gateway"), weir.start("api")
            async with AsyncExitStack() as stack:
                follower = await follow(stack, weir, api)
                await accepted(weir, gateway, "before")
                assert (await follower.event())["event_name"] == "before"
                await asyncio.to_thread(kafka.stop, 10.0)
                deadline = time.monotonic() + 30
                degraded: Any = {}
                while "live_feed" not in degraded and time.monotonic() < deadline:
                    status, body = await asyncio.to_thread(call, api, "GET", "/readyz")
                    assert status == 200
                    assert isinstance(body, dict)
                    degraded = body["degraded"]
                    await asyncio.sleep(0.2)
                assert degraded["live_feed"].startswith("paused: Kafka")
                await asyncio.to_thread(kafka.start)
                await asyncio.to_thread(wait_ready, gateway)
                await accepted(weir, gateway, "after")
                assert (await follower.event())["event_name"] == "after"
                _, body = await asyncio.to_thread(call, api, "GET", "/readyz")
                assert isinstance(body, dict)
                assert "live_feed" not in body["degraded"]


async def test_followers_that_do_not_read_cost_no_more_than_was_said(weir: Weir) -> None:
    """While many times the bound passes by, the process grows by the bound and little else."""
    bound = 8 * MIB
    api = weir.start("api", WEIR_LIVE_QUEUE_BYTES=str(4 * MIB), WEIR_LIVE_ALL_QUEUES_BYTES=str(bound))
    settings = weir.topics.settings(weir.kafka_bootstrap)
    data = orjson.dumps({"x": "y" * 240_000})
    async with AsyncExitStack() as stack:
        reading = await follow(stack, weir, api, max_msg_size=0)
        for _ in range(STUCK):
            stuck = await follow(stack, weir, api)
            response = stuck.socket._response
            assert response.connection is not None
            transport = response.connection.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            # Else it would wait for an answer to its close frame, which it does not read.
            stack.callback(transport.abort)
        topic = await stack.enter_async_context(topic_of(settings))
        before = api.resident_bytes
        largest = before
        for number in range(50):
            tail = event(f"e{number}", data=data)
            await topic.send(record(events(weir.credentials.bucket_id, tail)), number % 4)
            await reading.event()
            largest = max(largest, api.resident_bytes)
        # What the kernel keeps for each connection is not the process's.
        assert largest - before < bound + 40 * MIB, (before, largest)
    assert '"ending":"slow"' in api.log()
