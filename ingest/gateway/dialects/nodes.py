"""``POST /v1/nodes``: a node report, an array of them, ``{"reports": […]}``, or one a line (NDJSON)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ingest.gateway.dialects.reading import Reader
from schema.events import (
    DEFAULT_INTERVAL_SECONDS,
    MAX_HOST,
    MAX_INTERVAL_SECONDS,
    MAX_VERSION,
    NodeReportModel,
    Status,
)


class NodeReport(Struct, forbid_unknown_fields=True, gc=False):
    """A node report as it was sent. The contract is ``NodeReportModel``."""

    host: Annotated[str, Meta(min_length=1, max_length=MAX_HOST)]
    ip: Annotated[str, Meta(max_length=MAX_HOST)] = ""
    version: Annotated[str, Meta(max_length=MAX_VERSION)] = ""
    status: Status = "ONLINE"
    latency_ms: Annotated[float, Meta(ge=0)] | None = None
    observed_at: str | int | float | None = None
    interval_seconds: Annotated[int, Meta(ge=1, le=MAX_INTERVAL_SECONDS)] = DEFAULT_INTERVAL_SECONDS


NODE_REPORTS = Reader(NodeReport, NodeReportModel, envelope="reports", raw_field=None)
