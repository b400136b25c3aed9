"""The chart by the real Helm: upgrade in the middle of a batch, and uninstall."""

import base64
from typing import TYPE_CHECKING

from nightshift_crds.keys import parse_keys
from tests.cluster.release import SERVICE_MODEL, Release, installed
from tests.e2e.installation import audit, chat_lines
from tests.kubernetes import Kubernetes, fresh_namespace

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api


def test_an_upgrade_in_the_middle_of_a_batch_loses_nothing(release: Release) -> None:
    lines, ids = chat_lines([f"upgraded {n}" for n in range(600)], SERVICE_MODEL)
    batch = release.submit(lines)
    release.wait(batch.id, lambda b: b.request_counts.completed >= 30)
    release.install(workers=8)
    audit(release, release.wait(batch.id), ids)


def test_an_uninstall_leaves_batches_and_crds(
    kubernetes: Kubernetes, kubernetes_api: "CoreV1Api", images: None
) -> None:
    with fresh_namespace(kubernetes_api) as namespace, installed(kubernetes, namespace) as release:
        ended = release.wait(release.submit(chat_lines(["kept"], SERVICE_MODEL)[0]).id)
        release.helm("uninstall", "nightshift", "--wait", "--timeout=2m")
        assert release.batch_job(ended.id)["status"]["phase"] == "COMPLETED"
        kubernetes.kubectl("get", "crd", "batchjobs.nightshift.dev")
        left = release.kubectl("get", "deployments,roles,rolebindings", "--output=name")
        assert "nightshift" not in left
        release.install()
        assert release.client().batches.retrieve(ended.id).status == "completed"


def test_an_upgrade_ends_no_session_of_the_console(release: Release) -> None:
    def secret() -> str:
        (held,) = (s for s in release.get("secrets") if s["metadata"]["name"] == "nightshift-api-keys")
        return parse_keys(base64.b64decode(held["data"]["keys.json"])).session_secret or ""

    before = secret()
    assert len(before) >= 32
    release.install(workers=8)
    assert secret() == before
