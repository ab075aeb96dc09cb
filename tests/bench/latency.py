"""Accepted to visible: how long after its 202 a query sees an event, under an open load.

First the sustained rate with requests of this size; then 25, 50 and 75 % of it, due on the dot whatever
became of the requests before. An event is visible when a query, asked all the time, first sees its record's
offset as stored, which commits with the rows. Beside it stands the way from the moment at which the request
was due.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schema.receipts import decode_receipt
from tests.bench import ground, recount
from tests.bench.arithmetic import percentile, summary
from tests.bench.figures import Figure, say
from tests.bench.generator import Result
from tests.bench.ground import Ground
from tests.bench.loads import sent
from tests.bench.recount import Void
from tests.bench.scale import Scale
from tests.bench.watching import Watch, topic_ends
from tests.bench.way import Way, opened
from tests.bench.workload import Shape
from tests.bench.writer import RUN

# A request is what one device has gathered.
SHAPE = replace(Shape(), events_of_request=100, devices_of_request=1, templates=64)
CONNECTIONS = 64
SHARES = (0.25, 0.50, 0.75)
_CALIBRATIONS = 3
_WAIT_SECONDS = 120.0


async def measure(where: Ground, scale: Scale, settings: dict[str, str]) -> list[Figure]:
    """One figure for each share of the sustained load. Raises Void."""
    figures = []
    async with ground.plot(where) as plot, opened(plot, SHAPE, settings) as way:
        size = max(1, scale.events // SHAPE.events_of_request)
        await way.run(range(size // 10 + 1))
        rates = []
        for turn in range(1, _CALIBRATIONS + 1):
            way.go_on()
            rates.append(await way.run(range(turn * RUN, turn * RUN + size)))
            say(f"latency: sustained {rates[-1]:,.0f} events/s")
        sustained = summary(rates).median
        # A new server makes a file of its log every second or so, and each commit waits for it; one that has
        # run for a while takes up old ones, which a checkpoint makes ready.
        await way.connection.execute("CHECKPOINT")
        for place, share in enumerate(SHARES):
            figures.append(await _at(way, share, sustained, scale, first=(place + 10) * RUN))
        await recount.check_every_count(plot.dsn)
    return figures


async def _at(way: Way, share: float, sustained: float, scale: Scale, first: int) -> Figure:
    rate = sustained * share / SHAPE.events_of_request
    numbers = range(first, first + max(20, round(rate * scale.latency_seconds)))
    way.go_on()
    order = way.order(numbers, connections=CONNECTIONS, rate=rate)
    result = await sent(order, way.plot.ground.folder, scale.latency_seconds * 4 + 60)
    await way.watch.wait(await topic_ends(way.plot.kafka_settings()), _WAIT_SECONDS)
    await way.check(result.accepted)
    waits = _waits(result, way.watch)
    accepted = [visible - sent_.accepted_at for sent_, visible in waits]
    facts: dict[str, Any] = {
        "share_of_sustained": share,
        "sustained_events_per_second": round(sustained),
        "requests": len(waits),
        "events_of_request": SHAPE.events_of_request,
        "devices_of_request": SHAPE.devices_of_request,
        "accepted_to_visible_p50": round(percentile(accepted, 0.50), 4),
        "due_to_visible_p50": round(
            percentile([visible - sent_.due_at for sent_, visible in waits], 0.50), 4
        ),
        "due_to_visible_p99": round(
            percentile([visible - sent_.due_at for sent_, visible in waits], 0.99), 4
        ),
        "sent_to_accepted_p99": round(percentile([s.accepted_at - s.sent_at for s, _ in waits], 0.99), 4),
        "statuses": result.statuses,
    }
    say(f"latency at {share:.0%}: p99 {percentile(accepted, 0.99):.4f} s, {facts}")
    return Figure(
        f"accepted to visible at {share:.0%} of {sustained:,.0f} events/s: p99 (least, most: p50, p99.9)",
        # One run has one p99: its neighbours say more than itself twice over.
        replace(
            summary([percentile(accepted, 0.99)]),
            least=percentile(accepted, 0.50),
            most=percentile(accepted, 0.999),
            count=len(accepted),
        ),
        "s",
        "latency_half" if share == 0.5 else None,
        facts=facts,
    )


def _waits(result: Result, watch: Watch) -> list[tuple[Any, float]]:
    """Each accepted request with the moment at which all of it was visible."""
    waits = []
    for request in result.requests:
        positions = decode_receipt(request.receipt)
        moments = [watch.visible_at(partition, offset) for partition, (_, offset) in positions.items()]
        if not moments or None in moments:
            raise Void(f"request {request.number} was accepted at {positions} and never seen")
        # What was seen between the acknowledgement on the broker and the answer's arrival waited for nothing.
        waits.append((request, max(request.accepted_at, *(at for at in moments if at is not None))))
    return waits
