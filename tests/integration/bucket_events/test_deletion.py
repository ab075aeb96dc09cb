"""A bucket is emptied, with what is still on its way, and nothing comes back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager

import psycopg

from api.tenancy.deletion import empty_bucket
from schema.connections import Duty, close_pool, new_producer, open_pool
from schema.records import encode_record
from schema.settings import ApiSettings, KafkaSettings
from schema.topics import ensure_topics
from tests.integration.bucket_events.calls import NOON, ask
from tests.support.api_door import Door, api_door
from tests.support.stored import Occurrence, Stored, segments, stored_in
from tests.support.topics import TopicNames


def before(dsn: str, kafka: KafkaSettings) -> AbstractAsyncContextManager[Door]:
    """The query API, with a Kafka."""
    return api_door(dsn, kafka_bootstrap=kafka.kafka_bootstrap, kafka_events_topic=kafka.kafka_events_topic)


async def test_deletion_answers_what_it_deleted_and_nothing_comes_back(
    database_dsn: str, kafka_bootstrap: str, topics: TopicNames
) -> None:
    kafka = topics.settings(kafka_bootstrap)
    await ensure_topics(kafka)
    async with before(database_dsn, kafka) as api, stored_in(database_dsn, topic=topics.events) as stored:
        await stored.write(
            api.buckets["first"], [Occurrence(NOON + n, str(n), "boot", "shop") for n in range(3)]
        )
        await stored.write(api.buckets["theirs"], [Occurrence(NOON, "theirs")])
        # Accepted before the call, and not yet stored: it lies in the log.
        on_its_way = [Occurrence(NOON + 10, "on its way", "boot", "shop")]
        await publish(kafka, 1, api.buckets["first"], on_its_way)

        answer = await ask(api, "DELETE", "events/delete_all", who="admin")
        assert answer.status == 200
        assert answer.body == [{"app_name": "shop", "events": ["boot"], "counts": {"boot": 3}}]
        with psycopg.connect(database_dsn) as connection:
            fences = connection.execute(
                "SELECT partition, epoch, fence_offset FROM fences WHERE bucket_id = %s ORDER BY 1",
                [api.buckets["first"]],
            ).fetchall()
            retired = connection.execute(
                "SELECT retired_at IS NOT NULL FROM bucket_keys WHERE bucket_id = %s ORDER BY bucket_key",
                [api.buckets["first"]],
            ).fetchall()
        assert fences == [(0, 1, 0), (1, 1, 1), (2, 1, 0), (3, 1, 0)]
        assert retired == [(True,), (False,)]

        fenced = await stored.write(api.buckets["first"], on_its_way, partition=1)
        assert (fenced.fenced, fenced.stored) == (1, 0)
        assert (await ask(api, "GET", "eventsKeysByApp")).body == []
        assert (await ask(api, "POST", "events", {"event_name": "boot"})).body == []
        days = {"event_name": "boot", "days": 10_000, "interval": "day"}
        assert (await ask(api, "POST", "events/stats", days)).body == []
        assert (await ask(api, "GET", "eventsKeysByApp", who="stranger", bucket="theirs")).body != []

        # Sent again after the call, it is a new event.
        sent_again = await stored.write(api.buckets["first"], on_its_way, partition=1)
        assert sent_again.stored == 1
        assert (await ask(api, "DELETE", "events/delete_all")).body == [
            {"app_name": "shop", "events": ["boot"], "counts": {"boot": 1}}
        ]
        assert (await ask(api, "DELETE", "events/delete_all")).body == []


# What a writer does that finds another log than it has read.
NEXT_EPOCH = "INSERT INTO partition_offsets (topic, partition, epoch) VALUES (%s, 1, 2)"


async def test_the_end_of_an_earlier_log_fences_nothing_of_a_new_one(api: Door, database_dsn: str) -> None:
    bucket = api.buckets["first"]
    ends = iter(({1: 5_000}, {1: 10}))

    async def end_offsets() -> dict[int, int]:
        found = next(ends)
        if found == {1: 5_000}:
            # The log was made anew, and a writer noticed, between this answer and the deletion.
            with psycopg.connect(database_dsn, autocommit=True) as connection:
                connection.execute(NEXT_EPOCH, ["weir.events"])
        return found

    async def nothing(_connection: object, _key: int) -> None:
        return None

    settings = ApiSettings(database_dsn=database_dsn)
    pool = await open_pool(settings, Duty.API)
    try:
        await empty_bucket(pool, bucket, "weir.events", end_offsets, nothing, acquire_seconds=5)
    finally:
        await close_pool(pool, 5)
    with psycopg.connect(database_dsn) as connection:
        fences = connection.execute("SELECT partition, epoch, fence_offset FROM fences").fetchall()
        keys = connection.execute("SELECT count(*) FROM bucket_keys WHERE bucket_id = %s", [bucket])
        assert (fences, keys.fetchone()) == ([(1, 2, 10)], (2,))


async def publish(kafka: KafkaSettings, partition: int, bucket: str, events: list[Occurrence]) -> None:
    producer = new_producer(kafka)
    await producer.start()
    try:
        value = encode_record(bytes(16), segments(bucket, events))
        await producer.send_and_wait(kafka.kafka_events_topic, value, partition=partition)
    finally:
        await producer.stop()


async def test_deletions_at_the_same_moment_all_end_and_count_each_event_once(
    database_dsn: str, kafka_bootstrap: str, topics: TopicNames
) -> None:
    kafka = topics.settings(kafka_bootstrap)
    await ensure_topics(kafka)
    async with before(database_dsn, kafka) as api, stored_in(database_dsn, topic=topics.events) as stored:
        await stored.write(api.buckets["first"], [Occurrence(NOON + n, str(n)) for n in range(50)])
        answers = await asyncio.gather(*(ask(api, "DELETE", "events/delete_all") for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        assert sum(answer.body[0]["counts"]["boot"] for answer in answers if answer.body) == 50


async def test_a_deletion_takes_no_filter_and_needs_kafka(api: Door, stored: Stored) -> None:
    await stored.write(api.buckets["first"], [Occurrence(NOON, "kept", "boot", "shop")])
    answer = await ask(api, "DELETE", "events/delete_all", {"app_name": "shop"})
    assert answer.status == 400
    answer = await ask(api, "DELETE", "events/delete_all")
    assert (answer.status, list(answer.body)) == (500, ["msg"])
    assert (await ask(api, "GET", "eventsKeysByApp")).body[0]["counts"] == {"boot": 1}


async def test_a_log_made_anew_and_not_yet_noticed_keeps_nothing_that_came_before_a_deletion(
    database_dsn: str, kafka_bootstrap: str, topics: TopicNames
) -> None:
    """Its end lies below the fence of an earlier deletion, which must not pass for the later one."""
    kafka = topics.settings(kafka_bootstrap)
    await ensure_topics(kafka)
    async with before(database_dsn, kafka) as api, stored_in(database_dsn, topic=topics.events) as stored:
        bucket = api.buckets["first"]
        with psycopg.connect(database_dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO partition_offsets VALUES (%s, 1, 1, 5000)", [topics.events])
            connection.execute(
                "INSERT INTO fences VALUES (%s, %s, 1, 1, 5000, now() - INTERVAL '1 hour')",
                [bucket, topics.events],
            )
            sent_at = time.time_ns() // 1000 - 60_000_000
            await publish(kafka, 1, bucket, [Occurrence(sent_at, "before")])
            assert (await ask(api, "DELETE", "events/delete_all", who="admin")).status == 200
            # The offsets of the old log still drop nothing of what they should not.
            fence = connection.execute(
                "SELECT epoch, fence_offset FROM fences WHERE bucket_id = %s AND partition = 1", [bucket]
            ).fetchone()
            assert fence == (1, 5000)
            # What a writer does once it has noticed.
            connection.execute(
                "UPDATE partition_offsets SET epoch = 2, next_offset = 0 WHERE topic = %s", [topics.events]
            )
        events = [Occurrence(sent_at, "before"), Occurrence(sent_at + 120_000_000, "after")]
        outcome = await stored.write(bucket, events, partition=1)
        assert (outcome.fenced, outcome.stored) == (1, 1)
