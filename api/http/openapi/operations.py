"""The words in which a call is described: what it takes, what it answers, who may. Data only.

An ``Operation`` names the method and the path under which aiohttp serves the call; a test holds the described
calls and the served ones equal. What a body or a parameter is like is said by the pydantic model that checks
it, or, where no model does, by a schema made of the constants that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

JSON = "application/json"


class Place(StrEnum):
    """Where a parameter stands."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Content:
    """A body in one media type.

    ``of``: a type that pydantic makes a schema of, or the schema itself. ``examples``: values that work, by
    what they show.
    """

    of: Any
    media_type: str = JSON
    examples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value beside the body. ``of``: as for Content."""

    name: str
    place: Place
    of: Any
    description: str
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means, and what comes with it. ``headers``: names of ``document.HEADERS``."""

    meaning: str
    contents: tuple[Content, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of credential: its name here, and the security scheme that it is."""

    name: str
    scheme: Mapping[str, Any]


TOKEN = Scheme(
    "token",
    {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's access token, from `POST /api/oauth/token`; good for 15 minutes.",
    },
)
KEY = Scheme(
    "key",
    {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "An API key of a bucket or of a user, with the scope `ingest`, `read` or `admin`.",
    },
)
# Any one of these: the sets of credentials that open a call.
TOKEN_OR_KEY = ((TOKEN,), (KEY,))
TOKEN_ONLY = ((TOKEN,),)
KEY_ONLY = ((KEY,),)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. ``answers``: by status, refusals included.

    ``query``: the model that checks the query string. ``bodies``: the forms of the body, none: it is not
    read. ``security``: sets of credentials, any of which opens the call; none: open to everybody.
    """

    method: str
    path: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    query: type[BaseModel] | None = None
    bodies: tuple[Content, ...] = ()
    body_required: bool = False
    security: tuple[tuple[Scheme, ...], ...] = ()
    deprecated: bool = False


def json_of(meaning: str, of: Any, headers: Iterable[str] = (), **examples: Any) -> Answer:
    """An answer in JSON."""
    return Answer(meaning, (Content(of, examples=examples),), tuple(headers))


BUCKET_ID_SCHEMA = {"type": "string", "pattern": "^[0-9a-f]{24}$"}
# In a header: an empty one is none.
NAMED_BUCKET_SCHEMA = {"type": "string", "pattern": "^([0-9a-f]{24})?$"}


def bucket_id(name: str = "bucket_id") -> Parameter:
    """The bucket of a path."""
    return Parameter(
        name, Place.PATH, BUCKET_ID_SCHEMA, "The bucket's id: 24 hexadecimal digits.", required=True
    )
