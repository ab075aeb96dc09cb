"""The live feed, described."""

from __future__ import annotations

from api.http.openapi.operations import TOKEN_OR_KEY, Answer, Operation, Parameter, Place
from api.http.openapi.refusals import PROBLEM
from api.surfaces.primus import PATH

TAG = "live feed"
_MESSAGES = """The subscriber sends `{"action": "sub", "public_id": "…", "filters": []}` to follow a bucket
by its public id, or the same with `unsub`. Patterns among `filters` are of keys with colons between their
words: `*` is one word, `**` any number; none, or an empty one, is everything. Each event then comes as a
frame `{"data": [bucket id, {"server_name": "…", "human:event": {…}}]}`.

What is refused is said by a close frame of code 1008. A connection that is dropped without one should be made
again: the subscriber was too slow, or the process is full or stops. An access token that has expired is
taken here for as long as its refresh token stands."""

OPERATIONS = (
    Operation(
        "GET",
        PATH,
        TAG,
        "A WebSocket that events come over as they are accepted",
        {101: Answer("It is open."), **PROBLEM.refusals(401, 426, 429)},
        _MESSAGES,
        parameters=(
            Parameter(
                "token",
                Place.QUERY,
                {"type": "string"},
                "An access token, since browsers send no headers here; it counts before the headers.",
            ),
        ),
        security=TOKEN_OR_KEY,
    ),
)
