"""What a CloudEvent 1.0 is to us: the attributes that we read, as a pydantic model, and its identity.

The gateway's dialect (``ingest.gateway.dialects.cloud_events``) maps it onto an event. Attributes that the
specification does not name are extensions: they are kept in the event's data.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schema.errors import Invalid
from schema.events import MAX_ID, Name, storable

# The member of an event's data that keeps what has no field of its own.
KEPT = "cloudevents"
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,64}")
_LARGEST_INTEGER = 2**31

_Text = Annotated[str, Field(min_length=1), AfterValidator(storable)]


class CloudEventModel(BaseModel):
    """One CloudEvent in its JSON form. Further attributes are its extensions."""

    model_config = ConfigDict(extra="allow", strict=True, title="CloudEvent")

    specversion: Literal["1.0"] = Field(description="Version of the specification.")
    type: Name = Field(description="What happened: the event's name.")
    source: Name = Field(description="The application that it came from: the event's app.")
    id: _Text = Field(description="With the source, what identifies the event.")
    subject: Name | None = Field(None, description="The device that it came from.")
    time: str | None = Field(None, description="When it happened: RFC 3339. Absent: the moment of receipt.")
    dataschema: _Text | None = Field(None, description="Kept in data, under cloudevents.")
    datacontenttype: _Text | None = Field(
        None, description="Kept in data, under cloudevents, unless it is JSON."
    )
    data: Any = Field(None, description='The payload; whatever is not an object becomes {"value": …}.')
    data_base64: str | None = Field(None, description="A binary payload; kept in data, under this name.")

    @property
    def extensions(self) -> dict[str, str | int | bool]:
        """The extension attributes. Raises Invalid, naming one that is none."""
        return {name: _extension(name, value) for name, value in (self.model_extra or {}).items()}


def event_identifier(source: str, identifier: str) -> str:
    """The id of an event that is identified by its source and its id together.

    Both with a space between them; where that is over 128 characters, or the source has a space of its own,
    ``sha256:`` and the digest of both. No two pairs share one.
    """
    joined = f"{source} {identifier}"
    if len(joined) <= MAX_ID and " " not in source:
        return joined
    digest = sha256(f"{source}\0{identifier}".encode()).hexdigest()
    return f"sha256:{digest}"


def _extension(name: str, value: Any) -> str | int | bool:
    if _EXTENSION_NAME.fullmatch(name) is None:
        raise Invalid(
            f"{name[:64]}: unknown attribute; names of extensions are lower-case letters and digits, up to 64"
        )
    if isinstance(value, str):
        try:
            return storable(value)
        except ValueError as error:
            raise Invalid(f"{name}: {error}") from None
    if isinstance(value, int) and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return value
    raise Invalid(f"{name}: an extension is a string, a boolean or an integer of 32 bits; put it into data")
