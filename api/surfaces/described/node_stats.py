"""Surface 004, described: a bucket's nodes on one day."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from api.http.openapi.operations import TOKEN_OR_KEY, Content, Operation, bucket_id, json_of
from api.http.openapi.refusals import BODY, FAILURE, IN_BUCKET
from api.surfaces.described.steps import RECEIPT, Shown
from api.surfaces.node_stats import PATH, NodeStatsQuestion
from schema.events import Status

TAG = "node statistics"
Latency = Annotated[float, Field(ge=0)]


class NodeOnDay(Shown):
    """One node's day."""

    ip: str
    host: str
    perc_uptime: float = Field(ge=0, le=100, description="Of the time that it was observed.")
    avg_latency_ms: Latency | None = Field(description="Null where none was reported.")
    version: str
    node_status: Status
    last_updated: datetime
    last_latency_ms: Latency | None


class NodesOnDay(Shown):
    """All nodes that were observed on that day."""

    success: Literal[True]
    node_stats: list[NodeOnDay] = Field(alias="nodeStats")


OPERATIONS = (
    Operation(
        "POST",
        PATH,
        TAG,
        "Uptime and latency of a bucket's nodes on a day",
        {
            200: json_of("One entry a node.", NodesOnDay, ["X-Weir-Incomplete"]),
            **FAILURE.refusals(*IN_BUCKET, *BODY),
        },
        parameters=(bucket_id(), RECEIPT),
        bodies=(Content(NodeStatsQuestion, examples={"a day": {"day": "2026-01-31T00:00:00.000Z"}}),),
        body_required=True,
        security=TOKEN_OR_KEY,
    ),
)
