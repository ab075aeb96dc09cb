"""Writers as real processes: killed, added, removed, cut off, frozen; afterwards all is stored once."""

from __future__ import annotations

import asyncio
import random
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Callable

import asyncpg
import psycopg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from ingest.writer.resend import resend
from schema.connections import Connection
from schema.errors import Invalid
from schema.settings import WriterSettings
from schema.topics import MAX_RECORD_BYTES, ensure_topics
from tests.support import oracle
from tests.support.processes import Process, Weir
from tests.support.proxy import proxy_before
from tests.support.records import HOUR, Topic, dead_letters_in, event, events, now, record, topic_of

PARTITIONS = 4
_LETTERS = "SELECT dead_letter_id FROM dead_letters ORDER BY partition, record_offset, position"
_COPYING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'COPY%'
"""


def metric(process: Process, pattern: str) -> float:
    """The sum of the samples whose line begins with ``pattern``."""
    with urllib.request.urlopen(f"{process.url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(pattern, line))


async def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)


async def start(weir: Weir, **settings: str) -> Process:
    return await asyncio.to_thread(lambda: weir.start("writer", ready=True, **settings))


async def stored(weir: Weir, topic: Topic, seconds: float = 40.0) -> None:
    await asyncio.to_thread(oracle.wait_stored, weir.database_dsn, weir.topics.events, topic.ends, seconds)


class Stream:
    """Records that keep coming, on all partitions: some late, some repeated."""

    def __init__(self, topic: Topic, bucket_id: str, seed: int) -> None:
        self.topic, self.bucket_id = topic, bucket_id
        self.source = random.Random(seed)
        self.sent: set[str] = set()
        self._number = 0

    def next(self) -> tuple[int, bytes]:
        self._number += 1
        source, at = self.source, now()
        ids = [f"{self._number}-{n}" for n in range(source.randrange(5, 60))]
        tails = [
            event(i, at - (source.randrange(50) * HOUR if source.random() < 0.1 else 0), device=f"d{n % 5}")
            for n, i in enumerate(ids)
        ]
        self.sent |= set(ids)
        if source.random() < 0.1:
            tails += tails[:3]
        return self._number % PARTITIONS, record(events(self.bucket_id, *tails))

    async def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            batch = [self.next() for _ in range(8)]
            await self.topic.send_all(batch)
            if self.source.random() < 0.1:
                await self.topic.send_all(batch[:2])
            await asyncio.sleep(0.03)


@pytest.mark.timeout(120)
async def test_writers_come_and_go_while_records_stream(weir: Weir, topic: Topic, database_dsn: str) -> None:
    bucket_id = weir.credentials.bucket_id
    stream = Stream(topic, bucket_id, 1)
    streaming = asyncio.create_task(stream.run(16))
    first = await start(weir)
    await asyncio.sleep(1)
    second = await start(weir)
    await asyncio.sleep(1)
    third = await start(weir)
    await asyncio.sleep(1)
    first.kill()
    assert await asyncio.to_thread(second.terminate, 10.0) == 0
    fourth = await start(weir)
    await asyncio.sleep(1)
    assert await asyncio.to_thread(third.terminate, 10.0) == 0
    await streaming
    await stored(weir, topic)
    assert oracle.check(database_dsn, bucket_id, stream.sent, set()) == len(stream.sent)
    assert metric(fourth, "weir_dead_letters_total") == 0
    started = time.monotonic()
    assert await asyncio.to_thread(fourth.terminate, 10.0) == 0
    assert time.monotonic() - started < 10


@pytest.mark.timeout(90)
async def test_a_writer_killed_in_the_middle_of_a_transaction(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    at = now()
    sent = [f"{n}" for n in range(200)]
    locking, watching = [await asyncpg.connect(database_dsn) for _ in range(2)]
    try:
        async with locking.transaction():
            # Offsets are moved before the rows are copied, and copying has to wait for this.
            await locking.execute("LOCK TABLE events IN SHARE ROW EXCLUSIVE MODE")
            writer = await start(weir)
            for n in range(0, 200, 10):
                tails = [event(i, at - (n % 3) * HOUR) for i in sent[n : n + 10]]
                await topic.send(record(events(bucket_id, *tails)), n // 10 % PARTITIONS)
            async with asyncio.timeout(10):
                while not await watching.fetchval(_COPYING):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.1)
            writer.kill()
        await start(weir)
        await stored(weir, topic)
        assert oracle.check(database_dsn, bucket_id, set(sent), set()) == 200
    finally:
        await locking.close()
        await watching.close()


@pytest.mark.timeout(120)
async def test_dead_letters_are_in_topic_and_table_and_a_flood_stops_the_writer(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    good = record(events(bucket_id, event("a")))
    bad = record(events(bucket_id, event("b"), event("c", data=b'{"a": NaN}'), event("d")))
    # As large as the broker takes it: with headers it must still pass.
    large = b"foreign" + bytes(MAX_RECORD_BYTES - 1000)
    for value in (good, bad, b"", large):
        await topic.send(value)
    # A record from before all of our time, as a foreign producer may date it.
    await topic.send(record(events(bucket_id, event("e"))), timestamp_ms=0)
    writer = await start(weir, WEIR_DEAD_LETTERS_PER_MINUTE="20")
    await stored(weir, topic)
    assert metric(writer, "weir_dead_letters_total") == 3
    assert oracle.check(database_dsn, bucket_id, {"a", "b", "d", "e"}, set()) == 4

    flood = [record(events(bucket_id, event(f"bad-{n}", data=b"{"), event(f"good-{n}"))) for n in range(30)]
    await topic.send_all((1, value) for value in flood)
    code = await asyncio.to_thread(writer.child.wait, 20)
    assert code == 1
    assert "WEIR_DEAD_LETTERS_PER_MINUTE" in writer.log()
    with psycopg.connect(database_dsn) as connection:
        assert connection.execute("SELECT count(*) < 20 FROM dead_letters").fetchone() == (True,)

    await start(weir, WEIR_DEAD_LETTERS_PER_MINUTE="100")
    await stored(weir, topic)
    expected = {"a", "b", "d", "e"} | {f"good-{n}" for n in range(30)}
    assert oracle.check(database_dsn, bucket_id, expected, set()) == 34
    with psycopg.connect(database_dsn) as connection:
        rows = connection.execute(
            "SELECT partition, record_offset, position, coalesce(bucket_id, ''), reason, payload"
            " FROM dead_letters"
        ).fetchall()
    assert len(rows) == 33
    published = set()
    for letter in await dead_letters_in(topic.settings):
        told = {name: value.decode() for name, value in letter.headers}
        assert (told["topic"], told["epoch"]) == (topic.settings.kafka_events_topic, "1")
        place = (int(told["partition"]), int(told["offset"]), int(told["position"]))
        published.add((*place, told["bucket_id"], told["reason"], letter.value))
    assert published == {tuple(row) for row in rows}
    assert large in {row[5] for row in rows}


@pytest.mark.timeout(60)
async def test_dead_letters_are_sent_again_once_their_cause_is_gone(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    missing = "ab" * 12
    for partition in (1, 3):
        await topic.send(record(events(missing, event("a"), event("b"))), partition)
    await start(weir)
    await stored(weir, topic)
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        letters = [row[0] for row in connection.execute(_LETTERS)]
        assert len(letters) == 4
        connection.execute("DELETE FROM bucket_members; DELETE FROM api_keys")
        connection.execute("UPDATE buckets SET bucket_id = %s", [missing])
    settings = WriterSettings(
        **topic.settings.model_dump(exclude={"log_level", "log_format"}), database_dsn=database_dsn
    )
    with pytest.raises(Invalid, match="no dead letter has the number 999"):
        await resend(settings, [letters[0], 999])
    lines = await resend(settings, letters)
    await resend(settings, letters[:1])
    assert sorted(line.partition("partition ")[2][0] for line in lines) == ["1", "1", "3", "3"]
    topic.ends = {1: 4, 3: 3}
    await stored(weir, topic)
    ids = sorted(oracle.stored_ids(database_dsn, missing))
    assert ids == ["a", "a", "b", "b"]


@pytest.mark.timeout(120)
async def test_a_frozen_database_fills_no_memory_and_loses_nothing(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    with proxy_before(database_dsn) as (proxy, dsn):
        writer = await start(
            weir,
            WEIR_DATABASE_DSN=dsn,
            WEIR_QUEUE_BYTES=str(4 * 1024 * 1024),
            WEIR_BATCH_BYTES=str(1024 * 1024),
            WEIR_TRANSACTION_SECONDS="3",
        )
        data = b'{"text": "' + b"x" * 2000 + b'"}'
        ids = [f"{n}" for n in range(20_000)]
        at = now()
        proxy.freeze()
        before = writer.resident_bytes
        for start_at in range(0, len(ids), 2_000):
            await topic.send_all(
                (
                    n % PARTITIONS,
                    record(events(bucket_id, *[event(i, at, data=data) for i in ids[n : n + 50]])),
                )
                for n in range(start_at, start_at + 2_000, 50)
            )
        await until(lambda: "fetching paused" in writer.log(), 15, "fetching pauses")
        await asyncio.sleep(5)
        # 40 MB wait in Kafka; here no more than the queue, and what one fetch brings on top of it.
        assert metric(writer, "weir_writer_queue_bytes") < 4 * 1024 * 1024 + 9 * 1024 * 1024
        assert writer.resident_bytes - before < 80 * 1024 * 1024
        proxy.thaw()
        await stored(weir, topic)
        assert "fetching resumed" in writer.log()
        assert oracle.check(database_dsn, bucket_id, set(ids), set()) == len(ids)
        assert writer.resident_bytes < 300 * 1024 * 1024

        # And a stop while it is frozen.
        proxy.freeze()
        await topic.send(record(events(bucket_id, event("last"))))
        await asyncio.sleep(0.5)
        started = time.monotonic()
        assert await asyncio.to_thread(writer.terminate, 10.0) == 0
        assert time.monotonic() - started < 10
    await start(weir)
    await stored(weir, topic)
    assert oracle.check(database_dsn, bucket_id, {*ids, "last"}, set()) == len(ids) + 1


@pytest.mark.timeout(90)
async def test_lost_answers_ended_sessions_and_deadlocks_cost_nothing(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    sent: set[str] = set()

    async def send(count: int = 10) -> None:
        for _ in range(count):
            ids = [f"{len(sent) + n}" for n in range(20)]
            sent.update(ids)
            await topic.send(record(events(bucket_id, *map(event, ids))), len(sent) // 20 % PARTITIONS)

    with proxy_before(database_dsn) as (proxy, dsn):
        writer = await start(weir, WEIR_DATABASE_DSN=dsn, WEIR_BATCH_SECONDS="0.01")
        await send()
        await stored(weir, topic)
        for lost in range(1, 4):
            proxy.lose_answer_to(b"COMMIT\x00")
            await send()
            await stored(weir, topic)
            assert proxy.answers_lost == lost
        assert oracle.check(database_dsn, bucket_id, sent, set()) == len(sent)
        assert metric(writer, "weir_write_retries_total") >= 3
        # What was committed is recognised by the offsets, not stored again and found to be there.
        assert metric(writer, "weir_events_duplicate_total") == 0

        for _ in range(3):
            await send(3)
            proxy.cut()
            await send(3)
        await stored(weir, topic)
        assert await asyncio.to_thread(writer.terminate, 10.0) == 0

    connection = await asyncpg.connect(database_dsn)
    try:
        writer = await start(weir)
        for _ in range(5):
            await send(4)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'weir_writer' AND datname = current_database()"
            )
        await stored(weir, topic)
        await _deadlock(connection, topic, bucket_id, sent)
        await stored(weir, topic)
        assert metric(writer, 'weir_write_retries_total{reason="conflict"}') >= 1
    finally:
        await connection.close()
    assert oracle.check(database_dsn, bucket_id, sent, set()) == len(sent)


async def _deadlock(connection: Connection, topic: Topic, bucket_id: str, sent: set[str]) -> None:
    """Somebody else inserts two events of the writer's in the other order; the writer has to give way."""
    insert = (
        "INSERT INTO events SELECT bucket_key, 'n', 'events', '', '', $2, $3, $2, '', '{}' FROM buckets"
        " WHERE bucket_id = $1"
    )
    at = now()
    moment = oracle.moment(at)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET LOCAL deadlock_timeout = '30s'")
    await connection.execute(insert, bucket_id, moment, "second")
    sent.update({"first", "second"})
    await topic.send(record(events(bucket_id, event("first", at), event("second", at))))
    await asyncio.sleep(0.6)
    await asyncio.wait_for(connection.execute(insert, bucket_id, moment, "first"), 20)
    await transaction.rollback()


@pytest.mark.timeout(60)
async def test_a_batch_that_takes_longer_than_a_transaction_may_is_stored_in_parts(
    weir: Weir, topic: Topic, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'"
        )
        connection.execute(
            "CREATE TRIGGER slowly BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slowly()"
        )
    ids = [f"{n}" for n in range(120)]
    for identifier in ids:
        await topic.send(record(events(bucket_id, event(identifier))))
    writer = await start(weir, WEIR_TRANSACTION_SECONDS="1")
    await stored(weir, topic)
    assert oracle.check(database_dsn, bucket_id, set(ids), set()) == 120
    assert metric(writer, 'weir_write_retries_total{reason="unavailable"}') >= 1


@pytest.fixture
async def admin(topic: Topic) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=topic.settings.kafka_bootstrap)
    await client.start()
    yield client
    await client.close()


async def recreate(admin: AIOKafkaAdminClient, topic: Topic) -> None:
    name = topic.settings.kafka_events_topic
    await admin.delete_topics([name])
    for _ in range(50):
        await asyncio.sleep(0.2)
        if name not in await admin.list_topics():
            break
    await ensure_topics(topic.settings)
    topic.ends.clear()


@pytest.mark.timeout(120)
async def test_a_recreated_topic_and_a_lost_tail_begin_a_new_epoch(
    weir: Weir, topic: Topic, admin: AIOKafkaAdminClient, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    values = [record(events(bucket_id, event(f"{n}"))) for n in range(12)]
    writer = await start(weir)
    for value in values:
        await topic.send(value)
    await stored(weir, topic)
    await asyncio.to_thread(writer.terminate)

    async def after(what: str, epoch: int, sent: set[str]) -> None:
        writer = await start(weir)
        await until(lambda: _standing(database_dsn) == (epoch, topic.ends[0]), 30, what)
        assert oracle.check(database_dsn, bucket_id, sent, set()) == len(sent)
        assert what in writer.log()
        assert '"level": "error"' in writer.log() or '"level":"error"' in writer.log()
        assert metric(writer, "weir_log_epochs_total") == 1
        await asyncio.to_thread(writer.terminate)

    sent = {f"{n}" for n in range(12)}
    # The log lost its tail: the first records are the same.
    await recreate(admin, topic)
    async with topic_of(topic.settings) as again:
        topic = again
        for value in values[:8]:
            await topic.send(value)
        await after("is shorter than what was stored", 2, sent)
    # Another log of the same length, with some of the same events.
    await recreate(admin, topic)
    async with topic_of(topic.settings) as again:
        topic = again
        for n in range(8, 20):
            await topic.send(values[n] if n < 12 else record(events(bucket_id, event(f"{n}"))))
        await after("holds other records", 3, sent | {f"{n}" for n in range(12, 20)})


@pytest.mark.timeout(90)
async def test_a_topic_recreated_under_a_running_writer_and_records_that_expired(
    weir: Weir, topic: Topic, admin: AIOKafkaAdminClient, database_dsn: str
) -> None:
    bucket_id = weir.credentials.bucket_id
    writer = await start(weir)
    for n in range(12):
        await topic.send(record(events(bucket_id, event(f"{n}"))))
    await stored(weir, topic)
    await recreate(admin, topic)
    sent = {f"{n}" for n in range(12)}
    async with topic_of(topic.settings) as again:
        topic = again
        for n in range(12, 40):
            sent.add(f"{n}")
            await topic.send(record(events(bucket_id, event(f"{n}"))))
        await until(lambda: _standing(database_dsn) == (2, 28), 40, "the new log is read")
        assert oracle.check(database_dsn, bucket_id, sent, set()) == 40
        await asyncio.to_thread(writer.terminate)
        # Records that expire before any writer came to them are lost, loudly; what is left is stored.
        for n in range(40, 50):
            await topic.send(record(events(bucket_id, event(f"{n}"))))
        place = TopicPartition(topic.settings.kafka_events_topic, 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=33)})
        writer = await start(weir)
        await stored(weir, topic)
        sent |= {f"{n}" for n in range(45, 50)}
        assert oracle.check(database_dsn, bucket_id, sent, set()) == 45
        assert re.search(r'"records_lost": ?5\b', writer.log()), writer.log()[-2000:]


@pytest.mark.timeout(90)
async def test_a_topic_recreated_while_nobody_looked_and_grown_past_what_was_read(
    weir: Weir, topic: Topic, admin: AIOKafkaAdminClient, database_dsn: str
) -> None:
    """The writer's next fetch finds records behind its offset, of a log that it never read from the start."""
    bucket_id = weir.credentials.bucket_id
    writer = await start(weir)
    for n in range(5):
        await topic.send(record(events(bucket_id, event(f"{n}"))))
    await stored(weir, topic)
    writer.freeze()
    try:
        await recreate(admin, topic)
        async with topic_of(topic.settings) as again:
            for n in range(5, 17):
                await again.send(record(events(bucket_id, event(f"{n}"))))
        # Far below the session's end: the writer keeps its partitions, and nobody tells it anything.
        await asyncio.sleep(1.5)
    finally:
        writer.thaw()
    await until(lambda: _standing(database_dsn)[1] == 12, 40, "the new log is read")
    assert _standing(database_dsn) == (2, 12), writer.log()[-2000:]
    assert oracle.check(database_dsn, bucket_id, {f"{n}" for n in range(17)}, set()) == 17
    assert "holds other records" in writer.log()


def _standing(dsn: str) -> tuple[int, int]:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT epoch, next_offset FROM partition_offsets WHERE partition = 0"
        ).fetchone()
    return (0, 0) if row is None else (row[0], row[1])
