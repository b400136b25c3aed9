"""What the chart installs: the guide's Service, keys, CRDs, policies, each as whoever reads it needs it."""

from typing import Any

import pytest
import yaml

from nightshift_crds.keys import hash_key, parse_keys
from nightshift_operator.jobs import MANAGED_BY, METRICS_PORT
from nightshift_operator.settings import Settings as OperatorSettings
from nightshift_operator.webhooks import parse_endpoints
from tests.charts.helm import (
    BUCKET,
    CHART,
    DIGEST,
    MATRIX,
    Manifest,
    container_of,
    environment_of,
    find,
    of_kind,
    pod_of,
    render,
)
from tests.layout.sources import ROOT

pytestmark = pytest.mark.cluster


def test_the_guide_finds_its_service_with_plain_http_behind_443() -> None:
    manifests = render(BUCKET)
    service, pod = find(manifests, "Service", "nightshift"), pod_of(manifests, "api")
    (port,) = service["spec"]["ports"]
    (container_port,) = container_of(manifests, "api")["ports"]
    assert (port["port"], port["targetPort"]) == (443, container_port["name"])
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    environment = environment_of(manifests, "api")
    assert environment["NIGHTSHIFT_PORT"] == str(container_port["containerPort"]) == "8080"
    assert "NIGHTSHIFT_TLS_CERT_FILE" not in environment


def test_with_tls_the_port_and_its_probes_are_https() -> None:
    container = container_of(render(MATRIX["TLS"]), "api")
    environment = environment_of(render(MATRIX["TLS"]), "api")
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert environment["NIGHTSHIFT_TLS_CERT_FILE"] == f"{mounted['tls']}/tls.crt"
    assert environment["NIGHTSHIFT_TLS_KEY_FILE"] == f"{mounted['tls']}/tls.key"
    assert {container[probe]["httpGet"]["scheme"] for probe in ("readinessProbe", "livenessProbe")} == {"HTTPS"}


@pytest.mark.parametrize(("role", "probe", "path", "port"), [
    ("api", "readinessProbe", "/healthz", 8080),
    ("api", "livenessProbe", "/openapi.json", 8080),
    ("operator", "startupProbe", "/healthz", 8081),
    ("operator", "livenessProbe", "/healthz", 8081),
])  # fmt: skip
def test_a_role_is_probed_where_it_answers(role: str, probe: str, path: str, port: int) -> None:
    manifests = render(BUCKET)
    container = container_of(manifests, role)
    (named,) = container["ports"]  # and none for metrics
    asked = container[probe]["httpGet"]
    assert (asked["path"], asked["port"], named["containerPort"]) == (path, named["name"], port)
    told = environment_of(manifests, role)["NIGHTSHIFT_PORT" if role == "api" else "NIGHTSHIFT_PROBE_PORT"]
    assert told == str(port)


def test_keys_reach_the_api_as_it_reads_them() -> None:
    keys = [{"sha256": hash_key("sk-one"), "namespace": "team-a"}, {"sha256": hash_key("sk-two")}]
    manifests = render(BUCKET | {"namespaces": ["team-a", "nightshift"], "apiKeys": keys})
    secret = find(manifests, "Secret", "nightshift-api-keys")
    file = environment_of(manifests, "api")["NIGHTSHIFT_API_KEYS_FILE"]
    (mount,) = container_of(manifests, "api")["volumeMounts"]
    (volume,) = pod_of(manifests, "api")["spec"]["volumes"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    folder, _, name = file.rpartition("/")
    assert (mount["name"], mount["mountPath"]) == (volume["name"], folder)
    assert "subPath" not in mount, "the kubelet never updates a subPath"
    assert parse_keys(secret["stringData"][name].encode()).namespaces == {
        hash_key("sk-one"): "team-a",
        hash_key("sk-two"): "nightshift",
    }


def test_sessions_of_the_console_are_signed_with_a_secret_that_the_chart_makes() -> None:
    keys = [find(render(BUCKET, namespace=n), "Secret", "nightshift-api-keys", n) for n in ("one", "two")]
    secrets = {parse_keys(secret["stringData"]["keys.json"].encode()).session_secret for secret in keys}
    assert len(secrets) == 2, "without a cluster to look at, each time another"
    assert all(secret and len(secret) >= 32 for secret in secrets)


def test_without_a_key_nobody_gets_in() -> None:
    secret = find(render({}), "Secret", "nightshift-api-keys")
    assert parse_keys(secret["stringData"]["keys.json"].encode()).namespaces == {}


def test_a_secret_of_ones_own_is_mounted_instead() -> None:
    manifests = render(MATRIX["a Secret of one's own"])
    assert of_kind(manifests, "Secret") == []
    (volume,) = pod_of(manifests, "api")["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "keys-of-mine"


def test_its_crds_are_those_of_the_code_and_outlive_the_release() -> None:
    rendered = {m["spec"]["names"]["singular"]: m for m in of_kind(render({}), "CustomResourceDefinition")}
    written = {path.stem: path for path in (ROOT / "crds").glob("*.yaml")}
    assert set(rendered) == set(written)
    for name, path in written.items():
        assert (CHART / "files" / "crds" / path.name).read_text() == path.read_text()
        assert rendered[name]["spec"] == yaml.safe_load(path.read_text())["spec"]
        assert rendered[name]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(("case", "name"), [
    ("webhooks", "nightshift-webhooks"), ("webhooks in a Secret of one's own", "webhooks-of-mine"),
])  # fmt: skip
def test_endpoints_of_webhooks_reach_the_operator_alone_as_it_reads_them(case: str, name: str) -> None:
    manifests = render(MATRIX[case])
    file = environment_of(manifests, "operator")["NIGHTSHIFT_WEBHOOKS_FILE"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container_of(manifests, "operator")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod_of(manifests, "operator")["spec"]["volumes"]}
    assert file == f"{mounted['webhooks']}/webhooks.json"
    assert volumes["webhooks"]["secret"]["secretName"] == name
    made = [secret for secret in of_kind(manifests, "Secret") if secret["metadata"]["name"] == name]
    endpoints = [parse_endpoints(secret["stringData"]["webhooks.json"].encode()) for secret in made]
    assert [[e.name for e in found] for found in endpoints] == ([["billing", "audit"]] if case == "webhooks" else [])
    assert "NIGHTSHIFT_WEBHOOKS_FILE" not in environment_of(manifests, "api")


def test_authorities_of_webhooks_are_mounted_from_a_config_map() -> None:
    manifests = render(MATRIX["webhooks"])
    mounted = {mount["name"]: mount["mountPath"] for mount in container_of(manifests, "operator")["volumeMounts"]}
    assert environment_of(manifests, "operator")["NIGHTSHIFT_WEBHOOK_CA_FILE"] == f"{mounted['authorities']}/ca.crt"
    volumes = {volume["name"]: volume for volume in pod_of(manifests, "operator")["spec"]["volumes"]}
    assert volumes["authorities"]["configMap"]["name"] == "kube-root-ca.crt"


def test_without_webhooks_the_operator_has_neither_file_nor_volume() -> None:
    manifests = render(BUCKET)
    assert not [name for name in environment_of(manifests, "operator") if "WEBHOOK" in name]
    assert "volumes" not in pod_of(manifests, "operator")["spec"]
    assert "nightshift-webhooks" not in {m["metadata"]["name"] for m in of_kind(manifests, "Secret")}


def test_webhooks_open_nothing_to_the_operator_that_the_bucket_does_not() -> None:
    """HTTPS to anywhere; another port is `networkPolicy.extraEgress`."""
    assert policy_of(render(MATRIX["webhooks"]), "operator") == policy_of(render(BUCKET), "operator")
    assert {"ports": [{"port": 443, "protocol": "TCP"}]} in policy_of(render(BUCKET), "operator")["egress"]


def test_crds_can_be_left_to_another_release() -> None:
    assert of_kind(render(MATRIX["CRDs and priorities of somebody else"]), "CustomResourceDefinition") == []


def a_model(**placed: Any) -> dict[str, Any]:
    return {"models": [{"name": "m", "spec": {"name": "m:1b", "service": {"url": "http://m"}}} | placed]}


def test_a_model_goes_into_every_namespace_that_is_served_or_those_that_it_names() -> None:
    served = BUCKET | {"namespaces": ["team-a", "team-b"]}
    everywhere, once = render(served | a_model()), render(served | a_model(namespaces=["team-b"]))
    assert [m["metadata"]["namespace"] for m in of_kind(everywhere, "HostedModel")] == ["team-a", "team-b"]
    assert [m["metadata"]["namespace"] for m in of_kind(once, "HostedModel")] == ["team-b"]
    assert of_kind(once, "HostedModel")[0]["spec"] == a_model()["models"][0]["spec"]


def test_models_wait_for_an_install_that_brings_their_crd_and_are_then_the_releases_own() -> None:
    (model,) = of_kind(render(BUCKET | a_model()), "HostedModel")
    assert model["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
    assert model["metadata"]["annotations"] == {
        "helm.sh/hook": "post-install",
        "meta.helm.sh/release-name": "nightshift",
        "meta.helm.sh/release-namespace": "nightshift",
    }


def test_the_api_survives_a_drain_and_a_lost_node() -> None:
    manifests = render(BUCKET)
    labels = pod_of(manifests, "api")["metadata"]["labels"]
    (budget,) = of_kind(manifests, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (spread,) = pod_of(manifests, "api")["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert of_kind(render(MATRIX["a single API pod"]), "PodDisruptionBudget") == [], "it would forbid every drain"


def test_there_is_never_more_than_one_operator() -> None:
    spec = find(render(BUCKET), "Deployment", "nightshift-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_batches_never_push_out_what_serves() -> None:
    manifests = render(BUCKET)
    (priority,) = of_kind(manifests, "PriorityClass")
    assert (priority["preemptionPolicy"], priority["value"] < 0) == ("Never", True)
    assert environment_of(manifests, "operator")["NIGHTSHIFT_PRIORITY_CLASS"] == priority["metadata"]["name"]


@pytest.mark.parametrize(("case", "name"), [("CRDs and priorities of somebody else", "batches"), ("no priorities", "")])
def test_priorities_can_be_somebody_elses(case: str, name: str) -> None:
    manifests = render(MATRIX[case])
    assert of_kind(manifests, "PriorityClass") == []
    assert environment_of(manifests, "operator")["NIGHTSHIFT_PRIORITY_CLASS"] == name


def policy_of(manifests: list[Manifest], role: str, namespace: str = "nightshift") -> dict[str, Any]:
    spec: dict[str, Any] = find(manifests, "NetworkPolicy", f"nightshift-{role}", namespace)["spec"]
    return spec


def test_nobody_reaches_a_processor_and_it_reaches_dns_the_bucket_and_models_only() -> None:
    policy = policy_of(render(BUCKET), "processor")
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    ports = {(p["protocol"], p["port"]) for rule in policy["egress"] if "to" not in rule for p in rule["ports"]}
    assert ports == {("UDP", 53), ("TCP", 53), ("TCP", 443)}
    peers = [peer for rule in policy["egress"] for peer in rule.get("to", [])]
    assert {"namespaceSelector": {}} in peers
    assert all(rule.get("ports") or rule.get("to") for rule in policy["egress"]), "an empty rule allows everything"


def test_the_policy_of_processors_selects_the_pods_that_the_operator_makes() -> None:
    assert policy_of(render(BUCKET), "processor")["podSelector"]["matchLabels"] == MANAGED_BY


@pytest.mark.parametrize("role", ["api", "operator"])
def test_a_policy_selects_the_pods_of_its_role(role: str) -> None:
    manifests = render(BUCKET)
    selector = policy_of(manifests, role)["podSelector"]["matchLabels"]
    assert selector.items() <= pod_of(manifests, role)["metadata"]["labels"].items()
    other = "operator" if role == "api" else "api"
    assert not selector.items() <= pod_of(manifests, other)["metadata"]["labels"].items()


def test_policies_can_be_narrowed_and_switched_off() -> None:
    narrowed = render(MATRIX["narrower network policies"])
    assert policy_of(narrowed, "api")["ingress"][0]["from"] == [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]
    private = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 4443}]}
    assert all(private in policy_of(narrowed, role)["egress"] for role in ("api", "operator", "processor"))
    assert of_kind(render(MATRIX["no network policy"]), "NetworkPolicy") == []


WATCHED = MATRIX["all that watches"]
MONITORING = ("ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap")


def ports_of(manifests: list[Manifest], role: str) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container_of(manifests, role)["ports"]}


def test_nothing_is_shown_or_watched_where_nobody_asks() -> None:
    manifests = render(BUCKET)
    assert [kind for kind in MONITORING if of_kind(manifests, kind)] == []
    assert [service["metadata"]["name"] for service in of_kind(manifests, "Service")] == ["nightshift"]
    told = environment_of(manifests, "api") | environment_of(manifests, "operator")
    assert [name for name in told if "METRICS" in name] == []


@pytest.mark.parametrize("case", ["a service monitor", "metrics for whoever scrapes by itself"])
def test_metrics_have_a_port_that_the_service_of_the_api_does_not_have(case: str) -> None:
    manifests = render(MATRIX[case])
    (port,) = find(manifests, "Service", "nightshift-metrics")["spec"]["ports"]
    for role in ("api", "operator"):
        assert ports_of(manifests, role)["metrics"] == port["port"]
        assert environment_of(manifests, role)["NIGHTSHIFT_METRICS_PORT"] == str(port["port"])
        selector = find(manifests, "Service", "nightshift-metrics")["spec"]["selector"]
        assert selector.items() <= pod_of(manifests, role)["metadata"]["labels"].items()
    assert environment_of(manifests, "operator")["NIGHTSHIFT_PROCESSOR_METRICS_PORT"] == str(port["port"])
    assert len(find(manifests, "Service", "nightshift")["spec"]["ports"]) == 1


def test_api_and_operator_are_scraped_by_their_service_and_processors_by_their_pods() -> None:
    manifests = render(WATCHED)
    (monitor,), (pods,) = of_kind(manifests, "ServiceMonitor"), of_kind(manifests, "PodMonitor")
    service = find(manifests, "Service", "nightshift-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    other = find(manifests, "Service", "nightshift")["metadata"]["labels"]
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= other.items()
    assert pods["spec"]["selector"]["matchLabels"] == MANAGED_BY
    assert pods["spec"]["namespaceSelector"]["matchNames"] == ["team-a", "team-b"]
    (endpoint,) = pods["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == (METRICS_PORT, "10s")
    assert {"action": "labeldrop", "regex": "pod"} in endpoint["relabelings"], "its name has the batch in it"


def test_policies_let_the_scrape_in_and_nobody_else() -> None:
    manifests = render(WATCHED)
    peers = WATCHED["networkPolicy"]["metricsFrom"]
    rule = {"ports": [{"port": METRICS_PORT}], "from": peers}
    for role, namespace in (("api", "nightshift"), ("operator", "nightshift"), ("processor", "team-b")):
        assert rule in policy_of(manifests, role, namespace)["ingress"]
    assert policy_of(manifests, "processor", "team-a")["ingress"] == [rule]


def test_traces_are_off_unless_a_collector_is_named() -> None:
    for role in ("api", "operator"):
        assert [name for name in environment_of(render(BUCKET), role) if "OTEL" in name or "TRAC" in name] == []
    assert policy_of(render(BUCKET | {"tracing": {"endpoint": "http://otel.observability"}}), "api") == policy_of(
        render(BUCKET), "api"
    ), "pods of the cluster are open anyway"


@pytest.mark.parametrize("role", ["api", "operator"])
def test_a_role_sends_traces_where_the_values_say_with_headers_that_only_kubernetes_knows(role: str) -> None:
    manifests = render(MATRIX["traces"])
    told = {name: text for name, text in environment_of(manifests, role).items() if name.startswith("OTEL_")}
    assert told == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example:4318/base",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "OTEL_EXPORTER_OTLP_HEADERS": "by-kubernetes",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    }
    variables = {variable["name"]: variable for variable in container_of(manifests, role)["env"]}
    reference = {"name": "collector", "key": "headers", "optional": True}
    assert variables["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"] == {"secretKeyRef": reference}


def test_processors_find_the_headers_where_the_operator_says() -> None:
    settings = OperatorSettings.load(environment_of(render(MATRIX["traces"]), "operator"))
    assert settings.tracing_headers_secret == "collector/headers"


def test_policies_let_traces_out_of_all_three_roles() -> None:
    manifests = render(MATRIX["traces"])
    for role, namespace in (("api", "nightshift"), ("operator", "nightshift"), ("processor", "team-b")):
        rule = {"ports": [{"port": 4318, "protocol": "TCP"}]}
        assert rule in policy_of(manifests, role, namespace)["egress"]


def test_alerts_and_dashboard_are_those_of_the_files_and_found_by_their_labels() -> None:
    manifests = render(WATCHED)
    (rule,), (dashboard,) = of_kind(manifests, "PrometheusRule"), of_kind(manifests, "ConfigMap")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["annotations"] == {"grafana_folder": "Batches"}
    assert dashboard["data"]["nightshift.json"] == (CHART / "files" / "dashboard.json").read_text()


def test_all_three_roles_run_from_the_image_that_is_named() -> None:
    manifests = render(MATRIX["a private registry"])
    image = f"registry.example/nightshift@{DIGEST}"
    assert [container_of(manifests, role)["image"] for role in ("api", "operator")] == [image, image]
    environment = environment_of(manifests, "operator")
    assert environment["NIGHTSHIFT_IMAGE"] == image
    assert environment["NIGHTSHIFT_IMAGE_PULL_SECRETS"] == "registry,mirror"
    assert container_of(render({}), "api")["image"] == "nightshift:0.1.0"


def test_a_service_called_nightshift_sets_no_variables() -> None:
    """Kubernetes would make NIGHTSHIFT_PORT of it, a URL where the API expects a number."""
    assert [pod_of(render({}), role)["spec"]["enableServiceLinks"] for role in ("api", "operator")] == [False, False]


def test_installations_of_different_names_or_places_share_nothing_that_stands_in_no_namespace() -> None:
    renders = [render({}), render({}, namespace="other"), render({}, release="second")]
    wide = [
        {(m["kind"], m["metadata"]["name"]) for m in manifests if "namespace" not in m["metadata"]}
        - {("CustomResourceDefinition", m["metadata"]["name"]) for m in manifests}
        for manifests in renders
    ]
    assert len(set().union(*wide)) == sum(map(len, wide))
    owners = [
        environment_of(render({}, namespace=n), "api")["NIGHTSHIFT_INSTALLATION"] for n in ("nightshift", "other")
    ]
    assert owners == ["nightshift", "other-nightshift"]
