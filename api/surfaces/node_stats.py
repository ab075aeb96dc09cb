"""A bucket's nodes on one day: ``POST /bucket/{bucketId}/stats``. docs/node-statistics.md has it all.

Neighbours: ``query.uptime`` computes. The answer is ``{"success": true, "nodeStats": […]}``, a refusal
``{"success": false, "message"}``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, WithJsonSchema

from api.http.authentication import authorize
from api.surfaces import fields
from api.surfaces.answers import await_receipt, json_answer
from api.surfaces.parameters import Question, asked, named
from api.surfaces.requests import Inbox
from query.execute import Reader
from query.uptime import NodeDay, node_days
from schema.connections import Pool
from schema.errors import Invalid
from schema.events import parse_moment
from schema.identities import Action
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings

PATH = "/bucket/{bucket_id}/stats"
# From here on a double is no longer exact to one.
_LARGEST_WHOLE = 2.0**53
_DAY = {"type": "string", "examples": ["2026-01-31T00:00:00.000Z", "2026-01-31"]}


def _day(given: fields.Parameters, name: str) -> int:
    """A moment of the day that is asked for, in microseconds since 1970. Raises Invalid."""
    written = given.get(name)
    if not isinstance(written, str):
        raise Invalid(f"{name}: is required; a day in ISO 8601, such as 2026-01-31T00:00:00.000Z")
    try:
        at = datetime.fromisoformat(written.strip()[:64])
    except ValueError:
        raise Invalid(
            f"{name}: {written[:64]!r} is no ISO 8601; write it like 2026-01-31T00:00:00.000Z"
        ) from None
    return parse_moment((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).isoformat(), name)


class NodeStatsQuestion(Question):
    """``POST /bucket/{bucketId}/stats``."""

    day: Annotated[int, named(_day), WithJsonSchema(_DAY)] = Field(
        description="A moment of the day, UTC, in ISO 8601."
    )


@dataclass(frozen=True, slots=True)
class NodeStats:
    """What the call is made of. ``now``: microseconds since 1970."""

    settings: ApiSettings
    primary: Pool
    reader: Reader
    inbox: Inbox
    metrics: ApiMetrics
    now: Callable[[], int] = lambda: time.time_ns() // 1000

    def add_routes(self, app: web.Application) -> None:
        """Serve the call."""
        app.router.add_post(PATH, self.stats)

    async def stats(self, request: web.Request) -> web.Response:
        """One entry a node that was observed on that day."""
        access = await authorize(
            self.primary,
            request.headers,
            request.match_info["bucket_id"],
            Action.READ,
            acquire_seconds=self.settings.database_connect_seconds,
        )
        day = asked(NodeStatsQuestion, await self.inbox.object_in(request)).day
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        now = self.now()
        with self.metrics.query_seconds.labels("node_statistics").time():
            found = await self.reader.in_snapshot(
                lambda connection: node_days(connection, access.bucket_id, day, now)
            )
        shown = {"success": True, "nodeStats": [_node(node) for node in found.nodes]}
        return json_answer(shown, cut=None if found.complete else "nodes")


def _node(node: NodeDay) -> dict[str, Any]:
    return {
        "ip": node.ip,
        "host": node.host,
        "perc_uptime": _number(node.uptime_percent),
        "avg_latency_ms": _number(node.average_latency_ms),
        "version": node.version,
        "node_status": node.status,
        "last_updated": node.last_updated_at.isoformat().replace("+00:00", "Z"),
        "last_latency_ms": _number(node.last_latency_ms),
    }


def _number(value: float | None) -> float | int | None:
    """As JSON has it: a whole number without a point."""
    whole = value is not None and value.is_integer() and value < _LARGEST_WHOLE
    return int(value) if whole and value is not None else value
