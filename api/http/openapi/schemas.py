"""JSON schemas of what is checked, with the named ones gathered under the document's components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import ComputedField, DataclassField, ModelField, TypedDictField

_PLACE = "#/components/schemas/"

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Fields are known by their names; a title made of the name says nothing more."""

    def field_title_should_be_set(
        self,
        schema: Mapping[str, Any] | ModelField | DataclassField | TypedDictField | ComputedField,  # noqa: ARG002
    ) -> bool:
        """Never."""
        return False


class Schemas:
    """The schemas of one document. ``components``: those that have names, by name."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, what: Any) -> Schema:
        """The schema of a type, a reference where it is a model; a schema (a mapping) is one already."""
        if isinstance(what, Mapping):
            return dict(what)
        schema = self._generated(what)
        if isinstance(what, type) and issubclass(what, BaseModel):
            self._keep(what.__name__, schema)
            return {"$ref": f"{_PLACE}{what.__name__}"}
        return schema

    def fields(self, model: type[BaseModel]) -> Iterator[tuple[str, Schema, bool]]:
        """The fields of a model: each one's name, its schema, and whether it is required."""
        schema = self._generated(model)
        required = schema.get("required", [])
        for name, field in schema.get("properties", {}).items():
            yield name, field, name in required

    def _generated(self, what: Any) -> Schema:
        schema = TypeAdapter(what).json_schema(
            ref_template=_PLACE + "{model}", schema_generator=_Generator, mode="validation"
        )
        for name, component in schema.pop("$defs", {}).items():
            self._keep(name, component)
        return schema

    def _keep(self, name: str, schema: Schema) -> None:
        if self.components.setdefault(name, schema) != schema:
            raise ValueError(f"two schemas are called {name}; rename one of the models")
