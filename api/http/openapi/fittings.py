"""The calls that every door has, described: its health, its metrics, and its own description."""

from __future__ import annotations

from typing import Any, Literal

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field

from api.http.openapi.operations import Answer, Content, Operation, Parameter, Place, json_of
from api.http.openapi.refusals import PROBLEM

HEALTH = "health"
PAGES = "pages"
TAGS = {
    HEALTH: "Whether this process is well, and its figures. Open to everybody who reaches the door.",
    PAGES: "What a browser finds here.",
}
_TEXT = {"type": "string"}


class Alive(BaseModel):
    """The process runs."""

    model_config = ConfigDict(extra="forbid")

    alive: Literal[True]


class Readiness(BaseModel):
    """Whether the process can do its work; some processes show facts beside it."""

    model_config = ConfigDict(extra="allow")

    ready: bool
    missing: dict[str, str] = Field(description="What it cannot work without, and what is wrong with it.")
    degraded: dict[str, str] = Field(description="What it can work without for a time.")


def _page(path: str, summary: str) -> Operation:
    return Operation(
        "GET",
        path,
        PAGES,
        summary,
        {200: Answer("The page.", (Content(_TEXT, "text/html"),)), **PROBLEM.refusals()},
    )


BROWSER = (
    _page("/", "What this is"),
    _page("/watch", "A bucket's events while they arrive, as a chart"),
    Operation(
        "GET",
        "/watch/{file}",
        PAGES,
        "A file of that page",
        {
            200: Answer("The file.", (Content(_TEXT, "text/css"), Content(_TEXT, "text/javascript"))),
            **PROBLEM.refusals(404),
        },
        parameters=(Parameter("file", Place.PATH, _TEXT, "Its name.", required=True, example="chart.css"),),
    ),
)
OPERATIONS = (
    Operation("GET", "/healthz", HEALTH, "Is the process alive?", {200: json_of("It is.", Alive)}),
    Operation(
        "GET",
        "/readyz",
        HEALTH,
        "Can it do its work?",
        {200: json_of("It can.", Readiness), 503: json_of("It lacks something.", Readiness)},
        description="What it lacks, if anything, is named. What it can do without for a time is `degraded`.",
    ),
    Operation(
        "GET",
        "/metrics",
        HEALTH,
        "Metrics",
        {200: Answer("In the text format of Prometheus.", (Content(_TEXT, CONTENT_TYPE_LATEST),))},
    ),
    Operation(
        "GET",
        "/openapi.json",
        PAGES,
        "This description",
        {200: json_of("An OpenAPI 3.1 document.", dict[str, Any]), **PROBLEM.refusals()},
    ),
    _page("/docs", "This description, to read and to try"),
    Operation(
        "GET",
        "/docs/{file}",
        PAGES,
        "A file of that page",
        {
            200: Answer("The file.", (Content(_TEXT, "text/css"), Content(_TEXT, "text/javascript"))),
            206: Answer("The part of it that was asked for."),
            304: Answer("The caller has it."),
            **PROBLEM.refusals(404, said={416: "It has no such part."}),
        },
        parameters=(
            Parameter("file", Place.PATH, _TEXT, "Its name.", required=True, example="swagger-ui.css"),
        ),
    ),
)
