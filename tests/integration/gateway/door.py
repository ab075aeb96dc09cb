"""A client of a gateway process, and a reader of what it wrote to Kafka."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
from aiokafka import TopicPartition

from schema.connections import new_reader
from schema.receipts import decode_receipt
from schema.records import Record, decode_record
from tests.support.processes import Process, Weir

TIMEOUT = aiohttp.ClientTimeout(total=20)
NDJSON = {"Content-Type": "application/x-ndjson"}


class Door:
    """Posts to one gateway with one key."""

    def __init__(self, process: Process, key: str | None) -> None:
        self.url = process.url
        self.key = key

    async def post(
        self, body: Any, path: str = "/v1/events", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body as JSON, headers. A body that is not bytes is sent as JSON."""
        sent = {"Content-Type": "application/json", **({"X-Api-Key": self.key} if self.key else {})}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.post(f"{self.url}{path}", data=data, headers=sent) as answer,
        ):
            return answer.status, await answer.json(content_type=None), dict(answer.headers)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.get(f"{self.url}{path}") as answer,
        ):
            return answer.status, await answer.text()


async def records_of(weir: Weir, receipt: str) -> list[Record]:
    """The records that a receipt names, read from Kafka at just those offsets."""
    reader = new_reader(weir.topics.settings(weir.kafka_bootstrap))
    await reader.start()
    try:
        records = []
        for partition, (epoch, offset) in decode_receipt(receipt).items():
            assert epoch == 1
            at = TopicPartition(weir.topics.events, partition)
            reader.assign([at])
            reader.seek(at, offset)
            message = await reader.getone(at)
            assert message.offset == offset
            records.append(decode_record(message.value))
        return records
    finally:
        await reader.stop()
