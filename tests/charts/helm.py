"""The chart as the real Helm renders it, and what to look for in that."""

import json
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes import tools
from tests.layout.sources import ROOT

CHART = ROOT / "charts" / "nightshift"
RELEASE = NAMESPACE = "nightshift"
BUCKET = {"bucket": "gs://some-bucket"}
SECRET = f"whsec_{'A' * 43}="
DIGEST = f"sha256:{'0' * 64}"

Manifest = dict[str, Any]

MATRIX: dict[str, dict[str, Any]] = {
    "no value at all": {},
    "a bucket": BUCKET,
    "several namespaces": BUCKET | {"namespaces": ["team-a", "team-b"]},
    "keys": BUCKET | {"namespaces": ["team-a"], "apiKeys": [{"sha256": "0" * 64, "namespace": "team-a"}]},
    "a Secret of one's own": BUCKET | {"apiKeysSecret": "keys-of-mine"},
    "webhooks": BUCKET
    | {
        "namespaces": ["team-a"],
        "webhooks": [
            {
                "name": "billing",
                "url": "https://billing.example/hooks?token=t",
                "secrets": [SECRET],
                "namespaces": ["team-a"],
            },
            {"name": "audit", "url": "https://audit.example:8443/", "secrets": [SECRET, SECRET]},
        ],
        "webhookCaConfigMap": "kube-root-ca.crt",
        "operator": {"settings": {"webhookAllowedCidrs": ["10.96.0.0/12"]}},
    },
    "webhooks in a Secret of one's own": BUCKET | {"webhooksSecret": "webhooks-of-mine"},
    "TLS": BUCKET | {"tls": {"secretName": "certificate"}, "service": {"type": "LoadBalancer", "port": 8443}},
    "a service monitor": BUCKET | {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "a service monitor and TLS": {"serviceMonitor": {"enabled": True}, "tls": {"secretName": "certificate"}},
    "metrics for whoever scrapes by itself": BUCKET | {"metrics": {"enabled": True}},
    "all that watches": BUCKET
    | {
        "namespaces": ["team-a", "team-b"],
        "serviceMonitor": {"enabled": True, "interval": "10s"},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Batches"}},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]},
    },
    "traces": BUCKET
    | {
        "namespaces": ["team-a", "team-b"],
        "tracing": {
            "endpoint": "https://otlp.example:4318/base",
            "sampler": "parentbased_traceidratio",
            "samplerArg": "0.1",
            "headersSecret": {"name": "collector"},
        },
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_TIMEOUT", "value": "5"}],
    },
    "no network policy": {"networkPolicy": {"enabled": False}},
    "narrower network policies": {
        "networkPolicy": {
            "apiFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 4443}]}],
        }
    },
    "spot GPUs on GKE": BUCKET
    | {
        "serviceAccounts": {
            role: {"annotations": {"iam.gke.io/gcp-service-account": f"{role}@project.iam.gserviceaccount.com"}}
            for role in ("api", "operator", "processor")
        },
        "models": [
            {
                "name": "llama",
                "spec": {
                    "name": "llama3.1:8b",
                    "server": {"image": "vllm/vllm-openai:v0.11.0", "resources": {"nvidia.com/gpu": 1}},
                    "scheduling": {"gpuType": "nvidia-l4", "spot": True},
                    "overridable": ["spot"],
                },
            }
        ],
    },
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "a private registry": {
        "image": {"repository": "registry.example/nightshift", "digest": DIGEST, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    },
    "pods placed by hand": {
        role: {
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
            "priorityClassName": "system-cluster-critical",
            "podAnnotations": {"example.com/restarted": "once"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "resources": {"limits": {"memory": "2Gi"}},
        }
        for role in ("api", "operator")
    },
    "CRDs and priorities of somebody else": {
        "crds": {"install": False},
        "priorityClass": {"create": False, "name": "batches"},
    },
    "no priorities": {"priorityClass": {"create": False}},
    "a single API pod": {"api": {"replicas": 1}},
    "other names": {"nameOverride": "batches", "fullnameOverride": "night", "installation": "prod"},
}


def run_helm(verb: str, *arguments: str, values: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """Run a verb on the chart; gives whatever came of it."""
    command: list[str | Path] = [_helm(), verb, *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


@cache
def _helm() -> Path:
    return tools() / "helm"


def render(values: dict[str, Any], *, release: str = RELEASE, namespace: str = NAMESPACE) -> list[Manifest]:
    """Render the chart."""
    text = _render(json.dumps(values), release, namespace)
    return list(yaml.load_all(text, yaml.CSafeLoader))  # afresh, since a test may change it; in C, for the CRDs


@cache
def _render(values: str, release: str, namespace: str) -> str:
    done = run_helm("template", release, str(CHART), "--namespace", namespace, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def find(manifests: Iterable[Manifest], kind: str, name: str, namespace: str = NAMESPACE) -> Manifest:
    """Find the one object of a kind and name; one that stands in no namespace in any."""
    (found,) = [
        m
        for m in manifests
        if m["kind"] == kind
        and m["metadata"]["name"] == name
        and m["metadata"].get("namespace", namespace) == namespace
    ]
    return found


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind]


def pod_of(manifests: Iterable[Manifest], role: str) -> Manifest:
    """The pod template of a role's Deployment."""
    (found,) = [m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"] == f"nightshift-{role}"]
    template: Manifest = found["spec"]["template"]
    return template


def container_of(manifests: Iterable[Manifest], role: str) -> Manifest:
    (container,) = pod_of(manifests, role)["spec"]["containers"]
    return dict(container)


def environment_of(manifests: Iterable[Manifest], role: str) -> dict[str, str]:
    """The variables of a role, as its process finds them; what Kubernetes fills in is a word that says so."""
    variables = container_of(manifests, role)["env"]
    names = [variable["name"] for variable in variables]
    assert len(names) == len(set(names)), "a variable is set twice"
    return {variable["name"]: variable.get("value", "by-kubernetes") for variable in variables}


def write(manifests: Iterable[Manifest], path: Path) -> Path:
    path.write_text(yaml.safe_dump_all(manifests))
    return path
