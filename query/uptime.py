"""Statistics of a bucket's nodes for one UTC day, computed by the database over their reports.

The formula in words: docs/node-statistics.md. A report holds until the node's next one, for at most three of
its intervals; from then on the node is OFFLINE until it reports again. The day begins with what holds from
before, or with the node's first report. Guarantee: exact to the microsecond at every edge; of each node that
reported within seven days, the day's own reports are read, and the one before them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from query.execute import AnyConnection, fetch
from query.interval import DAY
from query.request import moment
from query.sql import Statement

# A node that has not reported for this long is no longer listed.
SILENT_DAYS = 7
# Nodes of one answer, those included that turn out not to be listed.
MAX_NODES = 10_000

_NODE_DAYS = (Path(__file__).parent / "node_days.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class NodeDay:
    """One node's day. Latencies in milliseconds, None where none was reported."""

    ip: str
    host: str
    uptime_percent: float
    average_latency_ms: float | None
    version: str
    status: str
    last_updated_at: datetime
    last_latency_ms: float | None


@dataclass(frozen=True, slots=True)
class NodeDays:
    """By host and ip. ``complete``: False when more than ``MAX_NODES`` reported."""

    nodes: list[NodeDay]
    complete: bool


async def node_days(connection: AnyConnection, bucket_id: str, day: int, now: int) -> NodeDays:
    """The nodes of a bucket on the UTC day that holds ``day``, up to ``now`` at most.

    Moments: microseconds since 1970. A day that has not begun has no nodes.
    """
    if day // DAY * DAY >= now:
        return NodeDays([], complete=True)
    found = await fetch(connection, statement(bucket_id, day, now))
    nodes = []
    for number, is_listed, *of_node in found:
        if is_listed and number <= MAX_NODES:
            nodes.append(NodeDay(*of_node))
    return NodeDays(nodes, complete=len(found) <= MAX_NODES)


def statement(bucket_id: str, day: int, now: int) -> Statement:
    """The statement of ``node_days``: rows (number, is_listed, the fields of NodeDay), a node each.

    There is one more than an answer has, where there are more.
    """
    start = day // DAY * DAY
    end = moment(min(start + DAY, now))
    silent_since = end - timedelta(days=SILENT_DAYS)
    return Statement(_NODE_DAYS, (bucket_id, moment(start), end, silent_since, MAX_NODES + 1))
