"""A device's events of one name: when they happened, or how many by hour or day. docs/devices.md has it all.

``GET /devices/{uuid}/events/{eventName}``, under ``/laas/api/v1`` too. Neighbours: ``api.http.readable`` says
what the caller may see, ``query.journal`` answers. Refusals are ``{"responseStatus", "message"}``; a device
that the caller may not see is a 404, like one that is not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, WithJsonSchema

from api.http.readable import readable_buckets
from api.surfaces import fields
from api.surfaces.answers import await_receipt, json_answer
from api.surfaces.parameters import Question, asked, named, whole, whole_schema
from query.execute import Reader
from query.interval import SECOND, Interval, Unit
from query.journal import MAX_PAGE, PAGE_ROWS, Found, Occurrences, occurrences, scopes_of
from query.request import END_OF_TIME, Range, checked_label
from schema.connections import Pool
from schema.errors import Denied, Invalid
from schema.events import parse_moment
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings

PREFIXES = ("", "/laas/api/v1")
Mode = Literal["journal", "aggregate_hourly", "aggregate_daily"]
_INTERVALS: dict[Mode, Interval | None] = {
    "journal": None,
    "aggregate_hourly": Interval(Unit.HOUR),
    "aggregate_daily": Interval(Unit.DAY),
}
_BOOLEANS = {"true": True, "false": False}
_LONGEST_MOMENT = 64
_MOMENT = {"type": "string", "examples": ["1790000000", "2026-01-31T12:00:00Z"]}


def _moment(given: fields.Parameters, name: str) -> int | None:
    """Microseconds since 1970 of whole Unix seconds, or of ISO 8601 (without an offset: UTC)."""
    written = given.get(name)
    if written is None:
        return None
    text = str(written).strip()
    if text.removeprefix("-").isdecimal() and text.isascii():
        seconds = int(text) if len(text) <= _LONGEST_MOMENT else -1
        if not 0 <= seconds * SECOND < END_OF_TIME:
            raise Invalid(f"{name}: must be Unix seconds from 0 (1970) to 253402214399 (9999), or ISO 8601")
        return seconds * SECOND
    return parse_moment(_with_offset(text), name)


def _with_offset(text: str) -> str:
    """ISO 8601 with an offset. In a query string that was not encoded, a + arrives as a space."""
    for candidate in (text, "+".join(text.rsplit(" ", 1))):
        try:
            at = datetime.fromisoformat(candidate[:_LONGEST_MOMENT])
        except ValueError:
            continue
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).isoformat()
    return text


def _mode(given: fields.Parameters, name: str) -> str:
    mode = fields.text(given, name, "journal")
    if mode not in _INTERVALS:
        raise Invalid(f"{name}: must be one of {', '.join(_INTERVALS)}")
    return mode


def _flag(given: fields.Parameters, name: str) -> bool:
    value = _BOOLEANS.get(str(given[name]).strip().lower())
    if value is None:
        raise Invalid(f"{name}: must be true or false")
    return value


def _first(*values: bool | None, default: bool) -> bool:
    return next((value for value in values if value is not None), default)


Flag = Annotated[bool | None, named(_flag), WithJsonSchema({"type": "boolean"})]


class JournalQuestion(Question):
    """The parameters of the query string. Of two spellings, the first counts."""

    mode: Annotated[Mode, named(_mode), WithJsonSchema({"enum": list(_INTERVALS)})] = Field(
        "journal", description="Times, or counts by hour or by day."
    )
    begin: Annotated[int | None, named(_moment), WithJsonSchema(_MOMENT)] = Field(
        None, description="From this second on: Unix seconds or ISO 8601. Default: 0."
    )
    end: Annotated[int | None, named(_moment), WithJsonSchema(_MOMENT)] = Field(
        None, description="Up to and including this second. Default: now."
    )
    page: Annotated[int, whole(0, 0, MAX_PAGE), whole_schema(0, MAX_PAGE)] = Field(
        0, description=f"Which page of {PAGE_ROWS}."
    )
    human_readable: Flag = Field(None, description="Times in ISO 8601. Default: false.")
    humanReadable: Flag = Field(None, description="The same as human_readable.")  # noqa: N815 - the document's
    older_first: Flag = Field(None, description="The same as olderFirst.")
    olderFirst: Flag = Field(None, description="Oldest first. Default: true.")  # noqa: N815 - the document's

    @property
    def readable(self) -> bool:
        """Whether times are in ISO 8601."""
        return _first(self.human_readable, self.humanReadable, default=False)

    @property
    def ascending(self) -> bool:
        """Whether the oldest come first."""
        return _first(self.older_first, self.olderFirst, default=True)

    def range(self, now: int) -> Range:
        """Both ends are included. Without ``end``: until now. Raises Invalid."""
        start = 0 if self.begin is None else self.begin
        # Who begins ahead of our clock and names no end gets nothing, not a complaint.
        last = max(now, start) if self.end is None else self.end
        if start > last:
            raise Invalid("begin: lies after end")
        return Range(start, last + 1)


@dataclass(frozen=True, slots=True)
class DeviceEvents:
    """What the call is made of. ``now``: microseconds since 1970."""

    settings: ApiSettings
    primary: Pool
    reader: Reader
    metrics: ApiMetrics
    now: Callable[[], int] = lambda: time.time_ns() // 1000

    def add_routes(self, app: web.Application) -> None:
        """Serve the call under both of its paths."""
        for prefix in PREFIXES:
            path = f"{prefix}/devices/{{uuid}}/events/{{event_name}}"
            app.router.add_get(path, self.events, allow_head=False)

    async def events(self, request: web.Request) -> web.Response:
        """Times, oldest first by default, or counts by period; a page of 1000."""
        buckets = await readable_buckets(
            self.primary, request.headers, acquire_seconds=self.settings.database_connect_seconds
        )
        question = asked(JournalQuestion, request.query)
        wanted = Occurrences(
            scopes_of((bucket.bucket_key, bucket.visible_from) for bucket in buckets),
            *_device_and_name(request),
            range=question.range(self.now()),
            older_first=question.ascending,
            page=question.page,
        )
        await await_receipt(request.headers, self.reader, self.settings, self.metrics)
        interval = _INTERVALS[question.mode]
        with self.metrics.query_seconds.labels("journal" if interval is None else "device_counts").time():
            found = await self.reader.in_snapshot(
                lambda connection: occurrences(connection, wanted, interval)
            )
        if found is None:
            raise _unknown()
        return json_answer(_body(found, interval, question.readable), left_out=found.left_out)


def _body(found: Found, interval: Interval | None, human_readable: bool) -> list[object]:  # noqa: FBT001
    shown: Callable[[int], int | str] = _iso if human_readable else int
    if interval is None:
        return [shown(at) for at, _ in found.rows]
    return [{"tst": shown(at), "val": count} for at, count in found.rows]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _device_and_name(request: web.Request) -> tuple[str, str]:
    """Both from the path. What no event can have is unknown like any other. Raises Denied (404)."""
    try:
        return (
            checked_label(request.match_info["uuid"], "uuid"),
            checked_label(request.match_info["event_name"], "eventName"),
        )
    except Invalid:
        raise _unknown() from None


def _unknown() -> Denied:
    return Denied("no device of this id that you may see has sent an event of this name", status=404)
