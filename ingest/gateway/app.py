"""The routes of the gateway, and the few steps of a request.

Key → backlog and room → body → dialect → admission → rate → Kafka → 202. Each step refuses by raising
one of ``schema.errors``; ``api.http.problems`` answers. What lives as long as the process is made in
``process`` and handed in as a ``Station``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from api.http.bodies import Allowance, BodyLimits, media_type, read_body
from api.http.problems import direct_door, door
from ingest.gateway.admission import (
    Admitted,
    Terms,
    admit_events,
    admit_node_reports,
    all_too_large,
    retention_floor,
)
from ingest.gateway.backlog import Backlog
from ingest.gateway.dialects.events import EVENTS
from ingest.gateway.dialects.nodes import NODE_REPORTS
from ingest.gateway.grants import Grant
from ingest.gateway.keys import Keys
from ingest.gateway.producing import Producing
from ingest.gateway.publisher import Publisher
from ingest.gateway.quota import Quota
from schema.errors import Denied, Invalid, Overloaded, TooLarge, WeirError
from schema.metrics import DoorMetrics, GatewayMetrics
from schema.receipts import encode_receipt
from schema.settings import GatewaySettings

EVENTS_PATH = "/v1/events"

# From a body and its media type to what may be published.
Admit = Callable[[bytes, str, Terms, bytes], Admitted]


class NothingAccepted(Invalid):
    """No entry of a request could be taken: each with its reason in the answer."""

    def __init__(self, admitted: Admitted) -> None:
        first = admitted.rejections[0]
        status = 413 if all_too_large(admitted.rejections) else 400
        super().__init__(f"nothing was accepted; entry {first.index}: {first.error}", status=status)
        self.members: Mapping[str, Any] = {"accepted": 0, "rejected": _rejected(admitted)}


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


class Ingest:
    """The one handler behind every write: ``kind`` for the metrics, ``admit`` for what it reads."""

    def __init__(self, station: Station, kind: str, admit: Admit, bodies: Allowance) -> None:
        settings = station.settings
        self._station = station
        self._admit = admit
        self._bodies = bodies
        self._body_limits = BodyLimits(settings.max_body_bytes, settings.request_seconds)
        self._future_microseconds = settings.max_future_seconds * 1_000_000
        self._accepted = station.metrics.accepted.labels(kind)

    async def answer(self, request: web.Request) -> web.Response:
        """Take one request to its 202."""
        try:
            return await self._take(request)
        except WeirError as error:
            self._station.metrics.refused.labels(_reason(error)).inc()
            raise

    async def _take(self, request: web.Request) -> web.Response:
        station = self._station
        headers = request.headers
        secret = headers.get("X-Api-Key")
        named_bucket = headers.get("X-Weir-Bucket", "")
        grant = station.keys.known(secret, named_bucket) if secret is not None else None
        if grant is None:
            grant = await station.keys.learn(secret, named_bucket)
        station.backlog.check()
        station.publisher.check()
        kind = media_type(request)
        body = await read_body(request, self._body_limits, self._bodies)
        admitted = self._admit(body, kind, self._terms(grant), grant.bucket)
        # From here on the events are held, not their text.
        del body
        if admitted.rejections:
            station.metrics.refused.labels("invalid").inc(len(admitted.rejections))
            if admitted.count == 0:
                raise NothingAccepted(admitted)
        station.quota.take(grant.bucket_id, admitted.count, grant.events_per_second)
        offsets = await station.publisher.publish(admitted) if admitted.count else {}
        self._accepted.inc(admitted.count)
        epoch = station.backlog.progress.epoch
        receipt = encode_receipt(
            {partition: (epoch(partition), offset) for partition, offset in offsets.items()}
        )
        return web.Response(
            body=b'{"accepted":%d,"rejected":%b,"receipt":"%b"}'
            % (
                admitted.count,
                orjson.dumps(_rejected(admitted)) if admitted.rejections else b"[]",
                receipt.encode(),
            ),
            status=202,
            content_type="application/json",
        )

    def _terms(self, grant: Grant) -> Terms:
        received_at = time.time_ns() // 1000
        return Terms(
            received_at,
            received_at + self._future_microseconds,
            self._station.backlog.progress.raw_floor_at,
            retention_floor(received_at, grant.retention_days),
            self._station.settings.max_nesting,
        )


def new_app(station: Station) -> tuple[web.Application, dict[tuple[str, str], Handler]]:
    """The application, and the handler that is reached without routing (see ``api.http.serving``).

    Its health routes are added by the process.
    """
    app = web.Application(middlewares=[door(station.door_metrics)])
    bodies = Allowance(station.settings.body_bytes)
    limits = station.settings

    def admit_event_body(body: bytes, kind: str, terms: Terms, bucket: bytes) -> Admitted:
        return admit_events(EVENTS.read(body, kind, limits), terms, bucket, station.producing.partitions)

    def admit_node_body(body: bytes, kind: str, terms: Terms, bucket: bytes) -> Admitted:
        batch = NODE_REPORTS.read(body, kind, limits)
        return admit_node_reports(batch, terms, bucket, station.producing.partitions)

    events = Ingest(station, "event", admit_event_body, bodies)
    nodes = Ingest(station, "node_report", admit_node_body, bodies)
    app.router.add_post(EVENTS_PATH, events.answer)
    app.router.add_post("/v1/nodes", nodes.answer)
    return app, {("POST", EVENTS_PATH): direct_door(station.door_metrics, EVENTS_PATH, events.answer)}


def _rejected(admitted: Admitted) -> list[dict[str, Any]]:
    return [
        {"index": rejection.index, "error": rejection.error}
        for rejection in sorted(admitted.rejections, key=lambda rejection: rejection.index)
    ]


def _reason(error: WeirError) -> str:
    """The label of the refusal metric: few and known."""
    match error:
        case NothingAccepted():
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
