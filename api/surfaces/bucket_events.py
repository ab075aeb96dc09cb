"""Events of a bucket: list, histogram, names by app, deletion. docs/query.md lists every parameter.

Four calls under ``/api/bucket/{id}/data/``, in the form that the clients of that API expect: errors are
``{"msg"}``, and a database that is away is a 500. Each call resolves its caller first, then reads its
parameters, then waits for the receipt it carries, then asks.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import Field, WithJsonSchema

from api.http.authentication import BucketAccess, authorize
from api.http.pieces import send_pieces
from api.surfaces import fields
from api.surfaces.answers import await_receipt, json_answer
from api.surfaces.parameters import (
    Label,
    Moment,
    Question,
    RequiredLabel,
    asked,
    named,
    whole,
    whole_schema,
)
from api.surfaces.requests import Inbox
from api.tenancy.deletion import empty_bucket
from api.tenancy.log_ends import LogEnds
from query.events import batches
from query.execute import AnyConnection, Reader
from query.interval import parse_interval
from query.metadata import AppEvents, Names, names_by_app
from query.request import (
    MAX_OFFSET,
    MAX_ROWS,
    Filters,
    Histogram,
    Metadata,
    Page,
    Range,
    Scope,
    check_points,
    checked_range,
    last_days,
)
from schema.connections import Pool
from schema.errors import Invalid
from schema.identities import Action
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings

PREFIX = "/api/bucket/{bucket_id}/data"
DEFAULT_ROWS = 100
DEFAULT_DAYS = 2
_DAYS = {
    "anyOf": [
        {"type": "number", "minimum": 1},
        {"type": "string", "pattern": r"^\s*[0-9]{1,18}(\.[0-9]{1,18})?\s*$"},
        {"type": "null"},
    ]
}
_INTERVAL = {"type": ["string", "null"], "examples": ["hour", "5m"]}


def _days(given: fields.Parameters, name: str) -> float:
    days = fields.number(given, name, DEFAULT_DAYS)
    if not days >= 1:
        raise Invalid(f"{name}: must be 1 or more")
    return days


def _interval(given: fields.Parameters, name: str) -> str:
    written = fields.text(given, name, "minute")
    parse_interval(written)
    return written


class NamesQuestion(Question):
    """``GET eventsKeysByApp``."""

    app_name: Label = Field(None, description="Only events of this app; an empty text: without one.")
    server_name: Label = Field(None, description="Only events of this server; an empty text: without one.")


class EventsQuestion(NamesQuestion):
    """``POST events``."""

    event_name: RequiredLabel = Field(description="The events' name, exactly.")
    limit: Annotated[int, whole(DEFAULT_ROWS, 1, MAX_ROWS), whole_schema(1, MAX_ROWS)] = Field(
        DEFAULT_ROWS, description="Events at most."
    )
    offset: Annotated[int, whole(0, 0, MAX_OFFSET), whole_schema(0, MAX_OFFSET)] = Field(
        0, description="How many to skip."
    )
    start: Moment = Field(None, description="From this moment on: epoch milliseconds or ISO 8601.")
    end: Moment = Field(None, description="Up to this moment, without it.")


class HistogramQuestion(NamesQuestion):
    """``POST events/stats``."""

    event_name: RequiredLabel = Field(description="The events' name, exactly.")
    days: Annotated[float, named(_days), WithJsonSchema(_DAYS)] = Field(
        DEFAULT_DAYS, description="How far to reach back from now, or from end."
    )
    start: Moment = Field(None, description="From this moment on; replaces days.")
    end: Moment = Field(None, description="Up to this moment, without it; default: now.")
    interval: Annotated[str, named(_interval), WithJsonSchema(_INTERVAL)] = Field(
        "minute",
        description="The distance of two points: second, minute, hour, day, week, month, or multiples: 2h.",
    )


@dataclass(frozen=True, slots=True)
class BucketEvents:
    """What the four calls are made of. ``now``: microseconds since 1970."""

    settings: ApiSettings
    primary: Pool
    reader: Reader
    log_ends: LogEnds
    inbox: Inbox
    metrics: ApiMetrics
    now: Callable[[], int] = lambda: time.time_ns() // 1000

    def add_routes(self, app: web.Application) -> None:
        """Serve the four calls, and the alias of the third."""
        app.router.add_post(f"{PREFIX}/events", self.retrieve)
        app.router.add_post(f"{PREFIX}/events/stats", self.histogram)
        for path in ("eventsKeysByApp", "events/eventsKeysByApp"):
            app.router.add_get(f"{PREFIX}/{path}", self.names, allow_head=False)
        app.router.add_delete(f"{PREFIX}/events/delete_all", self.delete_all)

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """``POST events``: newest first, ties by id."""
        access = await self._access(request, Action.READ)
        question = asked(EventsQuestion, await self._parameters(request))
        filters = Filters(question.event_name, question.app_name, question.server_name)
        within = checked_range(question.start, question.end)
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        page = Page(_scope(access), within, filters, question.limit, question.offset, asked_at=self.now())
        with self.metrics.query_seconds.labels("events").time():
            async with aclosing(_event_pieces(self.reader, page)) as pieces:
                return await send_pieces(
                    request,
                    pieces,
                    content_type="application/json",
                    deadline_seconds=self.settings.request_seconds,
                )

    async def histogram(self, request: web.Request) -> web.Response:
        """``POST events/stats``: points of a distribution over time."""
        access = await self._access(request, Action.READ)
        question = asked(HistogramQuestion, await self._parameters(request))
        filters = Filters(question.event_name, question.app_name, question.server_name)
        interval = parse_interval(question.interval)
        within = self._histogram_range(question)
        check_points(interval, within, self.settings.max_points)
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        with self.metrics.query_seconds.labels("histogram").time():
            points, plan = await self.reader.histogram(Histogram(_scope(access), within, interval, filters))
        return json_answer(points, left_out=plan.left_out)

    async def names(self, request: web.Request) -> web.Response:
        """``GET eventsKeysByApp``: names and counts by app."""
        access = await self._access(request, Action.READ)
        question = asked(NamesQuestion, await self._parameters(request))
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        wanted = Metadata(_scope(access), Range(), Filters(None, question.app_name, question.server_name))
        with self.metrics.query_seconds.labels("names").time():
            async with self.reader.wide():
                found = await self.reader.in_snapshot(lambda connection: names_by_app(connection, wanted))
        return _names(found)

    async def delete_all(self, request: web.Request) -> web.Response:
        """``DELETE events/delete_all``: empty the bucket, answer what was in it."""
        access = await self._access(request, Action.DELETE_EVENTS)
        given = await self._parameters(request)
        if narrowing := [name for name in ("app_name", "server_name", "event_name") if name in given]:
            raise Invalid(f"{narrowing[0]}: delete_all empties the whole bucket and takes no filter")
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)

        async def count(connection: AnyConnection, bucket_key: int) -> Names:
            # All that is stored is deleted, whether the bucket's retention still shows it or not.
            everything = Metadata(Scope((bucket_key,)), Range(), Filters())
            return await names_by_app(connection, everything, timeout_seconds=self.settings.query_seconds)

        with self.metrics.query_seconds.labels("delete_all").time():
            deleted = await empty_bucket(
                self.primary,
                access.bucket_id,
                self.settings.kafka_events_topic,
                self.log_ends.end_offsets,
                count,
                acquire_seconds=self.settings.database_connect_seconds,
            )
        return _names(deleted)

    async def _access(self, request: web.Request, action: Action) -> BucketAccess:
        return await authorize(
            self.primary,
            request.headers,
            request.match_info["bucket_id"],
            action,
            acquire_seconds=self.settings.database_connect_seconds,
        )

    async def _parameters(self, request: web.Request) -> dict[str, Any]:
        """Query string and JSON body together, the body before it; clients send ``{}`` with every method."""
        return {**request.query, **await self.inbox.object_in(request)}

    def _histogram_range(self, question: HistogramQuestion) -> Range:
        until = self.now() if question.end is None else question.end
        if question.start is None:
            return last_days(question.days, until)
        return checked_range(question.start, until)


def _scope(access: BucketAccess) -> Scope:
    return Scope((access.bucket_key,), access.visible_from)


async def _event_pieces(reader: Reader, page: Page) -> AsyncGenerator[bytes, None]:
    separator = b"["
    async with aclosing(batches(reader, page)) as found:
        async for rows in found:
            yield separator + b",".join([orjson.dumps(_event(row)) for row in rows])
            separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _event(row: Any) -> dict[str, Any]:
    return {
        "_id": row["id"],
        "at": row["at"],
        "event_name": row["name"],
        "app_name": row["app"],
        "server_name": row["server"],
        "device_name": row["device"],
        "stream": row["stream"],
        # The database's own JSON text, as it is.
        "data": orjson.Fragment(row["data"]),
    }


def _names(found: Names) -> web.Response:
    return json_answer(
        [_app(entry) for entry in found.apps],
        left_out=found.plan.left_out,
        cut=None if found.complete else "names",
    )


def _app(entry: AppEvents) -> dict[str, Any]:
    return {"app_name": entry.app, "events": list(entry.counts), "counts": entry.counts}
