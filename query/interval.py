"""The grid of a histogram: fixed widths aligned to the epoch, weeks to Monday UTC, months to the calendar.

Pure. Moments are microseconds since 1970; a period is named by its first moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from enum import StrEnum

from schema.errors import Invalid

SECOND = 1_000_000
DAY = 86_400 * SECOND
# The Monday of the week that holds 1970-01-01.
_FIRST_MONDAY = -3 * DAY
# The year 10000, where a period of many months may end; no datetime reaches it.
_AFTER_TIME = 2_932_897 * DAY


class Unit(StrEnum):
    """What an interval is counted in."""

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


_WIDTHS = {
    Unit.SECOND: SECOND,
    Unit.MINUTE: 60 * SECOND,
    Unit.HOUR: 3600 * SECOND,
    Unit.DAY: DAY,
    Unit.WEEK: 7 * DAY,
}
_SHORT = {
    "s": Unit.SECOND,
    "m": Unit.MINUTE,
    "h": Unit.HOUR,
    "d": Unit.DAY,
    "w": Unit.WEEK,
    "mo": Unit.MONTH,
}
_WRITTEN = re.compile(r"([1-9][0-9]{0,5})? ?([a-z]{1,7})")


@dataclass(frozen=True, slots=True)
class Interval:
    """``count`` units: the distance between two points of a histogram."""

    unit: Unit
    count: int = 1

    @property
    def width(self) -> int | None:
        """Microseconds of every period; None where they differ (months)."""
        return None if self.unit is Unit.MONTH else _WIDTHS[self.unit] * self.count

    @property
    def origin(self) -> int:
        """A moment at which a period begins, not after 1970."""
        return _FIRST_MONDAY if self.unit is Unit.WEEK else 0

    def period(self, moment: int) -> int:
        """The start of the period that holds ``moment``."""
        width = self.width
        if width is not None:
            return moment - (moment - self.origin) % width
        month = _month_number(moment)
        return _month_start(month - month % self.count)

    def following(self, period: int) -> int:
        """The start of the period after the one that begins at ``period``."""
        width = self.width
        if width is not None:
            return period + width
        return _month_start(_month_number(period) + self.count)

    def points(self, start: int, end: int) -> int:
        """How many periods [start, end) touches."""
        if start >= end:
            return 0
        width = self.width
        if width is not None:
            return (self.period(end - 1) - self.period(start)) // width + 1
        first, last = _month_number(start) // self.count, _month_number(end - 1) // self.count
        return last - first + 1

    def made_of(self, period_seconds: int) -> bool:
        """Whether every border of this grid is a border of periods of ``period_seconds`` from the epoch."""
        step = period_seconds * SECOND
        width = self.width
        if width is None:
            return DAY % step == 0
        return width % step == 0 and self.origin % step == 0


def parse_interval(text: str) -> Interval:
    """``minute``, ``5m``, ``2 hours``, ``3d``, ``week``, ``mo``. Raises Invalid."""
    found = _WRITTEN.fullmatch(text.strip().lower()) if len(text) <= 20 else None
    if found is not None:
        count, word = int(found[1] or 1), found[2]
        unit = _SHORT.get(word)
        if unit is None and word.removesuffix("s") in set(Unit):
            unit = Unit(word.removesuffix("s"))
        if unit is not None:
            return Interval(unit, count)
    raise Invalid(
        f"interval: {text[:20]!r} is none; write second, minute, hour, day, week or month, "
        "or a multiple such as 5m or 2h"
    )


def _month_number(moment: int) -> int:
    """Months since January 1970."""
    day = datetime.fromtimestamp(moment // SECOND, UTC)
    return (day.year - 1970) * 12 + day.month - 1


def _month_start(month: int) -> int:
    year = 1970 + month // 12
    if year > MAXYEAR:
        return _AFTER_TIME
    return int(datetime(year, month % 12 + 1, 1, tzinfo=UTC).timestamp()) * SECOND
