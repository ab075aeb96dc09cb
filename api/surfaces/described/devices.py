"""Surface 002, described: when a device's events happened, or how many."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from api.http.openapi.operations import TOKEN_OR_KEY, Operation, json_of
from api.http.openapi.refusals import RESPONSE_STATUS
from api.surfaces.described.steps import RECEIPT, Shown, text
from api.surfaces.devices import PREFIXES, JournalQuestion
from query.journal import PAGE_ROWS

TAG = "device events"
Second = int | datetime


class Period(Shown):
    """A period that has events: its first second, UTC, and how many."""

    tst: Second
    val: int = Field(ge=1)


_Rows = (
    Annotated[list[Second], Field(max_length=PAGE_ROWS)]
    | Annotated[list[Period], Field(max_length=PAGE_ROWS)]
)

OPERATIONS = tuple(
    Operation(
        "GET",
        f"{prefix}/devices/{{uuid}}/events/{{event_name}}",
        TAG,
        "When a device's events happened, or how many by hour or day",
        {
            200: json_of(
                "A page of times in Unix seconds, or of periods; in ISO 8601 if so asked.",
                _Rows,
                ["X-Weir-Incomplete"],
            ),
            **RESPONSE_STATUS.refusals(
                400, 401, said={404: "No device that the caller may see has sent an event of this name."}
            ),
        },
        parameters=(
            text("uuid", "The device."),
            text("event_name", "The events' name."),
            RECEIPT,
        ),
        query=JournalQuestion,
        security=TOKEN_OR_KEY,
    )
    for prefix in PREFIXES
)
