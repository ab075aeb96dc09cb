"""What the Kafka client lets out is turned into one of our errors, and its end is an end."""

from __future__ import annotations

import asyncio

import pytest

from schema.connections import kafka_errors, stop_consumer, stop_within
from schema.errors import Unavailable


class _Client:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class _Tripping:
    """A consumer whose stop awaits a task that it has cancelled itself."""

    def __init__(self) -> None:
        self._client = _Client()

    async def stop(self) -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task


async def test_a_cancellation_of_the_clients_own_is_unavailable() -> None:
    with pytest.raises(Unavailable), kafka_errors():
        raise asyncio.CancelledError


async def test_a_cancellation_of_ours_stays_one() -> None:
    async def work() -> None:
        with kafka_errors():
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_consumer_that_trips_over_itself_is_stopped_whole() -> None:
    consumer = _Tripping()
    await stop_consumer(consumer, 1, "consumer")
    assert consumer._client.closed


async def test_a_stop_that_ends_cancelled_cancels_nobody() -> None:
    await stop_within(_Tripping().stop(), 1, "client")
