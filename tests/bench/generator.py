"""Load, in a process of its own: ``python -m tests.bench.generator ORDER RESULT`` (both JSON files).

Closed: each connection sends its next request when the last one was answered, until the ordered requests
are accepted. Open: requests fall due at a rate, whatever became of the ones before; a request that finds no
free connection waits, and its wait counts. A request that is not accepted is sent again as it is, like a
good client's; identities make that safe.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tests.bench.client import HttpConnection, request_head
from tests.bench.workload import Bucket, Shape, Workload, made

_RETRY_SECONDS = 0.1
PATH = "/v1/events"


@dataclass(frozen=True, slots=True)
class Order:
    """What to send. ``rate``: requests a second; 0: closed. ``give_up_seconds``: for one request, repeats
    included."""

    url: str
    shape: Shape
    buckets: list[Bucket]
    partitions: int
    made_at: datetime
    first: int
    count: int
    connections: int
    rate: float = 0.0
    give_up_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that was accepted. Moments are monotonic; ``due_at`` equals ``sent_at`` when closed."""

    number: int
    due_at: float
    sent_at: float
    accepted_at: float
    receipt: str


@dataclass(slots=True)
class Result:
    """``accepted``: events. ``cpu_seconds``: of this process while it sent. ``given_up``: requests."""

    begun_at: float = 0.0
    ended_at: float = 0.0
    cpu_seconds: float = 0.0
    accepted: int = 0
    given_up: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    requests: list[Sent] = field(default_factory=list)


class Generator:
    """Sends one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._workload: Workload = made(order.shape, order.buckets, order.partitions, order.made_at)
        self._statuses: Counter[int] = Counter()
        self._result = Result()
        self._due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()

    async def run(self) -> Result:
        """Send everything."""
        order, result = self._order, self._result
        cpu = time.process_time()
        result.begun_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(order.connections):
                group.create_task(self._sender())
            await self._fill()
        result.ended_at = time.monotonic()
        result.cpu_seconds = time.process_time() - cpu
        result.statuses = dict(self._statuses)
        return result

    async def _fill(self) -> None:
        order = self._order
        for place in range(order.count):
            due_at = self._result.begun_at + place / order.rate if order.rate else 0.0
            if (early := due_at - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._due.put_nowait((order.first + place, due_at))
        for _ in range(order.connections):
            self._due.put_nowait(None)

    async def _sender(self) -> None:
        async with HttpConnection(self._order.url) as connection:
            while (entry := await self._due.get()) is not None:
                await self._send(connection, *entry)

    async def _send(self, connection: HttpConnection, number: int, due_at: float) -> None:
        template = self._workload.template(number)
        body = self._workload.body(number)
        head = request_head(PATH, template.bucket.ingest_key, len(body))
        sent_at = time.monotonic()
        while True:
            answer = await connection.ask(head, body)
            self._statuses[answer.status] += 1
            if answer.status == 202:
                break
            if time.monotonic() - sent_at > self._order.give_up_seconds:
                self._result.given_up += 1
                return
            await asyncio.sleep(_RETRY_SECONDS)
        accepted_at = time.monotonic()
        told = msgspec.json.decode(answer.body)
        if told["accepted"] != template.events:
            raise ValueError(f"accepted {told['accepted']} of {template.events}: {answer.body[:500]!r}")
        self._result.accepted += template.events
        if self._order.rate:
            self._result.requests.append(
                Sent(number, due_at or sent_at, sent_at, accepted_at, str(told["receipt"]))
            )


def encoded(content: Order | Result) -> bytes:
    """As JSON."""
    return msgspec.json.encode(asdict(content))


def decoded_order(text: bytes) -> Order:
    """The reverse of ``encoded``."""
    return msgspec.json.decode(text, type=Order)


def decoded_result(text: bytes) -> Result:
    """The reverse of ``encoded``."""
    return msgspec.json.decode(text, type=Result)


def main(arguments: list[str]) -> int:
    """Carry out one order."""
    order_file, result_file = map(Path, arguments)
    generator = Generator(decoded_order(order_file.read_bytes()))
    result: Any = uvloop.run(generator.run())
    partial = result_file.with_suffix(".partial")
    partial.write_bytes(encoded(result))
    partial.rename(result_file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
