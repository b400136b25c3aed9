"""Check answers against `/openapi.json`: the part of JSON Schema that it uses, and nothing that it does not.

An object must have every property that is described and no other: the contract promises all fields, always.
"""

import re
from typing import Any

Description = dict[str, Any]
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KNOWN = frozenset(
    {
        "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum", "items", "maxLength",
        "maxProperties", "maximum", "minimum", "pattern", "properties", "propertyNames", "required", "title", "type",
    }
)  # fmt: skip


def resolve(schema: Description, whole: Description) -> Description:
    """Follow a reference within a description."""
    while "$ref" in schema:
        root, *steps = schema["$ref"].split("/")
        assert root == "#", schema
        found = whole
        for step in steps:
            found = found[step]
        schema = found
    return schema


def find_faults(value: Any, schema: Description, whole: Description, at: str = "$") -> list[str]:
    """List where a value is not as a schema says."""
    schema = resolve(schema, whole)
    assert set(schema) <= _KNOWN, f"{at}: this checker does not know {sorted(set(schema) - _KNOWN)}"
    if "anyOf" in schema:
        options = [find_faults(value, option, whole, at) for option in schema["anyOf"]]
        return [] if [] in options else options[0]
    expected = _TYPES[schema["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [f"{at}: {value!r} is no {schema['type']}"]
    faults = [f"{at}: {value!r}" for allowed in _allowed(schema) if value not in allowed]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        faults.append(f"{at}: {value!r} is not like {schema['pattern']}")
    if isinstance(value, dict):
        faults += _faults_of_object(value, schema, whole, at)
    if isinstance(value, list):
        for n, item in enumerate(value):
            faults += find_faults(item, schema["items"], whole, f"{at}[{n}]")
    return faults


def _allowed(schema: Description) -> list[list[Any]]:
    return [[schema["const"]] if "const" in schema else schema["enum"]] if schema.keys() & {"const", "enum"} else []


def _faults_of_object(value: dict[str, Any], schema: Description, whole: Description, at: str) -> list[str]:
    if "properties" not in schema:
        inner = schema["additionalProperties"]
        return [fault for key, item in value.items() for fault in find_faults(item, inner, whole, f"{at}.{key}")]
    described = schema["properties"]
    faults = [f"{at}: {key} is not described" for key in value.keys() - described.keys()]
    faults += [f"{at}: {key} is missing" for key in described.keys() - value.keys()]
    faults += [f"{at}: {key} need not be there" for key in described.keys() - set(schema["required"])]
    for key in value.keys() & described.keys():
        faults += find_faults(value[key], described[key], whole, f"{at}.{key}")
    return faults


def find_operation(description: Description, method: str, path: str) -> Description | None:
    """Find what is described for a call; None for a route or a method that there is not."""
    for template, operations in description["paths"].items():
        pattern = re.escape(template).replace(r"\{model\}", ".+")
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        if re.fullmatch(pattern, path):
            found: Description | None = operations.get(method.lower())
            return found
    return None
