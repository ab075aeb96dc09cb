"""Surface 003, described: events of a stream by device."""

from __future__ import annotations

from pydantic import Field

from api.http.openapi.operations import TOKEN_OR_KEY, Answer, Content, Operation, json_of
from api.http.openapi.refusals import BODY, PROBLEM, Problem
from api.surfaces.described.steps import RECEIPT
from api.surfaces.device_data import PATH, DeviceDataAnswer, DeviceDataQuestion

TAG = "streams"
_SUMMARY = "Events of a stream, by device"
_ANSWER = json_of("One entry for each device asked for, in that order.", DeviceDataAnswer)


class PointedProblem(Problem):
    """A problem that points into a rule or a filter."""

    parameter: str | None = Field(None, description="Which one; `rule[2]` is the third rule.")
    character: int | None = Field(None, ge=1, description="Where in its text, from 1.")
    expected: list[str] | None = Field(None, description="What could stand there.")


_REFUSALS = {
    **PROBLEM.refusals(401, *BODY),
    400: Answer(
        "A parameter is missing or wrong; one with a rule or a filter in it is pointed into.",
        (Content(PointedProblem, PROBLEM.media_type),),
    ),
}
_LANGUAGE = (
    "A rule is a tag that is there, or `tag = value`. Filters are `{AND: […]}`, `{OR: […]}`, `{NOT: …}`, and "
    "`[tag, operator, value]`."
)

OPERATIONS = (
    Operation(
        "GET",
        PATH,
        TAG,
        _SUMMARY,
        {200: _ANSWER, **_REFUSALS},
        description=f"{_LANGUAGE} The parameters may come in a JSON body too; the body wins.",
        parameters=(RECEIPT,),
        query=DeviceDataQuestion,
        security=TOKEN_OR_KEY,
    ),
    Operation(
        "POST",
        PATH,
        TAG,
        _SUMMARY,
        {200: _ANSWER, **_REFUSALS},
        description=_LANGUAGE,
        parameters=(RECEIPT,),
        bodies=(
            Content(
                DeviceDataQuestion,
                examples={
                    "a stream": {"device_id": "d1", "stream": "events", "limit": 10},
                    "rules and filters": {
                        "device_id": ["d1", "d2"],
                        "stream": "events",
                        "rule": ["amount = 100"],
                        "filters": {"AND": [["name", "CONTAINS", "a"], ["amount", "LESS_THAN", 1000]]},
                        "sort_by": "observed_at",
                        "sort_direction": "asc",
                    },
                },
            ),
        ),
        security=TOKEN_OR_KEY,
    ),
)
