"""What most people write: consume JSON records, one ``INSERT … SELECT FROM unnest`` a batch, commit the
offsets.

``python -m tests.bench.plain_consumer`` with WEIR_KAFKA_BOOTSTRAP, WEIR_DATABASE_DSN, BENCH_TOPIC. No
rollups, no offsets in the database; ON CONFLICT DO NOTHING, since its batches come again after a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import datetime

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer

_BATCH_EVENTS = 10_000
_INSERT = """
INSERT INTO plain_events (bucket_key, name, stream, app, server, observed_at, id, received_at, device, data)
SELECT bucket_key, name, 'events', app, server, observed_at, id, now(), device, data::jsonb
FROM unnest(
    $1::int[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[]
) AS incoming (bucket_key, name, app, server, observed_at, id, device, data)
ON CONFLICT DO NOTHING
"""


async def _consume() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    topic = os.environ["BENCH_TOPIC"]
    connection = await asyncpg.connect(os.environ["WEIR_DATABASE_DSN"], command_timeout=60)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["WEIR_KAFKA_BOOTSTRAP"],
        group_id=f"{topic}.plain",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    print("ready", flush=True)
    try:
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=200, max_records=_BATCH_EVENTS)
            events = [orjson.loads(record.value) for records in fetched.values() for record in records]
            if events:
                await connection.execute(_INSERT, *_columns(events))
                await consumer.commit()
    finally:
        await asyncio.wait_for(consumer.stop(), 10)
        await connection.close(timeout=5)


def _columns(events: list[dict[str, object]]) -> list[list[object]]:
    plain = ("bucket_key", "name", "app", "server")
    return [
        *([event[column] for event in events] for column in plain),
        [datetime.fromisoformat(str(event["observed_at"])) for event in events],
        [event["id"] for event in events],
        [event["device"] for event in events],
        [orjson.dumps(event["data"]).decode() for event in events],
    ]


if __name__ == "__main__":
    uvloop.run(_consume())
