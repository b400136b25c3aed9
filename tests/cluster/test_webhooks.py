"""Webhooks on a real Kubernetes: by the chart, to a Service of the cluster, with the policies in force."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from standardwebhooks import Webhook

from tests.cluster.release import IMAGE, Release, build_workload, installed
from tests.e2e.installation import wait_until
from tests.kubernetes import Kubernetes, fresh_namespace
from tests.layout.sources import ROOT
from tests.processor.certificates import Authority
from tests.receiver import SECRET

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

RECEIVER = "receiver"


@pytest.fixture
def telling(kubernetes: Kubernetes, kubernetes_api: "CoreV1Api", images: None, tmp_path: Path) -> Iterator[Release]:
    """An installation with two endpoints: a receiver in the cluster, and the metadata service of the cloud."""
    with fresh_namespace(kubernetes_api) as namespace, installed(kubernetes, namespace) as release:
        release.apply(*receiver_of(release, tmp_path))
        release.kubectl("rollout", "status", f"deployment/{RECEIVER}", "--timeout=2m")
        address = json.loads(release.kubectl("get", "service", RECEIVER, "--output=json"))["spec"]["clusterIP"]
        install_telling(release, f"{address}/32")
        yield release


def receiver_of(release: Release, folder: Path) -> list[dict[str, Any]]:
    """The receiver, and the ConfigMap with its authority."""
    name, authority = f"{RECEIVER}.{release.namespace}.svc", Authority(folder)
    authority.server_context(name, [])
    data = {
        "receiver.py": (ROOT / "tests" / "cluster" / "webhook_receiver.py").read_text(),
        "server.pem": (folder / f"{name}.pem").read_text(),
        "ca.crt": authority.ca_file.read_text(),
    }
    metadata = {"name": RECEIVER}
    command = ["python3", f"/{RECEIVER}/receiver.py", f"/{RECEIVER}/server.pem"]
    volume = {"name": RECEIVER, "configMap": metadata}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        *build_workload(RECEIVER, f"{IMAGE}:test", command, 8443, [volume]),
    ]


def install_telling(release: Release, network: str) -> None:
    settings = {"webhookAllowedCidrs": [network], "webhookGiveUpS": 20, "scratchRetentionS": 0}
    url = f"https://{RECEIVER}.{release.namespace}.svc:8443/hook?token=hidden"
    endpoints = [
        {"name": "billing", "url": url, "secrets": [SECRET]},
        {"name": "metadata", "url": "https://169.254.169.254/", "secrets": [SECRET]},
    ]
    values = release.values(**settings) | {"webhooks": endpoints, "webhookCaConfigMap": RECEIVER}
    path = ROOT / "build" / f"{release.namespace}-telling.yaml"
    path.write_text(yaml.safe_dump(values))
    chart = ROOT / "charts" / "nightshift"
    release.helm("upgrade", "nightshift", chart, "--values", path, "--wait", "--timeout=3m")


def test_a_receiver_in_the_cluster_is_told_once_by_an_operator_that_is_killed(telling: Release) -> None:
    batch = telling.submit(b"not a line\n")
    wait_until(lambda: deliveries(telling, batch.id).get("billing", {}).get("attempts"), "the receiver to say no")
    selector = "--selector=app.kubernetes.io/component=operator"
    telling.kubectl("delete", "pod", selector, "--force", "--grace-period=0")
    wait_until(lambda: telling.batch_job(batch.id)["status"].get("settled"), "the batch to settle", 180)

    log = telling.kubectl("logs", f"deployment/{RECEIVER}").splitlines()
    heard = [json.loads(line) for line in log if line.startswith("{")]  # the server writes of probes there too
    events = [Webhook(SECRET).verify(each["body"], each["headers"]) for each in heard]
    assert {(event["type"], event["data"]["id"]) for event in events} == {("batch.failed", batch.id)}
    assert len({each["headers"]["webhook-id"] for each in heard}) == 1
    assert [each["status"] for each in heard][:2] == [500, 200]

    found = deliveries(telling, batch.id)
    assert (found["billing"]["state"], found["metadata"]["state"]) == ("Delivered", "GivenUp")
    assert "169.254.169.254 is neither public" in found["metadata"]["lastAnswer"]
    described = telling.kubectl("describe", "batchjob", batch.id.replace("_", "-", 1))
    assert "WebhookGivenUp" in described
    said = described + telling.kubectl("logs", "deployment/nightshift-operator")
    assert "hidden" not in said
    assert SECRET not in said


def deliveries(release: Release, batch_id: str) -> dict[str, Any]:
    found = release.batch_job(batch_id).get("status", {}).get("webhooks", [])
    return {delivery["name"]: delivery for delivery in found}
