"""Describe the API to machines: OpenAPI 3.1, generated from the table of routes and the wire models.

Pure. The description is as strict as the API is: `make fuzz` holds each against the other.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from nightshift_api.routes import Operation
from nightshift_api.settings import Settings
from nightshift_api.wire import MORE, ErrorObject, Wire, id_pattern
from nightshift_crds.names import IdKind

_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = (401, 403, 429, 500, 503)
_WITH_A_BODY = (408,)
_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}
_IDS: Mapping[str, str] = {f"{kind}_id": id_pattern(kind) for kind in IdKind}

_REQUEST_ID = {"x-request-id": {"required": True, "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"}}}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1, "maximum": 60}}}
_HEADERS: Mapping[int, dict[str, Any]] = {
    409: {"x-should-retry": {"required": True, "schema": {"const": "false"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
_DOWNLOAD = {
    "content-disposition": {"required": True, "schema": {"type": "string", "pattern": "^attachment; "}},
    MORE: {"required": True, "schema": {"type": "string", "enum": ["true", "false"]}},
}


def build_openapi(operations: Iterable[Operation], prefix: str, settings: Settings) -> dict[str, Any]:
    """Build the description of all operations under a prefix, with the limits of an installation."""
    listed = list(operations)
    references, schemas = _schemas(listed, settings)
    paths: dict[str, Any] = {}
    for operation in listed:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nightshift", "version": version("nightshift-batch")},
        "servers": [{"url": prefix}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: list[Operation], settings: Settings) -> tuple[dict[type[Wire], Any], dict[str, Any]]:
    """Describe all objects that go in or out; gives the references to them too."""
    answers = {operation.answer for operation in operations if operation.answer} | {ErrorObject}
    bodies = {operation.body for operation in operations if operation.body}
    in_order = sorted(answers | bodies, key=lambda model: model.__name__)
    asked: list[tuple[type[Wire], Literal["validation", "serialization"]]] = [
        (model, "serialization" if model in answers else "validation") for model in in_order
    ]
    references, whole = models_json_schema(asked, ref_template=_REFERENCE)
    schemas: dict[str, Any] = whole["$defs"]
    schemas["CreateBatch"]["properties"]["endpoint"]["enum"] = list(settings.endpoints)
    schemas["CreateUpload"]["properties"]["bytes"]["maximum"] = settings.max_file_bytes
    return {model: references[model, mode] for model, mode in asked}, schemas


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
    refused = sorted(_statuses(operation))
    described["responses"] |= {str(status): _error(status, references[ErrorObject]) for status in refused}
    if operation.body:
        described["requestBody"] = _body("application/json", references[operation.body], required=operation.needs_body)
    if operation.form:
        described["requestBody"] = _body("multipart/form-data", _form_schema(operation.form, operation.form_file))
    return described


def _statuses(operation: Operation) -> set[int]:
    has_body = bool(operation.body or operation.form)
    return {*operation.errors, *_ALWAYS, *(_WITH_A_BODY if has_body else ())}


def _answers(model: type[Wire] | None, references: dict[type[Wire], Any]) -> dict[str, Any]:
    if model:
        content = {"application/json": {"schema": references[model]}}
        return {"200": {"description": "OK", "headers": _REQUEST_ID, "content": content}}
    whole = {
        "description": "The file, or as much of it as there is",
        "headers": _REQUEST_ID | _DOWNLOAD,
        "content": {"application/octet-stream": {"schema": _BYTES}},
    }
    return {"200": whole, "206": whole | {"description": "The range that was asked for"}}


def _error(status: int, reference: dict[str, Any]) -> dict[str, Any]:
    headers = _REQUEST_ID | _HEADERS.get(status, {})
    return {"description": "Error", "headers": headers, "content": {"application/json": {"schema": reference}}}


def _body(media_type: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {media_type: {"schema": schema}}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    found = re.findall(r"\{(\w+)(?::path)?\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": _path_schema(name)} for name in found]


def _path_schema(name: str) -> dict[str, Any]:
    return {"type": "string"} | ({"pattern": _IDS[name]} if name in _IDS else {"minLength": 1})


def _parameters(where: str, model: type[Wire] | None) -> list[dict[str, Any]]:
    properties = model.model_json_schema()["properties"] if model else {}
    return [{"name": name, "in": where, "schema": _as_sent(schema)} for name, schema in properties.items()]


def _as_sent(schema: dict[str, Any]) -> dict[str, Any]:
    """What is not JSON has no null: a field that is not there is left out."""
    if "anyOf" not in schema:
        return schema
    sent: dict[str, Any] = next(option for option in schema["anyOf"] if option != {"type": "null"})
    return {key: value for key, value in schema.items() if key not in {"anyOf", "default"}} | sent


def _form_schema(form: type[Wire], file: str) -> dict[str, Any]:
    """A form has no nesting: an object becomes fields with brackets, and either both are sent or neither."""
    whole = form.model_json_schema()
    fields: dict[str, Any] = {file: _BYTES}
    together: dict[str, list[str]] = {}
    for name, schema in whole["properties"].items():
        sent = _as_sent(schema)
        if "$ref" not in sent:
            fields[name] = sent
            continue
        inner = {f"{name}[{key}]": value for key, value in _nested(whole, sent["$ref"])["properties"].items()}
        together |= {key: [other for other in inner if other != key] for key in inner}
        fields |= inner
    described = {"type": "object", "properties": fields, "required": [file, *whole.get("required", ())]}
    return described | ({"dependentRequired": together} if together else {})


def _nested(whole: dict[str, Any], reference: str) -> dict[str, Any]:
    found: dict[str, Any] = whole["$defs"][reference.rpartition("/")[2]]
    return found
