"""What calls with a JSON body have in common: the body read within its bounds, and checked by its model.

A model is the one statement of what a call takes: what it refuses here is what /openapi.json says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from api.http.bodies import Allowance, BodyLimits, media_type, parse_json, read_body
from schema.errors import Invalid
from schema.events import first_problem
from schema.settings import ApiSettings

M = TypeVar("M", bound=BaseModel)
_MAX_FIELDS = 100

# Forms of texts, as patterns: a model says them to machines, a refusal in words.
MAIL_ADDRESS = r"^[^@\s]+@[^@\s]+$"
WEB_ADDRESS = r"^(https?://\S+)?$"
OBJECT_ID = r"^[0-9a-f]{24}$"
_FORMS = {
    MAIL_ADDRESS: "a mail address, like ada@example.com",
    WEB_ADDRESS: "an address that begins with http:// or https://",
    OBJECT_ID: "an id of 24 hexadecimal digits",
}


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character U+0000")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be Unicode without lone surrogates")
    return text


Storable = AfterValidator(_storable)
Text = Annotated[str, Storable]


class Body(BaseModel):
    """What all bodies share: unknown members are let pass, as clients of the bucket API send some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Inbox:
    """Reads bodies within the bounds of the settings."""

    settings: ApiSettings
    allowance: Allowance

    async def object_in(self, request: web.Request) -> Mapping[str, Any]:
        """The JSON object of a body; none is an empty one. Raises Invalid."""
        body = await self._bytes(request)
        given: Any = parse_json(body) if body.strip() else {}
        if not isinstance(given, dict):
            raise Invalid("body: must be a JSON object")
        return given

    async def object_or_form_in(self, request: web.Request) -> Mapping[str, Any]:
        """The same, or the fields of a form, as OAuth has it."""
        if media_type(request) != "application/x-www-form-urlencoded":
            return await self.object_in(request)
        body = await self._bytes(request)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
        except ValueError:
            raise Invalid("body: no form in UTF-8 of a sensible size") from None

    async def _bytes(self, request: web.Request) -> bytes:
        limits = BodyLimits(self.settings.request_bytes, self.settings.request_seconds)
        return await read_body(request, limits, self.allowance)


def checked(model: type[M], given: Mapping[str, Any]) -> M:
    """``given`` as the model has it. Raises Invalid, naming the field and what is wrong with it."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        if form := _FORMS.get(problem.get("ctx", {}).get("pattern", "")):
            raise Invalid(f"{'.'.join(map(str, problem['loc']))}: must be {form}") from None
        raise Invalid(first_problem(error, "body")) from None
