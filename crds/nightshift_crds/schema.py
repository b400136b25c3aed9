"""Turn the pydantic models into CustomResourceDefinitions.

Pure. A fold over pydantic's JSON schema with an allow-list of keywords: what a structural schema forbids is rewritten
where there is one right way, and anything else raises (kubernetes.md 4.5).
"""

from collections.abc import Callable, Mapping
from typing import Any

from nightshift_crds.models import GROUP, VERSION, Part, Resource, Rule

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type", "format", "description", "enum", "default", "pattern", "required",
        "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
        "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields",
    }
)  # fmt: skip
_DROPPED = frozenset({"title"})


def build_crd(resource: type[Resource]) -> dict[str, Any]:
    """Build the CustomResourceDefinition of a resource."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": build_schema(resource)},
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": path} for path in resource.SELECTABLE],
        "additionalPrinterColumns": [
            *({"name": name, "type": kind, "jsonPath": path} for name, kind, path in resource.COLUMNS),
            *(
                {"name": name, "type": kind, "jsonPath": path, "priority": 1}
                for name, kind, path in resource.WIDE_COLUMNS
            ),
        ],
    }
    kind = resource.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.PLURAL,
                "singular": kind.lower(),
                "shortNames": [resource.SHORT],
                "categories": ["inference"],
            },
            "versions": [{key: value for key, value in version.items() if value != [] or key != "selectableFields"}],
        },
    }


def build_schema(resource: type[Resource]) -> Schema:
    """Build the structural schema of a resource, its rules included."""
    whole = resource.model_json_schema(by_alias=True, mode="validation")
    definitions = whole.pop("$defs", {})
    parts = {part: whole["properties"][part] for part in ("spec", "status") if part in whole["properties"]}
    schema = {
        "type": "object",
        "description": whole["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            **{part: _fold(node, definitions) for part, node in parts.items()},
        },
    }
    schema["properties"].get("status", {}).pop("default", None)
    for part, model in rule_holders(resource).items():
        _attach(schema["properties"][part] if part else schema, model.RULES)
    return schema


def rule_holders(resource: type[Resource]) -> Mapping[str, type[Part]]:
    """Name the models whose rules hold: the resource's own under '', those of its spec and status under their names."""
    holders: dict[str, type[Part]] = {"": resource}
    for part in ("spec", "status"):
        model = resource.model_fields[part].annotation if part in resource.model_fields else None
        if isinstance(model, type) and issubclass(model, Part):
            holders[part] = model
    return holders


def _attach(node: Schema, rules: tuple[Rule, ...]) -> None:
    if rules:
        node["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]


def _fold(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Rewrite one node and all below it."""
    node = _inlined(_without_null(_inlined(node, definitions)), definitions)
    out: Schema = {}
    for keyword, value in node.items():
        if keyword in _DROPPED or (keyword == "default" and value is None):
            continue
        if keyword == "default" and isinstance(value, dict):
            out[keyword] = {key: default for key, default in value.items() if default is not None}
        elif keyword in _KEPT:
            out[keyword] = value
        elif keyword in _REWRITES:
            out |= _REWRITES[keyword](value, definitions)
        else:
            raise ValueError(f"no structural schema has {keyword!r}: {node}")
    return out


def _inlined(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Replace a reference by what it names; what stands beside it wins. CRDs know no references."""
    if "$ref" not in node:
        return node
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return _inlined(definitions[node["$ref"].removeprefix("#/$defs/")] | beside, definitions)


def _without_null(node: Schema) -> Schema:
    """Drop the null of an optional field: a structural schema says that by leaving it out of `required`."""
    if "anyOf" not in node:
        return node
    others = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(others) != 1:
        raise ValueError(f"a structural schema has one type a field: {node}")
    beside = {key: value for key, value in node.items() if key != "anyOf"}
    return {**others[0], **beside}


def _fold_properties(value: Schema, definitions: Mapping[str, Schema]) -> Schema:
    return {"properties": {name: _fold(child, definitions) for name, child in value.items()}}


def _fold_items(value: Schema, definitions: Mapping[str, Schema]) -> Schema:
    return {"items": _fold(value, definitions)}


def _fold_map(value: Schema | bool, definitions: Mapping[str, Schema]) -> Schema:  # noqa: FBT001 - JSON schema's own form
    return {} if isinstance(value, bool) else {"additionalProperties": _fold(value, definitions)}


def _fold_const(value: str, _: Mapping[str, Schema]) -> Schema:
    return {"enum": [value]}


_REWRITES: Mapping[str, Callable[[Any, Mapping[str, Schema]], Schema]] = {
    "properties": _fold_properties,
    "items": _fold_items,
    "additionalProperties": _fold_map,
    "const": _fold_const,
}
