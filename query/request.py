"""What is asked: whose rows (scope), when (range), which (filters). Pure.

The surfaces build these from whatever their documents call the parameters; nothing below this module
sees a bucket's public id or a text from a request that was not checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from query.interval import DAY, Interval
from schema.errors import Invalid
from schema.events import MAX_LABEL

BEGINNING = 0
# 9999-12-31, the end of what a moment can be (schema.events).
END_OF_TIME = 2_932_896 * DAY
MAX_ROWS = 10_000
MAX_OFFSET = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Scope:
    """The buckets that a question may see, by their internal keys, and since when.

    ``visible_from``: microseconds since 1970; older events are past the buckets' retention.
    Only authentication makes one. An empty scope sees nothing.
    """

    bucket_keys: tuple[int, ...]
    visible_from: int = BEGINNING


@dataclass(frozen=True, slots=True)
class Range:
    """[start, end) in microseconds since 1970."""

    start: int = BEGINNING
    end: int = END_OF_TIME

    def seen_by(self, scope: Scope) -> Range:
        """The part of the range that is within the scope's retention; empty: start = end."""
        start = max(self.start, scope.visible_from)
        return Range(start, max(start, self.end))

    @property
    def empty(self) -> bool:
        """Whether no moment is in it."""
        return self.start >= self.end


@dataclass(frozen=True, slots=True)
class Filters:
    """Labels that an event must have; None: any. An empty text is a label too: events without one."""

    name: str | None = None
    app: str | None = None
    server: str | None = None
    device: str | None = None

    @property
    def wanted(self) -> dict[str, str]:
        """Column → value, of those that are given."""
        pairs = (("name", self.name), ("app", self.app), ("server", self.server), ("device", self.device))
        return {column: value for column, value in pairs if value is not None}

    @property
    def dimensions(self) -> frozenset[str]:
        """What a rung must keep to answer. No rung keeps the events without a device apart."""
        return frozenset(self.wanted) | ({"no device"} if self.device == "" else frozenset())


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of events by period."""

    scope: Scope
    range: Range
    interval: Interval
    filters: Filters


@dataclass(frozen=True, slots=True)
class Page:
    """Events, newest first, ties by id.

    ``asked_at``: microseconds since 1970; before it most of the newest are. Of no consequence to the answer.
    """

    scope: Scope
    range: Range
    filters: Filters
    limit: int
    offset: int = 0
    asked_at: int = END_OF_TIME


@dataclass(frozen=True, slots=True)
class Metadata:
    """Names and counts of events, by app."""

    scope: Scope
    range: Range
    filters: Filters


def checked_range(start: int | None, end: int | None) -> Range:
    """A range from what was asked; an open end is open. Raises Invalid."""
    asked = Range(BEGINNING if start is None else start, END_OF_TIME if end is None else end)
    if asked.start > asked.end:
        raise Invalid("start: lies after end")
    return asked


def last_days(days: float, end: int) -> Range:
    """The ``days`` before ``end``. Raises Invalid below one day."""
    if not days >= 1:
        raise Invalid("days: must be 1 or more")
    # Nothing is older than 1970, so the years before it need no room in a number.
    back = end if days >= end / DAY else round(days * DAY)
    return Range(end - back, end)


def checked_label(text: str, field: str) -> str:
    """A label to filter by. Raises Invalid for what no event can have."""
    if "\x00" in text:
        raise Invalid(f"{field}: holds the character U+0000, which no event can have")
    if len(text) > MAX_LABEL:
        raise Invalid(f"{field}: longer than {MAX_LABEL} characters, which no event's is")
    return text


def check_points(interval: Interval, asked: Range, max_points: int) -> None:
    """Raise Invalid when the range has more periods than an answer may have points."""
    points = interval.points(asked.start, asked.end)
    if points > max_points:
        raise Invalid(
            f"interval: {points} points from start to end, at most {max_points}; "
            "take a longer interval or a shorter range"
        )


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 as the driver wants them."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(at: datetime) -> int:
    """A moment of the driver in microseconds since 1970; its infinity (without a zone) is the end of time."""
    if at.tzinfo is None:
        return END_OF_TIME
    return (at - _EPOCH) // _MICROSECOND
