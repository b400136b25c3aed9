"""A real API server takes all of it, in a namespace that admits only what Pod Security calls restricted."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from nightshift_crds.models import BatchJob, HostedModel
from tests.charts.helm import BUCKET, MATRIX, Manifest, of_kind, render, write
from tests.layout.sources import ROOT

if TYPE_CHECKING:
    from tests.kubernetes import Kubernetes

pytestmark = pytest.mark.cluster
EXAMPLES = ROOT / "examples" / "manifests"


@pytest.fixture
def restricted(kubernetes: "Kubernetes", namespace: str) -> str:
    """A namespace that admits restricted pods only, with the accounts that the chart's pods run as."""
    kubernetes.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    for role in ("api", "operator"):
        kubernetes.kubectl("create", "serviceaccount", f"nightshift-{role}", "-n", namespace)
    return namespace


def dry_run(kubernetes: "Kubernetes", manifests: Path) -> str:
    return kubernetes.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", manifests)


def pods_of(manifests: list[Manifest], namespace: str) -> list[Manifest]:
    """The pods that the Deployments would make: it is them that admission looks at."""
    return [
        {"apiVersion": "v1", "kind": "Pod", "spec": m["spec"]["template"]["spec"]}
        | {"metadata": {"name": m["metadata"]["name"], "namespace": namespace}}
        for m in of_kind(manifests, "Deployment")
    ]


@pytest.mark.parametrize("case", ["a bucket", "TLS", "OpenShift"])
def test_its_pods_are_restricted(case: str, kubernetes: "Kubernetes", restricted: str, tmp_path: Path) -> None:
    pods = pods_of(render(MATRIX[case], namespace=restricted), restricted)
    said = dry_run(kubernetes, write(pods, tmp_path / "pods.yaml"))
    assert said.count("created (server dry run)") == 2


def test_a_pod_that_is_not_restricted_is_refused_there(
    kubernetes: "Kubernetes", restricted: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pod, _) = pods_of(render(BUCKET, namespace=restricted), restricted)
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {}
    with pytest.raises(subprocess.CalledProcessError):
        dry_run(kubernetes, write([pod], tmp_path / "pod.yaml"))
    assert "unrestricted capabilities" in capfd.readouterr().err


@pytest.mark.parametrize("case", ["a bucket", "narrower network policies", "TLS", "spot GPUs on GKE"])
def test_the_api_server_takes_every_object(
    case: str, kubernetes: "Kubernetes", restricted: str, tmp_path: Path
) -> None:
    manifests = [
        m for m in render(MATRIX[case], namespace=restricted) if m["kind"] != "CustomResourceDefinition"
    ]  # those are there, and their spec is compared with the code's
    said = dry_run(kubernetes, write(manifests, tmp_path / "all.yaml"))
    assert said.count("(server dry run)") == len(manifests)


def test_the_api_server_takes_every_example(kubernetes: "Kubernetes", namespace: str) -> None:
    said = kubernetes.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", EXAMPLES)
    assert said.count("created (server dry run)") == len(list(EXAMPLES.glob("*.yaml")))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_what_its_name_says(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    kind, _, form = path.stem.partition("-")
    assert manifest["kind"].lower() == kind
    match kind, form:
        case "batchjob", "uri":
            assert BatchJob.parse(manifest).spec.input.uri
        case "batchjob", "file":
            assert BatchJob.parse(manifest).spec.input.file_id
        case "batchjob", "rerun":
            assert BatchJob.parse(manifest).spec.input.rerun_of
        case "hostedmodel", "service":
            assert HostedModel.parse(manifest).spec.service
        case _:
            assert HostedModel.parse(manifest).spec.server
