"""Surface 000, described: the events of a bucket."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.http.openapi.operations import TOKEN_OR_KEY, Content, Operation, bucket_id, json_of
from api.http.openapi.refusals import BODY, BUCKET, IN_BUCKET
from api.surfaces.bucket_events import PREFIX, EventsQuestion, HistogramQuestion, NamesQuestion
from api.surfaces.described.steps import RECEIPT, Shown

TAG = "bucket events"
_EITHER_WAY = (
    "Parameters may come in the query string too; the body counts before it. Numbers may be texts, and null "
    "means that a parameter was not given."
)


class BucketEvent(Shown):
    """One event."""

    id: str = Field(alias="_id")
    at: int = Field(description="Epoch milliseconds.")
    event_name: str
    app_name: str
    server_name: str
    device_name: str
    stream: str
    data: dict[str, Any]


class AppNames(Shown):
    """The events of one app."""

    app_name: str
    events: list[str] = Field(description="Their names.")
    counts: dict[str, Annotated[int, Field(ge=0)]] = Field(description="How many of each name.")


# Not a tuple: tools for descriptions disagree on how those are written.
_Point = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
_REFUSALS = BUCKET.refusals(*IN_BUCKET, *BODY)


def _names(path: str) -> Operation:
    return Operation(
        "GET",
        f"{PREFIX}/{path}",
        TAG,
        "Names and counts by app",
        {200: json_of("One entry an app.", list[AppNames], ["X-Weir-Incomplete"]), **_REFUSALS},
        description="A body is not needed; `{}` may be sent.",
        parameters=(bucket_id(), RECEIPT),
        query=NamesQuestion,
        security=TOKEN_OR_KEY,
    )


OPERATIONS = (
    Operation(
        "POST",
        f"{PREFIX}/events",
        TAG,
        "Events of a name, newest first",
        {200: json_of("Newest first, ties by id.", list[BucketEvent]), **_REFUSALS},
        description=_EITHER_WAY,
        parameters=(bucket_id(), RECEIPT),
        bodies=(
            Content(EventsQuestion, examples={"the newest of a name": {"event_name": "hello", "limit": 10}}),
        ),
        security=TOKEN_OR_KEY,
    ),
    Operation(
        "POST",
        f"{PREFIX}/events/stats",
        TAG,
        "How many over time",
        {
            200: json_of(
                "Points of a histogram: the start of a period in epoch milliseconds, and the number of "
                "events in it; ascending, with zeros between the first period that has events and the last.",
                list[_Point],
                ["X-Weir-Incomplete"],
            ),
            **_REFUSALS,
        },
        description=_EITHER_WAY,
        parameters=(bucket_id(), RECEIPT),
        bodies=(
            Content(
                HistogramQuestion,
                examples={
                    "by hour for a week": {"event_name": "hello", "interval": "hour", "days": 7},
                    "numbers as texts": {"event_name": "hello", "interval": "5m", "days": "1"},
                },
            ),
        ),
        security=TOKEN_OR_KEY,
    ),
    _names("eventsKeysByApp"),
    _names("events/eventsKeysByApp"),
    Operation(
        "DELETE",
        f"{PREFIX}/events/delete_all",
        TAG,
        "Delete all events of the bucket",
        {200: json_of("What was deleted.", list[AppNames], ["X-Weir-Incomplete"]), **_REFUSALS},
        description="It takes no filter, and holds against events that are still on their way.",
        parameters=(bucket_id(), RECEIPT),
        security=TOKEN_OR_KEY,
    ),
)
