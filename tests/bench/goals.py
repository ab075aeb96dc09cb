"""What each figure must reach, and what it aims at."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Goal:
    """``must`` and ``aim`` of one figure. ``at_most``: less is better."""

    title: str
    must: float
    aim: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Whether ``value`` reaches ``must``."""
        return value <= self.must if self.at_most else value >= self.must

    def aimed(self, value: float) -> bool:
        """Whether ``value`` reaches ``aim``."""
        return value <= self.aim if self.at_most else value >= self.aim


GOALS = {
    "writer": Goal("writer, topic to commit ÷ raw COPY", 0.60, 0.80),
    "way": Goal("HTTP to visible ÷ raw COPY", 0.30, 0.50),
    "way_plain": Goal("HTTP to visible ÷ plain consumer", 2.0, 3.0),
    "gateway_one": Goal("gateway, 1 event a request ÷ bare echo", 0.6, 0.8),
    "gateway_many": Goal("gateway, 100 events a request ÷ bare echo", 0.11, 0.19),
    "histogram_minute": Goal("histogram by minute: faster than the raw scan, times", 5, 20),
    "histogram_hour": Goal("histogram by hour: faster than the raw scan, times", 50, 200),
    "latency_half": Goal("accepted to visible, p99 at half load, seconds", 0.250, 0.100, at_most=True),
    "query_hours": Goal("histogram by hour, p99, ms", 50, 20, at_most=True),
    "query": Goal("any other question, p99, ms", 300, 100, at_most=True),
    "memory_gateway": Goal("gateway, most resident MiB", 250, 150, at_most=True),
    "memory_writer": Goal("writer, most resident MiB", 300, 200, at_most=True),
    "memory_api": Goal("query API, most resident MiB", 250, 150, at_most=True),
}
