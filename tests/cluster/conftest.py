"""On the cluster, besides the installation that most tests share: one with a short window, and counted GPUs."""

import json
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cluster.release import GPU, Release, installed
from tests.kubernetes import Kubernetes, fresh_namespace

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api


@pytest.fixture(scope="session")
def hasty(kubernetes: Kubernetes, kubernetes_api: "CoreV1Api", images: None) -> Iterator[Release]:
    """An installation whose batches expire after 40 seconds, and fail the first time that their Job does."""
    with (
        fresh_namespace(kubernetes_api) as namespace,
        installed(kubernetes, namespace, completionWindowS=40, maxAttempts=1, maxModelRestarts=1) as made,
    ):
        yield made


@pytest.fixture
def gpus(kubernetes: Kubernetes) -> Iterator[int]:
    """A node that offers 4 counted GPUs, labelled and tainted as on GKE."""
    node = json.loads(kubernetes.kubectl("get", "nodes", "--output=json"))["items"][0]["metadata"]["name"]
    offer_gpus(kubernetes, node, "4")
    yield 4
    offer_gpus(kubernetes, node, None)


def offer_gpus(kubernetes: Kubernetes, node: str, count: str | None) -> None:
    """Let a node offer GPUs, or none."""
    amount = {"capacity": {GPU: count}, "allocatable": {GPU: count}}
    patch = f"--patch={json.dumps({'status': amount})}"
    label = "cloud.google.com/gke-accelerator"
    kubernetes.kubectl("patch", "node", node, "--subresource=status", "--type=merge", patch)
    kubernetes.kubectl("label", "node", node, "--overwrite", f"{label}=nvidia-l4" if count else f"{label}-")
    taint = f"{GPU}=present:NoSchedule" if count else f"{GPU}-"
    try:
        kubernetes.kubectl("taint", "node", node, "--overwrite", taint)
    except subprocess.CalledProcessError:  # it was not tainted
        assert not count
