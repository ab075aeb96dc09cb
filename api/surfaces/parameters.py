"""Models of parameters: what a call may be asked with, checked field by field, and described by the same.

Neighbours: ``fields`` reads one parameter, as clients send it; the surfaces declare models of such fields.
Guarantee: what a model refuses is what /openapi.json says it refuses, as far as a JSON schema can say it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, WithJsonSchema

from api.surfaces import fields
from query.request import END_OF_TIME
from schema.errors import Invalid
from schema.events import MAX_LABEL, first_problem

Q = TypeVar("Q", bound="Question")

MOMENT_SCHEMA = {
    "type": ["string", "number", "null"],
    "minimum": 0,
    "maximum": END_OF_TIME // 1000,
    "examples": ["2026-01-31T12:00:00Z", 1790000000000],
}


def named(read: Callable[[fields.Parameters, str], Any]) -> BeforeValidator:
    """A validator out of a function of ``fields``; its Invalid goes through as it is."""

    def validate(value: object, info: ValidationInfo) -> Any:
        name = info.field_name or ""
        return read({name: value}, name)

    return BeforeValidator(validate)


def whole(default: int, least: int, most: int) -> BeforeValidator:
    """A whole number within bounds, or its text."""
    return named(lambda given, name: fields.whole_number(given, name, default, least, most))


def whole_schema(least: int, most: int) -> WithJsonSchema:
    """What ``whole`` takes. JSON schemas cannot bound the number in a text."""
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": least, "maximum": most},
                {"type": "string", "pattern": r"^\s*-?[0-9]{1,18}\s*$"},
                {"type": "null"},
            ]
        }
    )


Label = Annotated[
    str | None, named(fields.label), WithJsonSchema({"type": ["string", "null"], "maxLength": MAX_LABEL})
]
RequiredLabel = Annotated[
    str,
    named(fields.required_label),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_LABEL}),
]
# Microseconds since 1970.
Moment = Annotated[int | None, named(fields.moment), WithJsonSchema(MOMENT_SCHEMA)]


class Question(BaseModel):
    """What all models of parameters share: unknown parameters are let pass."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def asked(model: type[Q], given: Mapping[str, Any]) -> Q:
    """The parameters, checked; null means that one was not given. Raises Invalid, naming the parameter.

    What is required and missing is handed to its reader as null: it has the better words.
    """
    present = {
        name: given.get(name)
        for name, field in model.model_fields.items()
        if field.is_required() or given.get(name) is not None
    }
    try:
        return model.model_validate(present)
    except ValidationError as error:
        raise Invalid(first_problem(error)) from None
