"""The values: every setting of the roles can be said and nothing else, and what is wrong is refused by its name."""

import json
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from nightshift_api.settings import Settings as ApiSettings
from nightshift_crds.errors import Rejected
from nightshift_crds.settings import Settings
from nightshift_operator.settings import Settings as OperatorSettings
from tests.charts.helm import BUCKET, CHART, SECRET, environment_of, render, run_helm

ROLES: dict[str, type[Settings]] = {"api": ApiSettings, "operator": OperatorSettings}
MEANT_FOR_LOCAL = {"host", "listen_fd", "metrics_host", "ready_leases"}
OWN = {
    "api": {"cluster", "bucket", "installation", "port", "api_keys_file", "marks_lease"},
    "operator": {
        "cluster", "bucket", "installation", "lease", "holder", "image", "service_account", "image_pull_secrets",
        "priority_class", "probe_port",
    },
}  # fmt: skip
"""Settings that the chart makes of other values."""
WHERE_ASKED_FOR = {"tls_cert_file", "tls_key_file", "tracing_headers_secret", "webhook_ca_file", "webhooks_file"}
METRICS = {"metrics_port", "processor_metrics_port"}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())["$defs"]
SHARED: dict[str, Any] = SCHEMA["sharedSettings"]["properties"]


def properties_of(role: str) -> dict[str, Any]:
    properties: dict[str, Any] = SCHEMA[f"{role}Settings"]["properties"]
    return properties


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_a_role_is_a_value_or_made_by_the_chart(role: str) -> None:
    sayable = set(SHARED) | set(properties_of(role))
    made = {to_camel(field) for field in OWN[role] | WHERE_ASKED_FOR | METRICS | MEANT_FOR_LOCAL}
    assert {to_camel(field) for field in ROLES[role].model_fields} == sayable | (
        made & set(map(to_camel, ROLES[role].model_fields))
    )
    assert not sayable & made


def test_a_setting_that_both_roles_have_is_said_once_and_means_the_same_to_both() -> None:
    both = {field for field in ApiSettings.model_fields if field in OperatorSettings.model_fields}
    assert set(SHARED) == {to_camel(field) for field in both - OWN["api"] - METRICS - MEANT_FOR_LOCAL}
    for field in both:
        ours, theirs = ApiSettings.model_fields[field], OperatorSettings.model_fields[field]
        assert (ours.annotation, ours.default) == (theirs.annotation, theirs.default)
    assert not set(properties_of("api")) & set(properties_of("operator"))


def a_value(schema: dict[str, Any]) -> Any:
    """Make a value that the schema allows and that is not the default."""
    match schema:
        case {"enum": [*_, last]}:
            return last
        case {"type": "array", "default": [first, *_]}:
            return [first]
        case {"type": "array", "description": about} if "Networks" in about:
            return ["10.96.0.0/12", "fd00::/8"]
        case {"type": "array"}:
            return ["A=b", "C=d"]
        case {"type": "boolean", "default": default}:
            return not default
        case {"type": "integer", "maximum": maximum}:
            return maximum
        case {"type": "integer"}:
            return 104_857_601  # large enough for Helm to write it with an exponent
        case {"type": "number", "default": default}:
            return default / 8
    return "something"


@pytest.mark.cluster
@pytest.mark.parametrize("role", ROLES)
def test_every_setting_arrives_as_it_was_said(role: str) -> None:
    shared, own = ({n: a_value(s) for n, s in p.items()} for p in (SHARED, properties_of(role)))
    values = BUCKET | {"settings": shared, role: {"settings": own}}
    loaded = ROLES[role].load(environment_of(render(values), role))
    arrived = json.loads(loaded.model_dump_json(by_alias=False))
    assert {name: arrived[field] for field in arrived if (name := to_camel(field)) in shared | own} == shared | own


@pytest.mark.cluster
@pytest.mark.parametrize("role", ROLES)
def test_with_a_bucket_a_role_has_all_that_it_needs(role: str) -> None:
    environment = environment_of(render(BUCKET), role)
    assert ROLES[role].load(environment)
    told = {f"NIGHTSHIFT_{field.upper()}" for field in OWN[role]}
    assert told <= set(environment)


@pytest.mark.cluster
@pytest.mark.parametrize("role", ROLES)
def test_without_a_bucket_a_role_says_that_it_lacks_one(role: str) -> None:
    with pytest.raises(Rejected, match="NIGHTSHIFT_BUCKET: Field required"):
        ROLES[role].load(environment_of(render({}), role))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"buckets": "gs://some-bucket"}, "buckets"),
    "a misspelt value inside": ({"api": {"replica": 3}}, "replica"),
    "a misspelt setting": ({"operator": {"settings": {"worker": 3}}}, "worker"),
    "a shared setting for one role": ({"api": {"settings": {"maxLines": 3}}}, "maxLines"),
    "a setting out of range": ({"settings": {"maxLines": 0}}, "maxLines"),
    "a setting of the wrong type": ({"settings": {"maxLines": "many"}}, "maxLines"),
    "a setting that the chart makes": ({"operator": {"settings": {"lease": "a/b"}}}, "lease"),
    "a setting as a variable": ({"extraEnv": [{"name": "NIGHTSHIFT_LEASE", "value": "a/b"}]}, "extraEnv"),
    "a bucket that is none": ({"bucket": "some-bucket"}, "bucket"),
    "a key instead of its hash": ({"apiKeys": [{"sha256": "sk-mine"}]}, "sha256"),
    "a key of a namespace that is not served": (
        {"apiKeys": [{"sha256": "0" * 64, "namespace": "team-b"}], "namespaces": ["team-a"]},
        'the namespace "team-b", which `namespaces` does not name',
    ),
    "a model of a namespace that is not served": (
        {"models": [{"name": "m", "namespaces": ["team-b"], "spec": {"name": "m", "service": {"url": "http://m"}}}]},
        'the namespace "team-b", which `namespaces` does not name',
    ),
    "a misspelt field of a model": (
        {"models": [{"name": "m", "spec": {"name": "m", "service": {"uri": "http://m"}}}]},
        "uri",
    ),
    "a webhook of a namespace that is not served": (
        {"webhooks": [{"name": "w", "url": "https://w/", "secrets": [SECRET], "namespaces": ["team-b"]}]},
        'the namespace "team-b", which `namespaces` does not name',
    ),
    "a webhook without TLS": ({"webhooks": [{"name": "w", "url": "http://w/", "secrets": [SECRET]}]}, "/url"),
    "a webhook without a secret": ({"webhooks": [{"name": "w", "url": "https://w/", "secrets": []}]}, "/secrets"),
    "a webhook that signs with anything": (
        {"webhooks": [{"name": "w", "url": "https://w/", "secrets": ["mine"]}]},
        "/secrets/0",
    ),
    "a collector that is none": ({"tracing": {"endpoint": "otel-collector:4317"}}, "/tracing/endpoint"),
    "a sampler that is none": ({"tracing": {"sampler": "sometimes"}}, "/tracing/sampler"),
    "a namespace that is none": ({"namespaces": ["Team A"]}, "Team A"),
}


@pytest.mark.cluster
@pytest.mark.parametrize(("values", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    done = run_helm("template", "nightshift", str(CHART), values=values)
    assert done.returncode == 1
    assert named in done.stderr
