"""What descriptions of calls have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.http.openapi.operations import NAMED_BUCKET_SCHEMA, Parameter, Place

HexId = Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]

RECEIPT = Parameter(
    "X-Weir-Receipt",
    Place.HEADER,
    {"type": "string"},
    "A receipt of the gateway: the call waits, up to 5 seconds, until what it names is stored.",
)
NAMED_BUCKET = Parameter(
    "X-Weir-Bucket",
    Place.HEADER,
    NAMED_BUCKET_SCHEMA,
    "The bucket, with a user's token or key; a bucket's key needs none.",
)


class Shown(BaseModel):
    """What all answers share: nothing is in them that their model does not name."""

    model_config = ConfigDict(extra="forbid")


def text(name: str, description: str, **schema: object) -> Parameter:
    """A text in the path."""
    return Parameter(name, Place.PATH, {"type": "string", **schema}, description, required=True)
