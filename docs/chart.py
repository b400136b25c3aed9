"""What the chart holds of the code: copies of the CRDs, and in values.schema.json the settings and the model's spec.

Pure but for the schema that it starts from. `docs/generate.py` writes it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from nightshift_api.settings import Settings as ApiSettings
from nightshift_crds.models import HostedModel
from nightshift_crds.schema import build_schema
from nightshift_crds.settings import Settings
from nightshift_operator.settings import Settings as OperatorSettings

CHART = Path(__file__).resolve().parent.parent / "charts" / "nightshift"
OWN = frozenset(
    {
        "api_keys_file", "bucket", "cluster", "holder", "host", "image", "image_pull_secrets", "installation", "lease",
        "listen_fd", "marks_lease", "metrics_host", "metrics_port", "port", "priority_class", "probe_port",
        "processor_metrics_port", "ready_leases", "service_account", "tls_cert_file", "tls_key_file",
        "tracing_headers_secret", "webhook_ca_file", "webhooks_file",
    }
)  # fmt: skip
"""Settings that the chart sets by itself, or that mean nothing on Kubernetes: no value overrides them."""
_ABOUT = ("type", "description", "default", "enum", "pattern", "items")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength")


def render_chart(crds: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Give the generated files of the chart; `crds` are the texts of the CRDs by file name."""
    for name, text in crds.items():
        yield CHART / "files" / "crds" / name, text
    path = CHART / "values.schema.json"
    schema = json.loads(path.read_text())
    schema["$defs"] |= build_definitions()
    yield path, json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def build_definitions() -> dict[str, Any]:
    """Build the parts of the schema of the values that the code determines."""
    api, operator = (_build_settings(role) for role in (ApiSettings, OperatorSettings))
    return {
        "sharedSettings": _closed({name: node for name, node in api.items() if name in operator}),
        "apiSettings": _closed({name: node for name, node in api.items() if name not in operator}),
        "operatorSettings": _closed({name: node for name, node in operator.items() if name not in api}),
        "hostedModelSpec": _strict(build_schema(HostedModel)["properties"]["spec"]),
    }


def _build_settings(role: type[Settings]) -> dict[str, Any]:
    schema = role.model_json_schema(by_alias=False)
    definitions = schema.get("$defs", {})
    fields = {name: node for name, node in schema["properties"].items() if name not in OWN}
    return {to_camel(name): _fold(node, definitions) for name, node in fields.items()}


def _fold(node: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what says something to whoever writes values: references and the null of an absent setting do not."""
    if "$ref" in node:
        node = definitions[node["$ref"].removeprefix("#/$defs/")] | node
    for option in node.get("anyOf", ()):
        node = node if option["type"] == "null" else option | node
    kept = {key: node[key] for key in (*_ABOUT, *_BOUNDS) if node.get(key) is not None}
    return kept | ({"items": {"type": "string"}} if kept["type"] == "array" else {})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _strict(node: Any) -> Any:
    """Refuse what the API server would silently drop."""
    if isinstance(node, list):
        return [_strict(child) for child in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _strict(child) for key, child in node.items() if not key.startswith("x-kubernetes-")}
    return plain | ({"additionalProperties": False} if isinstance(plain.get("properties"), dict) else {})
