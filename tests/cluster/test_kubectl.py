"""`kubectl nightshift` on a real Kubernetes, found by kubectl on the PATH: the rights of a tenant, and no API key."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.release import SERVICE_MODEL, Release
from tests.e2e.installation import BIN, chat_lines, wait_until

CHAT = "/v1/chat/completions"


class Plugin:
    """Runs `kubectl nightshift` as somebody with the Role `nightshift-tenant`, in the context's namespace."""

    def __init__(self, release: Release, folder: Path) -> None:
        token = release.kubectl("create", "token", "tenant").strip()
        config = yaml.safe_load(release.kubernetes.kubeconfig.read_text())
        reached = {"user": "tenant", "namespace": release.namespace, "cluster": config["clusters"][0]["name"]}
        contexts = [{"name": "nightshift-tenant", "context": reached}]
        config |= {"users": [{"name": "tenant", "user": {"token": token}}], "contexts": contexts}
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config | {"current-context": "nightshift-tenant"}))
        self._kubectl = release.tool("kubectl")[0]
        self._environ = os.environ | {"KUBECONFIG": str(path), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [self._kubectl, "nightshift", *arguments]
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [self._kubectl, "nightshift", *arguments], env=self._environ, stdout=pipe, stderr=pipe, text=True
        )

    def __call__(self, *arguments: str) -> str:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def show(self, ref: str) -> Any:
        return json.loads(self("get", ref, "-o", "json"))


@pytest.fixture
def plugin(release: Release, tmp_path: Path) -> Plugin:
    if not release.get("serviceaccounts", "--field-selector=metadata.name=tenant"):
        release.kubectl("create", "serviceaccount", "tenant")
        account = f"--serviceaccount={release.namespace}:tenant"
        release.kubectl("create", "rolebinding", "tenant", "--role=nightshift-tenant", account)
    return Plugin(release, tmp_path)


def upload(release: Release, prompts: list[str]) -> str:
    lines, _ = chat_lines(prompts, SERVICE_MODEL)
    return release.client().files.create(file=("in.jsonl", lines), purpose="batch").id


def test_a_batch_from_submit_to_rerun(release: Release, plugin: Plugin) -> None:
    assert SERVICE_MODEL in plugin("models", "-o", "name").split()
    file_id = upload(release, [f"plugin {n}" for n in range(20)] + ["fail-once:400 plugin"])
    submitted = ("submit", "--file-id", file_id, "--endpoint", CHAT, "--metadata", "batch-name=nightly", "--wait")
    first, *_, told = plugin(*submitted).splitlines()
    name = first.split()[0]
    assert told == f"{name} completed: 20 completed, 1 failed of 21"
    assert plugin.show(name)["kind"] == "BatchJob"
    row = plugin("list", "--status", "completed").splitlines()[1].split()
    assert row[:6] == [name, "nightly", "completed", "20", "1", "21"]
    assert "Complete=True" in plugin("get", f"batchjob.nightshift.dev/{name}")
    assert plugin.run("cancel", name).returncode == 6
    again = plugin("rerun", name, "-o", "name").strip()
    assert plugin("watch", again, name.replace("-", "_", 1)).count(" completed: ") == 2
    assert release.client().batches.retrieve(again.replace("-", "_", 1)).request_counts.completed == 21  # type: ignore[union-attr]


def test_a_batch_is_held_watched_and_cancelled(release: Release, plugin: Plugin) -> None:
    file_id = upload(release, ["slow:300 plugin"])
    name = plugin("submit", "--file-id", file_id, "--endpoint", CHAT).split()[0]
    release.running_pod(name.replace("-", "_", 1))
    assert "in_progress,suspended" in plugin("suspend", name)
    wait_until(lambda: not release.pods(name.replace("-", "_", 1)), "the processor to go", 60)
    assert "suspended" not in plugin("resume", name)
    with plugin.begin("watch", name) as watching:
        assert watching.stderr
        assert "in_progress, 0/1" in watching.stderr.readline()
        assert "cancelling" in plugin("cancel", name)
        watching.communicate(timeout=120)
    assert watching.returncode == 12


def test_what_a_manifest_cannot_do_and_a_tenant_may_not_is_told(
    release: Release, plugin: Plugin, tmp_path: Path
) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_bytes(chat_lines(["x"], SERVICE_MODEL)[0])
    refused = plugin.run("submit", str(lines))
    assert (refused.returncode, "kubectl port-forward svc/nightshift" in refused.stderr) == (2, True)
    refused = plugin.run("download", upload(release, ["x"]))
    assert (refused.returncode, "openai/files/file_" in refused.stderr) == (2, True)
    assert plugin.run("get", "no-such-batch").returncode == 3
    refused = plugin.run("list", "-n", "kube-system")
    assert (refused.returncode, "nightshift-tenant" in refused.stderr) == (4, True)
    refused = plugin.run("list", "--context", "no-such-context")
    assert (refused.returncode, "no-such-context" in refused.stderr) == (2, True)
    wrong = plugin.run("submit", "--uri", "gs://b/x", "--endpoint", "chat")
    assert (wrong.returncode, "endpoint" in wrong.stderr) == (2, True)


def test_kubectl_completes_the_words_of_the_plugin(plugin: Plugin) -> None:
    command = [plugin._kubectl, "__complete", "nightshift", "wa"]
    ran = subprocess.run(command, env=plugin._environ, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["watch", ":4"]
