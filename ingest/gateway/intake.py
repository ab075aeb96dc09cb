"""The steps that every write has in common, whichever dialect it came in by.

Key → backlog and room → body → dialect → admission → rate → Kafka → answer. Each step refuses by raising
one of ``schema.errors``; ``api.http.problems`` answers. What lives as long as the process is made in
``process`` and handed in as a ``Station``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from api.http.bodies import Allowance, BodyLimits, media_type, read_body
from ingest.gateway.admission import Admitted, Terms, all_too_large, retention_floor
from ingest.gateway.backlog import Backlog
from ingest.gateway.dialects.reading import Rejection
from ingest.gateway.grants import Grant
from ingest.gateway.idempotency import HEADER, checked_key
from ingest.gateway.keys import Keys
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import Publisher
from ingest.gateway.quota import Quota
from schema.errors import Denied, Invalid, Overloaded, TooLarge, WeirError
from schema.metrics import DoorMetrics, GatewayMetrics
from schema.receipts import encode_receipt
from schema.records import event_id
from schema.settings import GatewaySettings

RECEIPT_HEADER = "X-Weir-Receipt"


class Sent(NamedTuple):
    """A request with its body, unpacked, and the body's media type."""

    request: web.Request
    body: bytes
    media_type: str


# From what was sent to what may be published, for a bucket. Raises Invalid.
Admit = Callable[[Sent, Terms, bytes], Admitted]
# What is answered once it is published: made before that, since publishing uses up what was admitted.
Answer = Callable[[str], web.Response]
Reply = Callable[[Admitted], Answer]


class NothingAccepted(Invalid):
    """No entry of a request could be taken: each with its reason in the answer."""

    def __init__(self, admitted: Admitted) -> None:
        first = admitted.rejections[0]
        status = 413 if all_too_large(admitted.rejections) else 400
        super().__init__(f"nothing was accepted; entry {first.index}: {first.error}", status=status)
        self.members: Mapping[str, Any] = {"accepted": 0, "rejected": _rejected(admitted.rejections)}


class NotAccepted(Invalid):
    """The one event of a request could not be taken."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.error, status=413 if rejection.too_large else 400)


@dataclass(frozen=True, slots=True)
class Station:
    """What lives as long as the process."""

    settings: GatewaySettings
    keys: Keys
    quota: Quota
    backlog: Backlog
    producing: Producing
    publisher: Publisher
    metrics: GatewayMetrics
    door_metrics: DoorMetrics

    def check(self) -> None:
        """Refuse early what could not be published. Raises Overloaded, Unavailable."""
        self.backlog.check()
        self.publisher.check()

    def terms(self, grant: Grant, request_key: str | None = None) -> Terms:
        """What is held against the events of one request, now."""
        received_at = time.time_ns() // 1000
        return Terms(
            received_at,
            received_at + self.settings.max_future_seconds * 1_000_000,
            self.backlog.progress.raw_floor_at,
            retention_floor(received_at, grant.retention_days),
            self.settings.max_nesting,
            request_key,
        )

    async def publish(self, admitted: Admitted, grant: Grant) -> str:
        """Publish what was admitted, within the bucket's rate; the receipt.

        Raises Overloaded (nothing was published) or Unavailable (some or all of it may have been).
        """
        self.quota.take(grant.bucket_id, admitted.count, grant.events_per_second)
        offsets = await self.publisher.publish(admitted) if admitted.count else {}
        epoch = self.backlog.progress.epoch
        return encode_receipt(
            {partition: (epoch(partition), offset) for partition, offset in offsets.items()}
        )


class Intake:
    """The handler behind every write: ``kind`` for the metrics, ``admit`` for what it reads."""

    def __init__(self, station: Station, kind: str, admit: Admit, reply: Reply, bodies: Allowance) -> None:
        settings = station.settings
        self._station = station
        self._admit = admit
        self._reply = reply
        self._bodies = bodies
        self._body_limits = BodyLimits(settings.max_body_bytes, settings.request_seconds)
        self._accepted = station.metrics.accepted.labels(kind)

    async def answer(self, request: web.Request) -> web.Response:
        """Take one request to its answer."""
        try:
            return await self._take(request)
        except WeirError as error:
            self._station.metrics.refused.labels(reason(error)).inc()
            raise

    async def _take(self, request: web.Request) -> web.Response:
        station = self._station
        headers = request.headers
        secret = headers.get("X-Api-Key")
        named_bucket = headers.get("X-Weir-Bucket", "")
        grant = station.keys.known(secret, named_bucket) if secret is not None else None
        if grant is None:
            grant = await station.keys.learn(secret, named_bucket)
        station.check()
        request_key = checked_key(headers.get(HEADER))
        kind = media_type(request)
        body = await read_body(request, self._body_limits, self._bodies)
        admitted = self._admit(Sent(request, body, kind), station.terms(grant, request_key), grant.bucket)
        # From here on the events are held, not their text.
        del body
        if admitted.rejections:
            station.metrics.refused.labels("invalid").inc(len(admitted.rejections))
        answer = self._reply(admitted)
        count = admitted.count
        receipt = await station.publish(admitted, grant)
        self._accepted.inc(count)
        return answer(receipt)


def batch_reply(admitted: Admitted) -> Answer:
    """202 with what was accepted and what not. Raises NothingAccepted."""
    if admitted.rejections and admitted.count == 0:
        raise NothingAccepted(admitted)
    count = admitted.count
    rejected = orjson.dumps(_rejected(admitted.rejections)) if admitted.rejections else b"[]"
    # The text is a third of them, and waits as long as the events do.
    admitted.rejections.clear()
    admitted.answer_bytes = len(rejected)

    def answer(receipt: str) -> web.Response:
        return web.Response(
            body=b'{"accepted":%d,"rejected":%b,"receipt":"%b"}' % (count, rejected, receipt.encode()),
            status=202,
            content_type="application/json",
        )

    return answer


def device_reply(admitted: Admitted) -> Answer:
    """200 as the surface of a device's events has it. Raises NotAccepted."""
    _check_accepted(admitted)
    return _answer_with(b'{"responseStatus":200,"message":"OK"}')


def event_create_reply(admitted: Admitted) -> Answer:
    """200 with the event's id in an array. Raises NotAccepted."""
    _check_accepted(admitted)
    [part] = admitted.parts
    return _answer_with(orjson.dumps([event_id(part.tails[0]).decode()]))


def _check_accepted(admitted: Admitted) -> None:
    if admitted.rejections:
        raise NotAccepted(admitted.rejections[0])


def _answer_with(body: bytes) -> Answer:
    def answer(receipt: str) -> web.Response:
        return web.Response(body=body, content_type="application/json", headers={RECEIPT_HEADER: receipt})

    return answer


def reason(error: WeirError) -> str:
    """The label of the refusal metric: few and known."""
    match error:
        case NothingAccepted() | NotAccepted():
            return "nothing_accepted"
        case TooLarge():
            return "too_large"
        case Invalid():
            return (
                "unsupported" if error.status == 415 else "late_body" if error.status == 408 else "bad_body"
            )
        case Denied():
            return "unknown_key" if error.status == 401 else "denied"
        case Overloaded():
            return "rate" if error.status == 429 else "overloaded"
        case _:
            return "unavailable"


def _rejected(rejections: list[Rejection]) -> list[dict[str, Any]]:
    return [
        {"index": rejection.index, "error": rejection.error}
        for rejection in sorted(rejections, key=lambda rejection: rejection.index)
    ]
