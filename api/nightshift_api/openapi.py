"""Describe the API to machines: OpenAPI 3.1, generated from the table of routes and the wire models.

Pure.
"""

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from nightshift_api.routes import Operation
from nightshift_api.wire import MORE, ErrorObject, Wire

_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = (401, 403, 429, 500, 503)
_WITH_A_BODY = (408,)
_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}


def build_openapi(operations: Iterable[Operation], prefix: str) -> dict[str, Any]:
    """Build the description of all operations under a prefix."""
    listed = list(operations)
    models = sorted({m for op in listed for m in (op.answer, op.body) if m} | {ErrorObject}, key=lambda m: m.__name__)
    references, schemas = models_json_schema([(m, "serialization") for m in models], ref_template=_REFERENCE)
    paths: dict[str, Any] = {}
    for operation in listed:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(
            operation, {model: schema for (model, _), schema in references.items() if issubclass(model, Wire)}
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nightshift", "version": version("nightshift-batch")},
        "servers": [{"url": prefix}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation, references: dict[type[Wire], Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", operation.summary.lower()),
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation.path),
            *_parameters("query", operation.query),
            *_parameters("header", operation.headers),
        ],
        "responses": _answers(operation.answer, references),
    }
    error = {"description": "Error", "content": {"application/json": {"schema": references[ErrorObject]}}}
    described["responses"] |= {str(status): error for status in sorted(_statuses(operation))}
    if operation.body:
        described["requestBody"] = _body("application/json", references[operation.body])
    if operation.form:
        described["requestBody"] = _body("multipart/form-data", _form_schema(operation.form, operation.form_file))
    return described


def _statuses(operation: Operation) -> set[int]:
    has_body = bool(operation.body or operation.form)
    return {*operation.errors, *_ALWAYS, *(_WITH_A_BODY if has_body else ())}


def _answers(model: type[Wire] | None, references: dict[type[Wire], Any]) -> dict[str, Any]:
    if model:
        return {"200": {"description": "OK", "content": {"application/json": {"schema": references[model]}}}}
    whole = {
        "description": "The file, or as much of it as there is",
        "headers": {MORE: {"schema": {"type": "string", "enum": ["true", "false"]}}},
        "content": {"application/octet-stream": {"schema": _BYTES}},
    }
    return {"200": whole, "206": whole | {"description": "The range that was asked for"}}


def _body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    found = re.findall(r"\{(\w+)(?::path)?\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in found]


def _parameters(where: str, model: type[Wire] | None) -> list[dict[str, Any]]:
    properties = model.model_json_schema()["properties"] if model else {}
    return [{"name": name, "in": where, "schema": schema} for name, schema in properties.items()]


def _form_schema(form: type[Wire], file: str) -> dict[str, Any]:
    """A form has no nesting: an object becomes fields with brackets."""
    whole = form.model_json_schema()
    fields: dict[str, Any] = {file: _BYTES}
    for name, schema in whole["properties"].items():
        nested = next((o["$ref"] for o in schema.get("anyOf", []) if "$ref" in o), None)
        if nested is None:
            fields[name] = schema
        else:
            inner = whole["$defs"][nested.rpartition("/")[2]]["properties"]
            fields |= {f"{name}[{key}]": value for key, value in inner.items()}
    return {"type": "object", "properties": fields, "required": [file, *whole.get("required", ())]}
