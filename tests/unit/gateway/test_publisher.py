"""What waits for Kafka is bounded to the byte, and let go of when it failed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from ingest.gateway.admission import Admitted
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import REQUEST_OVERHEAD_BYTES, Publisher
from schema.errors import Overloaded, Unavailable
from schema.metrics import GatewayMetrics
from schema.records import EVENTS
from schema.settings import GatewaySettings
from tests.support.bounds import AT_AND_ABOVE


class GoneLater:
    """A way to Kafka that is there when a request comes, and gone when its record is sent."""

    def __init__(self) -> None:
        self.asked = 0

    def current(self) -> Any:
        self.asked += 1
        if self.asked > 1:
            raise Unavailable("Kafka: gone")


@AT_AND_ABOVE
async def test_no_more_is_held_than_the_setting_says(beyond: int) -> None:
    settings = GatewaySettings()
    metrics = GatewayMetrics(CollectorRegistry())
    publisher = Publisher(settings, cast("Producing", GoneLater()), metrics)
    admitted = Admitted(bytes(12), [])
    admitted.add(0, EVENTS, 0, ("a", "events", "", ""), [bytes(1000)])
    held_bytes = settings.in_flight_bytes - admitted.held_bytes - REQUEST_OVERHEAD_BYTES + beyond
    publisher.held_bytes = held_bytes
    with pytest.raises(Overloaded if beyond else Unavailable):
        await publisher.publish(admitted)
    await publisher.close(1.0)
    assert publisher.held_bytes == held_bytes


async def test_labels_and_the_answer_that_waits_are_held_too() -> None:
    """A request may be nearly nothing else, and there may be hundreds of them."""
    settings = GatewaySettings()
    publisher = Publisher(settings, cast("Producing", GoneLater()), GatewayMetrics(CollectorRegistry()))
    admitted = Admitted(bytes(12), [], answer_bytes=1_000_000)
    for number in range(100):
        admitted.add(number % 4, EVENTS, 0, (f"{number:0>200}", "é" * 100, "a" * 200, "s"), [bytes(10)])
    assert admitted.held_bytes > 1_000_000 + 100 * (200 + 200 + 200)
    publishing = asyncio.create_task(publisher.publish(admitted))
    await asyncio.sleep(0)
    assert publisher.held_bytes > 1_000_000 + 100 * (200 + 200 + 200)
    with pytest.raises(Unavailable):
        await publishing
    await publisher.close(1.0)
    assert publisher.held_bytes == 0
