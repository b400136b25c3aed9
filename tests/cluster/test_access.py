"""Who may do what, asked of the API server itself (design 8), and what it refuses whoever asks."""

import json
import subprocess
from typing import Any

import pytest

from tests.cluster.release import SERVICE_MODEL, Release
from tests.e2e.installation import chat_lines

ALLOWED = {
    "api": {
        "get batchjobs", "list batchjobs", "watch batchjobs", "create batchjobs", "patch batchjobs",
        "get storedfiles", "list storedfiles", "create storedfiles", "delete storedfiles", "patch storedfiles/status",
        "watch storedfiles", "list hostedmodels",
    },
    "operator": {
        "get batchjobs", "list batchjobs", "watch batchjobs", "delete batchjobs", "patch batchjobs/status",
        "get storedfiles", "list storedfiles", "create storedfiles", "delete storedfiles", "patch storedfiles/status",
        "list hostedmodels", "get jobs", "list jobs", "watch jobs", "create jobs", "delete jobs",
        "list pods", "delete pods", "create events",
    },
    "processor": set(),
}  # fmt: skip
FORBIDDEN = {
    "api": {
        "patch batchjobs/status", "create jobs", "get secrets", "list secrets", "create pods", "patch hostedmodels",
    },
    "operator": {
        "patch batchjobs", "update batchjobs", "create batchjobs", "get secrets", "list secrets", "create pods",
        "patch jobs", "patch storedfiles", "patch hostedmodels",
    },
    "processor": {
        "get batchjobs", "patch batchjobs/status", "get storedfiles", "get pods", "get secrets", "create jobs",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "call", "answer"),
    [
        (role, call, answer)
        for answer, table in (("yes", ALLOWED), ("no", FORBIDDEN))
        for role, calls in table.items()
        for call in sorted(calls)
    ],
)
def test_rbac_gives_each_role_what_it_needs_and_no_more(release: Release, role: str, call: str, answer: str) -> None:
    verb, _, resource = call.partition(" ")
    resource, _, subresource = resource.partition("/")
    account = f"--as=system:serviceaccount:{release.namespace}:nightshift-{role}"
    command = [*release.tool("kubectl"), "auth", "can-i", verb, _in_full(resource), account]
    ran = subprocess.run(
        [*command, *([f"--subresource={subresource}"] if subresource else [])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == answer


def _in_full(resource: str) -> str:
    return f"{resource}.nightshift.dev" if resource in {"batchjobs", "storedfiles", "hostedmodels"} else resource


def test_a_processor_has_no_token_and_runs_restricted(release: Release) -> None:
    lines, _ = chat_lines(["slow:20 look at me"], SERVICE_MODEL)
    batch = release.submit(lines)
    name = release.running_pod(batch.id)
    pod = json.loads(release.kubectl("get", "pod", name, "--output=json"))
    assert "serviceaccount" not in json.dumps(pod["spec"]["containers"][0]["volumeMounts"])
    assert not any("projected" in volume for volume in pod["spec"]["volumes"])
    look = ["exec", name, "--container=processor", "--", "sh", "-c"]
    assert release.kubectl(*look, "ls /var/run/secrets 2>/dev/null | wc -l").strip() == "0"
    assert release.kubectl(*look, "id -u").strip() != "0"
    assert release.kubectl(*look, "touch /x 2>/dev/null || echo refused").strip() == "refused"
    release.client().batches.cancel(batch.id)


def a_manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": "by-hand"},
        "spec": {"input": {"uri": "gs://nowhere/in.jsonl"}, "endpoint": "/v1/chat/completions"} | spec,
    }


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (a_manifest(metadata={"note": "x" * 513}), "512"),
        (a_manifest(input={}), "exactly one"),
        (a_manifest(completionWindow="48h"), "24h"),
    ],
)
def test_the_api_server_refuses_a_bad_manifest_in_words(release: Release, manifest: dict[str, Any], words: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        release.apply(manifest)
    assert words in refused.value.stderr


def test_the_api_server_refuses_illegal_moves_and_changed_specs(release: Release) -> None:
    lines, _ = chat_lines(["quick"], SERVICE_MODEL)
    ended = release.wait(release.submit(lines).id)
    name = ended.id.replace("_", "-", 1)
    for words, patch in (
        ("phase can only move", ["--subresource=status", "--patch", '{"status": {"phase": "IN_PROGRESS"}}']),
        ("cannot be changed", ["--patch", '{"spec": {"endpoint": "/v1/embeddings"}}']),
        ("cannot be cancelled", ["--patch", '{"spec": {"cancelRequested": true}}']),
    ):
        command = [*release.tool("kubectl"), "patch", "batchjob", name, "--type=merge", *patch]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode != 0
        assert words in ran.stderr
