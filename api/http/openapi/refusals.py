"""The forms of refusals, one for each surface, and what each status means there.

``api.http.problems`` answers in these forms; a door's description names them by the statuses that a call can
be refused with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.http.openapi.operations import JSON, Answer, Content

_SAID: Mapping[int, str] = {
    400: "A parameter, a header or the body is missing or cannot be taken; the message names it.",
    401: "No credential, or one that is unknown, expired or revoked.",
    403: "The credential does not allow this.",
    404: "There is nothing of this id.",
    408: "The body did not arrive in time.",
    413: "The body is larger than it may be.",
    415: "A media type or a content encoding that is not read here.",
    426: "Not a WebSocket; one is opened here, and nothing else.",
    429: "More often than is allowed; `Retry-After` says when to come back.",
    500: "An unexpected error; the log has it under `X-Request-Id`.",
    503: "More than is taken just now, or a server behind this door does not answer; try again.",
}
# Groups of statuses that steps of a request bring along.
ANY = (500, 503)
SIGNED_IN = (401, 403)
IN_BUCKET = (401, 403, 404)
BODY = (400, 408, 413, 415)


class Problem(BaseModel):
    """A problem as RFC 9457 has it, with the request's id; some have further members."""

    model_config = ConfigDict(extra="allow")

    type: Literal["about:blank"]
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is wrong, and what helps.")
    request_id: str


class Message(BaseModel):
    """A refusal of the bucket surfaces and of signing in."""

    model_config = ConfigDict(extra="forbid")

    msg: str = Field(description="What is wrong, and what helps.")


class ResponseStatus(BaseModel):
    """A refusal of the surface of a device's events."""

    model_config = ConfigDict(extra="forbid", title="ResponseStatus")

    response_status: int = Field(alias="responseStatus", description="The status again.")
    message: str = Field(description="What is wrong, and what helps.")


class Failure(BaseModel):
    """A refusal of the surface of node statistics."""

    model_config = ConfigDict(extra="forbid")

    success: Literal[False]
    message: str = Field(description="What is wrong, and what helps.")


@dataclass(frozen=True, slots=True)
class Form:
    """A surface's form of refusals. ``said``: what a status means there, where it means something else."""

    body: type[BaseModel]
    media_type: str = JSON
    said: Mapping[int, str] = field(default_factory=dict)

    def refusals(self, *statuses: int, said: Mapping[int, str] | None = None) -> dict[int, Answer]:
        """The refusals of a call, by status, with those that any call may be refused with.

        ``said``: what a status means for this call; what is named there need not be in ``statuses``.
        """
        own = said or {}
        meanings = {**_SAID, **self.said, **own}
        return {
            status: Answer(meanings[status], (Content(self.body, self.media_type),), _headers(status))
            for status in sorted({*ANY, *statuses, *own})
        }


def _headers(status: int) -> tuple[str, ...]:
    match status:
        case 401:
            return ("WWW-Authenticate",)
        case 429 | 503:
            return ("Retry-After",)
        case _:
            return ()


_UNAVAILABLE = "The database, or another server behind this door, does not answer; or an unexpected error."

PROBLEM = Form(Problem, "application/problem+json")
MESSAGE = Form(Message)
BUCKET = Form(
    Message,
    said={500: _UNAVAILABLE, 503: "More than is taken just now; `Retry-After` says when to ask again."},
)
RESPONSE_STATUS = Form(ResponseStatus)
FAILURE = Form(Failure)
