"""The port over resources. SQLite stands for Kubernetes here, with the same rules; tests/cluster has one."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from nightshift_cli import kubectl
from nightshift_cli.exits import Exit
from nightshift_cli.manifests import parse_ref, view_of_manifest
from nightshift_cli.over_kubernetes import OverKubernetes, find_namespace, open_kubernetes
from nightshift_cli.port import NewBatch, Wanted
from nightshift_cli.views import Cost
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.kube import Kubeconfig
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, Cluster, Manifest
from nightshift_crds.errors import (
    Conflict,
    Denied,
    NotFound,
    Refused,
    Rejected,
    Stale,
    Unauthenticated,
    Unavailable,
)
from tests.builders import NAMESPACE

CHAT = "/v1/chat/completions"
NEW = NewBatch(CHAT, file_id="file_01920000-0000-7000-8000-000000000000", metadata={"batch-name": "nightly"})


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as started:
        yield started


@pytest.fixture
def cluster(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Cluster]:
    opening = open_cluster(f"sqlite://{tmp_path / 'cluster.db'}")
    yield runner.run(opening.__aenter__())
    runner.run(opening.__aexit__(None, None, None))


@pytest.fixture
def service(runner: asyncio.Runner, cluster: Cluster) -> OverKubernetes:
    return OverKubernetes(runner, cluster, NAMESPACE)


def move(runner: asyncio.Runner, cluster: Cluster, name: str, phase: str, **status: Any) -> None:
    """Write a status as the operator would."""
    times = {
        "IN_PROGRESS": "inProgressAt",
        "FINALIZING": "finalizingAt",
        "COMPLETED": "completedAt",
        "FAILED": "failedAt",
        "CANCELLING": "cancellingAt",
    }
    patch = {"status": {"phase": phase, times[phase]: "2026-01-01T00:01:00Z"} | status}
    runner.run(cluster.patch_status(BATCH_JOB, NAMESPACE, name, patch))


def named(runner: asyncio.Runner, cluster: Cluster, name: str) -> Manifest:
    """Create a BatchJob as a person would, under a name of its own."""
    manifest: Manifest = {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"input": {"uri": "gs://b/in.jsonl"}, "endpoint": CHAT},
    }
    return runner.run(cluster.create(BATCH_JOB, manifest))


def test_a_batch_is_created_as_the_api_would_and_shown(service: OverKubernetes) -> None:
    made = service.create(NEW)
    assert (made.status, made.name, made.input, made.endpoint) == ("validating", "nightly", NEW.file_id, CHAT)
    assert made.ref.startswith("batch-")
    assert made.document["kind"] == "BatchJob"
    assert service.get(made.ref).document == made.document


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (NewBatch(CHAT, file_id="nope"), "file_id"),
        (NewBatch("chat", uri="gs://b/x"), "endpoint"),
        (NewBatch(CHAT, uri="gs://b/x", metadata={"k": "v" * 513}), "metadata"),
    ],
)
def test_what_cannot_be_a_batch_is_told_by_field(service: OverKubernetes, new: NewBatch, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        service.create(new)


def test_a_batch_is_found_by_every_name_that_it_has(
    service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster
) -> None:
    made = service.create(NEW)
    by_hand = named(runner, cluster, "nightly")
    uid = by_hand["metadata"]["uid"]
    for ref in (made.ref, f"batchjob/{made.ref}", made.ref.replace("-", "_", 1)):
        assert service.get(ref).ref == made.ref
    for ref in ("nightly", "batchjob.nightshift.dev/nightly", "bj/nightly", f"batch_{uid}"):
        assert service.get(ref).ref == "nightly"
    for ref in ("nope", "batch_01920000-0000-7000-8000-00000000ffff", "pod/nightly"):
        with pytest.raises(NotFound, match=f"There is no batch {ref} in the namespace {NAMESPACE}"):
            service.get(ref)


def test_a_list_is_newest_first_filtered_and_paged(
    service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster
) -> None:
    refs = [service.create(NEW).ref for _ in range(4)]
    move(runner, cluster, refs[1], "FAILED")
    found = service.list(Wanted())
    assert sorted(batch.ref for batch in found.batches) == sorted(refs)
    assert list(found.batches) == sorted(found.batches, key=lambda batch: (batch.created_at, batch.ref), reverse=True)
    assert [batch.ref for batch in service.list(Wanted(frozenset({"failed"}))).batches] == [refs[1]]
    first = service.list(Wanted(limit=3))
    assert (len(first.batches), first.has_more) == (3, True)
    rest = service.list(Wanted(limit=3, after=first.batches[-1].ref))
    assert (len(rest.batches), rest.has_more) == (1, False)
    with pytest.raises(NotFound):
        service.list(Wanted(after="nope"))
    assert service.wrap([found.batches[0].document])["kind"] == "List"


def test_a_cancel_is_a_patch_and_once_more_changes_nothing(
    service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster
) -> None:
    ref = service.create(NEW).ref
    cancelled = service.cancel(ref)
    assert cancelled.status == "cancelling"
    assert cancelled.document["spec"]["cancelRequestedAt"].endswith("Z")
    assert service.cancel(ref).document == cancelled.document
    ended = service.create(NEW).ref
    move(runner, cluster, ended, "FAILED")
    with pytest.raises(Conflict, match="A batch that is failed cannot be cancelled"):
        service.cancel(ended)


def test_a_batch_is_suspended_and_resumed_until_it_has_ended(
    service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster
) -> None:
    ref = service.create(NEW).ref
    assert service.suspend(ref).is_suspended
    assert service.suspend(ref).is_suspended
    assert not service.resume(ref).is_suspended
    service.cancel(ref)
    for act, word in ((service.suspend, "suspended"), (service.resume, "resumed")):
        with pytest.raises(Conflict, match=f"A batch that is cancelling cannot be {word}"):
            act(ref)


def test_who_writes_in_between_is_read_again(
    service: OverKubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, patch, tries = service.create(NEW).ref, cluster.patch, []

    async def late(*given: Any) -> Manifest:
        tries.append(given)
        if len(tries) == 1:
            raise Stale("somebody was faster")
        return await patch(*given)

    monkeypatch.setattr(cluster, "patch", late)
    assert service.suspend(ref).is_suspended
    assert len(tries) == 2

    async def always_late(*_: Any) -> Manifest:
        raise Stale("somebody is faster")

    monkeypatch.setattr(cluster, "patch", always_late)
    with pytest.raises(Unavailable, match="changes faster"):
        service.resume(ref)


def test_a_rerun_is_a_batch_of_an_ended_one(service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster) -> None:
    ref = service.create(NEW).ref
    with pytest.raises(Conflict, match="A batch that is validating cannot be run again"):
        service.rerun(ref, {})
    service.suspend(ref)
    move(runner, cluster, ref, "FAILED")
    again = service.rerun(ref, {})
    assert (again.rerun_of, again.name, again.endpoint, again.is_suspended) == (ref, "nightly", CHAT, False)
    assert service.rerun(ref, {"batch-name": "other"}).name == "other"
    whole = service.create(NEW).ref
    move(runner, cluster, whole, "IN_PROGRESS")
    move(runner, cluster, whole, "FINALIZING")
    counts = {"total": 2, "completed": 2, "failed": 0}
    move(runner, cluster, whole, "COMPLETED", counts=counts, outputFileId="file_x")
    with pytest.raises(Conflict, match="Every row of the batch has a result"):
        service.rerun(whole, {})


def test_models_are_the_catalogue(service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster) -> None:
    for name, where in (
        ("b", {"service": {"url": "http://b"}}),
        ("a:1", {"server": {"image": "vllm", "resources": {"limits": {"nvidia.com/gpu": "1"}}}}),
    ):
        manifest = {
            "apiVersion": "nightshift.dev/v1alpha1",
            "kind": "HostedModel",
            "metadata": {"name": name.replace(":", "-"), "namespace": NAMESPACE},
            "spec": {"name": name} | where,
        }
        runner.run(cluster.create(HOSTED_MODEL, manifest))
    assert [(model.name, model.server) for model in service.models()] == [("a:1", "vllm"), ("b", "http://b")]


def test_bytes_are_refused_with_the_ways_that_there_are(service: OverKubernetes) -> None:
    with pytest.raises(Rejected, match=r"(?s)in.jsonl cannot be sent this way.*port-forward.*nightshift submit.*--uri"):
        service.upload(Path("in.jsonl"), lambda _: None)
    with pytest.raises(Rejected, match=r"(?s)port-forward.*nightshift download file_x.*openai/files/file_x.jsonl"):
        service.open_content("file_x")


def test_a_manifest_shows_what_the_api_would(service: OverKubernetes, runner: asyncio.Runner, cluster: Cluster) -> None:
    named(runner, cluster, "nightly")
    condition = {
        "type": "Progressing",
        "status": "True",
        "reason": "Running",
        "message": "it runs",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    move(
        runner,
        cluster,
        "nightly",
        "IN_PROGRESS",
        counts={"total": 9, "completed": 3, "failed": 0},
        deadline="2026-01-02T00:00:00Z",
        conditions=[condition],
        usage={"inputTokens": 4, "outputTokens": 3, "totalTokens": 7},
        attempt=2,
        gpuType="nvidia-l4",
        model="m:1",
    )
    seen = service.get("nightly")
    assert (seen.status, seen.total, seen.done, seen.tokens, seen.attempt) == ("in_progress", 9, 3, 7, 2)
    assert (seen.model, seen.gpu_type, seen.input, seen.expires_at) == (
        "m:1",
        "nvidia-l4",
        "gs://b/in.jsonl",
        1767312000,
    )
    assert [found.message for found in seen.conditions] == ["it runs"]
    assert (seen.output_file_id or "").startswith("file_"), "a result file has its id from its first line on"
    assert seen.error_file_id is None
    move(
        runner, cluster, "nightly", "FAILED", failedAt="2026-01-01T00:02:30Z", errors=[{"code": "bad", "message": "x"}]
    )
    failed = service.get("nightly")
    assert (failed.duration_s, [problem.code for problem in failed.problems]) == (90, ["bad"])


def test_a_manifest_that_the_operator_has_not_seen_is_validating() -> None:
    metadata = {"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    seen = view_of_manifest({"metadata": metadata, "spec": {"input": {"rerunOf": "y"}, "endpoint": CHAT}})
    assert (seen.status, seen.input, seen.rerun_of, seen.cost) == ("validating", "", "y", None)


@pytest.mark.parametrize(("tokens", "per_million"), [(2_000_000, 0.75), (0, None)])
def test_a_manifest_tells_what_it_costs(tokens: int, per_million: float | None) -> None:
    metadata = {"name": "x", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    cost = {"currency": "EUR", "total": "1.500000"}
    status = {"cost": cost, "gpuSeconds": 90, "usage": {"totalTokens": tokens}}
    seen = view_of_manifest(
        {"metadata": metadata, "spec": {"input": {"uri": "gs://b/x"}, "endpoint": CHAT}, "status": status}
    )
    assert (seen.cost, seen.gpu_seconds) == (Cost("EUR", 1.5, per_million), 90)


def test_a_name_may_be_written_as_kubectl_does() -> None:
    assert parse_ref("batchjobs/x") == ("x", None)
    assert parse_ref("pod/x") == ("pod/x", None)


@pytest.mark.parametrize(
    ("problem", "status", "hint"),
    [
        (Denied("batchjobs is forbidden"), 403, "nightshift-tenant"),
        (Unauthenticated("401"), 401, "Log in"),
        (Refused("input cannot be changed"), 400, "The cluster refuses this: input cannot be changed"),
    ],
)
def test_what_the_cluster_refuses_has_a_status_and_a_hint(
    runner: asyncio.Runner, problem: Exception, status: int, hint: str
) -> None:
    class Refusing:
        async def get(self, *_: object) -> Manifest:
            raise problem

    with pytest.raises(Rejected, match=hint) as told:
        OverKubernetes(runner, cast(Cluster, Refusing()), NAMESPACE).get("x")
    assert told.value.status == status


# --- the plugin -------------------------------------------------------------------------------------------------------


def a_kubeconfig(folder: Path, server: str = "http://127.0.0.1:9") -> Path:
    path = folder / "kubeconfig"
    contexts = [
        {"name": name, "context": {"cluster": "c", "user": "u"} | namespace}
        for name, namespace in (("nightshift-a", {"namespace": "team-a"}), ("nightshift-b", {}))
    ]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "nightshift-a",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": contexts,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_namespace_is_that_of_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(a_kubeconfig(tmp_path))
    assert find_namespace(Kubeconfig(path)) == "team-a"
    assert find_namespace(Kubeconfig(path, "nightshift-b")) == "default"
    monkeypatch.setenv("KUBECONFIG", path)
    assert find_namespace(Kubeconfig()) == "team-a"
    assert find_namespace(Kubeconfig("/no/such/file")) == "default"


@pytest.mark.parametrize("named", [Kubeconfig("/no/such/file"), Kubeconfig(context="nope")])
def test_a_kubeconfig_or_a_context_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Kubeconfig
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(a_kubeconfig(tmp_path)))
    with pytest.raises(Rejected, match="There is no Kubernetes to talk to"), open_kubernetes(named, None):
        pass


def test_a_library_that_is_not_installed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "nightshift_cli.over_kubernetes")
    monkeypatch.setitem(sys.modules, "kubernetes.aio.config", None)
    monkeypatch.setattr(sys, "argv", ["kubectl-nightshift", "list"])
    with pytest.raises(SystemExit) as ended:
        kubectl.main()
    assert (ended.value.code, "nightshift-batch[cli,kubernetes]" in capsys.readouterr().err) == (2, True)


def test_a_cluster_that_is_down_is_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl-nightshift", "list", "--kubeconfig", str(a_kubeconfig(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        kubectl.main()
    assert ended.value.code == Exit.UNAVAILABLE
    assert "Is the context right? kubectl cluster-info" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [(["wa"], ["watch"]), (["list", "--sta"], ["--status"]), (["list", "--status", "exp"], ["expired"]), ([], None)],
)
def test_kubectl_is_told_how_words_may_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], found: list[str] | None
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-nightshift", *words])
    kubectl.complete()
    *told, directive = capsys.readouterr().out.splitlines()
    assert directive == ":4"
    assert told == (found or sorted(kubectl.cli.commands))
