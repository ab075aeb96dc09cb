"""The OpenAPI 3.1 document of a door, made of the operations that describe its calls. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from api.http.openapi.operations import Answer, Content, Operation, Parameter, Scheme
from api.http.openapi.schemas import Schema, Schemas

OPENAPI = "3.1.0"
HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "The request's id: the caller's own, if it sent a short one, or one of ours.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "What to authenticate by.", "schema": {"type": "string"}},
    "X-Weir-Receipt": {
        "description": "Names what was written: send it along with a read, and the read waits for it.",
        "schema": {"type": "string"},
    },
    "X-Weir-Incomplete": {
        "description": "Is there when the answer is not all that was asked for: the ranges of time that "
        "nothing can answer any more, or what there were too many of: `names`, `servers` or `nodes`.",
        "schema": {"type": "string"},
    },
}


@dataclass(frozen=True, slots=True)
class About:
    """What stands above the calls. ``tags``: the surfaces, in order, with what each is."""

    title: str
    version: str
    description: str
    tags: Mapping[str, str]


def document(about: About, operations: Iterable[Operation]) -> Schema:
    """The document. Raises ValueError when two calls or two schemas share a name, or a tag is unknown."""
    schemas = Schemas()
    paths: dict[str, dict[str, Schema]] = {}
    schemes: dict[str, Mapping[str, Any]] = {}
    for operation in operations:
        methods = paths.setdefault(operation.path, {})
        method = operation.method.lower()
        if method in methods or operation.tag not in about.tags:
            raise ValueError(f"{operation.method} {operation.path}: described twice, or under no known tag")
        methods[method] = _call(operation, schemas)
        schemes |= {one.name: one.scheme for together in operation.security for one in together}
    return {
        "openapi": OPENAPI,
        "info": {
            "title": about.title,
            "version": about.version,
            "description": about.description,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The door that this document came from."}],
        "tags": [{"name": name, "description": what} for name, what in about.tags.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "headers": dict(HEADERS),
            "securitySchemes": schemes,
        },
    }


def _call(operation: Operation, schemas: Schemas) -> Schema:
    call: Schema = {
        "tags": [operation.tag],
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "responses": {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()},
        "security": [_together(schemes) for schemes in operation.security],
    }
    if operation.description:
        call["description"] = operation.description
    parameters = [_parameter(parameter, schemas) for parameter in operation.parameters]
    if operation.query is not None:
        parameters += [_of_query(*field) for field in schemas.fields(operation.query)]
    if parameters:
        call["parameters"] = parameters
    if operation.bodies:
        call["requestBody"] = {
            "required": operation.body_required,
            "content": _contents(operation.bodies, schemas),
        }
    if operation.deprecated:
        call["deprecated"] = True
    return call


def _identifier(operation: Operation) -> str:
    """Of the method and the path: no two calls share both."""
    words = re.findall(r"[A-Za-z0-9]+", operation.path)
    if operation.path.endswith("/"):
        words.append("slash")
    return "_".join([operation.method.lower(), *words])


def _together(schemes: Iterable[Scheme]) -> dict[str, list[str]]:
    return {scheme.name: [] for scheme in schemes}


def _parameter(parameter: Parameter, schemas: Schemas) -> Schema:
    described: Schema = {
        "name": parameter.name,
        "in": parameter.place.value,
        "required": parameter.required,
        "description": parameter.description,
        "schema": schemas.of(parameter.of),
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _of_query(name: str, schema: Schema, required: bool) -> Schema:  # noqa: FBT001 - a triple of Schemas.fields
    written = _writable(schema)
    described: Schema = {"name": name, "in": "query", "required": required, "schema": written}
    if "description" in written:
        described["description"] = written.pop("description")
    return described


def _writable(schema: Schema) -> Schema:
    """A schema without null, which a query string cannot say: what is not meant is left out there."""
    written = dict(schema)
    if isinstance(written.get("type"), list):
        kinds = [kind for kind in written["type"] if kind != "null"]
        written["type"] = kinds[0] if len(kinds) == 1 else kinds
    if "anyOf" in written:
        ways = [way for way in written.pop("anyOf") if way != {"type": "null"}]
        written |= ways[0] if len(ways) == 1 else {"anyOf": ways}
    if "default" in written and written["default"] is None:
        del written["default"]
    return written


def _answer(answer: Answer, schemas: Schemas) -> Schema:
    described: Schema = {
        "description": answer.meaning,
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *answer.headers)
        },
    }
    if answer.contents:
        described["content"] = _contents(answer.contents, schemas)
    return described


def _contents(contents: Iterable[Content], schemas: Schemas) -> dict[str, Schema]:
    return {content.media_type: _content(content, schemas) for content in contents}


def _content(content: Content, schemas: Schemas) -> Schema:
    described: Schema = {"schema": schemas.of(content.of)}
    if content.examples:
        described["examples"] = {
            re.sub(r"[^A-Za-z0-9]+", "_", name): {"summary": name, "value": value}
            for name, value in content.examples.items()
        }
    return described
