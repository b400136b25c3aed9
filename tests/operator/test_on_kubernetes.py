"""The operator as a process on a real API server, with Kubernetes' own controllers at work."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from nightshift_crds.cluster.port import (
    BATCH_JOB,
    HOSTED_MODEL,
    JOB,
    LEASE,
    POD,
    STORED_FILE,
    Change,
    ChangeType,
    Selector,
)
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.models import BatchJob
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import RecordKind
from nightshift_operator.controller import Key
from nightshift_operator.jobs import BATCH_LABEL, MANAGED_BY
from tests.builders import MODEL
from tests.operator.real import Real

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

MAX_WRITES = 12
"""Versions of a BatchJob from its creation until it is settled."""


def says(kind: str, reason: str) -> Any:
    def holds(batch: BatchJob) -> bool:
        return any(c.type == kind and c.reason == reason for c in batch.status.conditions)

    return holds


def message_of(batch: BatchJob, kind: str) -> str:
    return next(c.message for c in batch.status.conditions if c.type == kind)


def is_settled(batch: BatchJob) -> bool:
    return batch.status.settled


async def seal(real: Real, key: Key, reason: Sealing, **counts: int) -> None:
    """Wait until a batch is to be sealed for a reason, and do what the processor of the seal Job does."""
    batch = await real.batch_when(key, lambda batch: batch.status.sealing is reason)
    await real.job_of(key, Step.SEAL, batch.status.attempt)
    await real.world.seal(key, **({"completed": 0, "failed": 0} | counts))


def processor(**state: Any) -> list[dict[str, Any]]:
    container = {"name": "processor", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}
    return [container]


def model(*, restarts: int = 0, last: dict[str, Any] | None = None, **state: Any) -> list[dict[str, Any]]:
    container = {"name": "model", "image": "x", "imageID": "x", "ready": False, "started": False, "state": state}
    return [container | {"restartCount": restarts, "lastState": last or {}}]


@pytest.fixture
async def key(real: Real) -> Key:
    """A batch that waits for more GPUs than there are."""
    await real.add_served_model()
    await real.add_input()
    return await real.add_batch()


# --- one batch --------------------------------------------------------------------------------------------------------


async def test_a_batch_of_kubectl_becomes_a_job_that_says_why_it_waits(real: Real, key: Key) -> None:
    async with real.operator():
        batch = await real.batch_when(key, says("Scheduled", "NoNode"))
        job = await real.job_of(key)
    uid = batch.metadata.uid
    assert (batch.phase, batch.status.model, batch.status.attempt) == (Phase.IN_PROGRESS, MODEL, 1)
    assert (batch.status.job_name, batch.status.job_uid) == (job["metadata"]["name"], job["metadata"]["uid"])
    assert job["metadata"]["name"] == job_name(uid, Step.RUN, 1)
    assert job["metadata"]["labels"].items() >= (MANAGED_BY | {BATCH_LABEL: uid}).items()
    [owner] = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("BatchJob", key.name, uid, True)
    pod = await real.pod_of(job)  # that it is there proves that Pod Security has let it in
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["model"]
    assert not [v for v in pod["spec"]["volumes"] if "projected" in v], "no token"
    described = await real.run("describe", "batchjob", key.name)
    assert "nodes" in message_of(batch, "Scheduled")
    assert message_of(batch, "Scheduled") in described
    assert "InProgress" in described


async def test_the_gpus_of_a_pod_are_counted_and_priced_and_kubectl_shows_it(real: Real) -> None:
    await real.add_served_model()
    [hosted] = (await real.cluster.list(HOSTED_MODEL, Selector(real.namespace))).items
    patch = '{"spec": {"pricing": {"perGpuHour": 3.6}}}'
    await real.run("patch", "hostedmodel", hosted["metadata"]["name"], "--type=merge", "-p", patch)
    await real.add_input()
    key = await real.add_batch()
    started = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=100)
    async with real.operator(), real.node() as node:
        pod = await real.pod_of(await real.job_of(key))
        await real.bind(pod, node)
        running = processor(running={})
        await real.report(pod, phase="Running", startTime=started.isoformat(), containerStatuses=running)
        batch = await real.batch_when(key, lambda batch: (batch.status.gpu_seconds or 0) >= 64 * 100)
        await real.run("patch", "batchjob", key.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
        await real.batch_when(key, says("Scheduled", "Suspended"))
        shown = await real.run("get", "batchjobs", "-o", "wide")
    assert batch.status.cost is not None
    assert float(batch.status.cost.total) * 1_000 == batch.status.gpu_seconds
    paused = await real.world.batch(key)
    assert (paused.status.gpu_seconds or 0) >= (batch.status.gpu_seconds or 0)
    assert {"TOKENS", "GPU-S", "COST", "CURRENCY", "USD"} <= set(shown.split())


async def test_pod_security_lets_in_all_that_a_model_may_ask_for(real: Real) -> None:
    sources = {"persistentVolumeClaim": "weights", "image": "registry/m:1", "configMap": "c", "secret": "s"}
    volumes = [{"name": f"v{n}", "mountPath": f"/v{n}", kind: name} for n, (kind, name) in enumerate(sources.items())]
    more = {
        "env": {"A": "1"},
        "runAsUser": 1000,
        "resourceClaimTemplate": "gpu",
        "tolerations": [{"operator": "Exists"}],
    }
    await real.add_served_model(volumes=volumes, **more)
    await real.add_input()
    key = await real.add_batch()
    async with real.operator(PROCESSOR_ENV="A=1", IMAGE_PULL_SECRETS="pull"):
        pod = await real.pod_of(await real.job_of(key))
    assert {"v0", "v1", "v2", "v3", "shm", "scratch"} == {volume["name"] for volume in pod["spec"]["volumes"]}
    assert [claim["resourceClaimTemplateName"] for claim in pod["spec"]["resourceClaims"]] == ["gpu"]


async def test_a_batch_that_waits_is_not_written_again_and_again(real: Real, key: Key) -> None:
    async with real.operator(PROGRESS_INTERVAL_S="0.05", RESYNC_INTERVAL_S="0.1") as operator:
        await real.batch_when(key, says("Scheduled", "NoNode"))
        since = (await real.cluster.list(BATCH_JOB)).resource_version
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2), aclosing(real.cluster.watch(BATCH_JOB, Selector(), since)) as changes:
                raise AssertionError(await anext(changes))
        await operator.ends(signal.SIGTERM)
    assert "reconcile.failed" not in operator.events


async def test_a_batch_goes_from_kubectl_to_its_files_in_few_writes_and_then_leaves_the_watch(
    real: Real, key: Key
) -> None:
    label = {"node.kubernetes.io/instance-type": "g2-standard-8", "cloud.google.com/gke-accelerator": "nvidia-l4"}
    unsettled = Selector(real.namespace, fields="status.settled!=true")
    page = await real.cluster.list(BATCH_JOB, unsettled)
    async with real.operator(), real.node(**label) as node:
        pod = await real.pod_of(await real.job_of(key))
        await real.bind(pod, node)
        await real.report(pod, phase="Pending", initContainerStatuses=model(running={}))
        await real.batch_when(key, says("Scheduled", "ModelLoading"))
        await real.report(pod, phase="Running", initContainerStatuses=None, containerStatuses=processor(running={}))
        batch = await real.batch_when(key, says("Scheduled", "Running"))
        await real.world.log(key, RecordKind.END, completed=8, failed=2)
        ended = processor(terminated={"exitCode": 0, "reason": "Completed"})
        await real.report(pod, phase="Succeeded", containerStatuses=ended)
        await seal(real, key, Sealing.COMPLETED, completed=8, failed=2)
        async with (
            asyncio.timeout(60),
            aclosing(real.cluster.watch(BATCH_JOB, unsettled, page.resource_version)) as changes,
        ):
            seen = [change async for change in until_deleted(changes)]
    assert (batch.status.instance_type, batch.status.gpu_type) == ("g2-standard-8", "nvidia-l4")
    settled = await real.world.batch(key)
    assert (settled.phase, settled.status.settled) == (Phase.COMPLETED, True)
    assert (settled.status.counts.completed, settled.status.counts.failed) == (8, 2)
    assert len(seen) <= MAX_WRITES
    assert (await real.cluster.list(JOB)).items == []
    assert (await real.cluster.list(BATCH_JOB, unsettled)).items == []


async def until_deleted(changes: AsyncGenerator[Change, None]) -> AsyncGenerator[Change, None]:
    async for change in changes:
        yield change
        if change.type is ChangeType.DELETED:
            return


async def test_an_illegal_input_fails_and_says_every_error(real: Real) -> None:
    await real.add_model()
    await real.add_input()
    await real.add_batch("no-file", input={"fileId": "file_019a0000-0000-7000-8000-000000000000"})
    await real.add_batch("not-allowed", scheduling={"gpuType": "nvidia-h100", "spot": True})
    async with real.operator():
        first = await real.batch_when(Key(real.namespace, "no-file"), is_settled)
        second = await real.batch_when(Key(real.namespace, "not-allowed"), is_settled)
    assert [(e.code, e.param) for e in first.status.errors] == [("invalid_request", "input_file_id")]
    assert [e.param for e in second.status.errors] == ["scheduling.gpuType", "scheduling.spot"]
    assert {first.phase, second.phase} == {Phase.FAILED}


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_a_model_server_that_keeps_dying_ends_in_a_failure_that_says_why(real: Real, key: Key) -> None:
    died = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    async with real.operator(MAX_MODEL_RESTARTS="2", MAX_ATTEMPTS="1"), real.node() as node:
        pod = await real.pod_of(await real.job_of(key))
        await real.bind(pod, node)
        again = model(restarts=1, last=died, waiting={"reason": "CrashLoopBackOff"})
        await real.report(pod, phase="Pending", initContainerStatuses=again)
        await real.batch_when(key, says("Scheduled", "OutOfMemory"))
        await real.report(pod, phase="Pending", initContainerStatuses=model(restarts=2, last=died, running={}))
        await seal(real, key, Sealing.FAILED)
        batch = await real.batch_when(key, is_settled)
    assert (batch.phase, [error.code for error in batch.status.errors]) == (Phase.FAILED, ["internal_error"])
    assert says("Scheduled", "OutOfMemory")(batch)
    assert "it needs more memory than its limit" in await real.run("describe", "batchjob", key.name)


async def test_a_job_that_a_queue_suspends_waits_for_its_quota(real: Real, key: Key) -> None:
    async with real.operator():
        job = (await real.job_of(key))["metadata"]["name"]
        await real.run("patch", "job", job, "--type=merge", '--patch={"spec": {"suspend": true}}')  # as Kueue does
        batch = await real.batch_when(key, says("Scheduled", "WaitingForQuota"))
        assert batch.phase is Phase.IN_PROGRESS
        await real.run("patch", "job", job, "--type=merge", '--patch={"spec": {"suspend": false}}')
        await real.batch_when(key, says("Scheduled", "NoNode"))


async def test_a_batch_that_never_gets_a_gpu_expires_having_said_why_it_waited(real: Real, key: Key) -> None:
    async with real.operator(COMPLETION_WINDOW_S="8"):
        await real.batch_when(key, says("Scheduled", "NoNode"))
        await seal(real, key, Sealing.EXPIRED)
        batch = await real.batch_when(key, is_settled)
    assert (batch.phase, batch.status.counts.total) == (Phase.EXPIRED, 10)
    assert (await real.world.result(key, ResultKind.ERROR)).status.bytes == 30


# --- the races that need the world ------------------------------------------------------------------------------------


async def test_a_cancel_while_the_input_is_checked_ends_without_files(real: Real) -> None:
    await real.add_model()
    uri = f"{real.world.bucket.url}/shared/in.jsonl"
    key = await real.add_batch(input={"uri": uri})
    async with real.operator(URI_PREFIXES=f"{real.namespace}=shared"):
        await real.pod_of(await real.job_of(key, Step.INSPECT))
        await real.ask(key, cancelRequested=True)
        batch = await real.batch_when(key, is_settled)
    assert (batch.phase, batch.status.in_progress_at) == (Phase.CANCELLED, None)
    assert (await real.cluster.list(STORED_FILE)).items == (await real.cluster.list(POD)).items == []


async def test_a_cancel_before_anything_ran_takes_the_job_away_and_cancels_every_line(real: Real, key: Key) -> None:
    async with real.operator():
        job = await real.job_of(key)
        pod = await real.pod_of(job)
        await real.ask(key, cancelRequested=True)
        await real.gone(JOB, job["metadata"]["name"])
        assert pod["metadata"]["uid"] not in [p["metadata"]["uid"] for p in (await real.cluster.list(POD)).items]
        await seal(real, key, Sealing.CANCELLED)
        batch = await real.batch_when(key, is_settled)
    assert batch.phase is Phase.CANCELLED
    assert (await real.world.result(key, ResultKind.ERROR)).status.bytes == 30


async def test_a_pod_on_a_node_that_is_lost_does_not_hold_up_a_cancel(real: Real, key: Key) -> None:
    async with real.operator(), real.node() as node:  # nobody answers for this node
        job = await real.job_of(key)
        pod = await real.pod_of(job)
        await real.bind(pod, node)
        await real.report(pod, phase="Running", containerStatuses=processor(running={}))
        await real.batch_when(key, says("Scheduled", "Running"))
        await real.ask(key, cancelRequested=True)
        await real.gone(JOB, job["metadata"]["name"])
        await seal(real, key, Sealing.CANCELLED)
        await real.batch_when(key, lambda batch: batch.phase is Phase.CANCELLED)


async def test_a_job_that_somebody_deletes_is_followed_by_another(real: Real, key: Key) -> None:
    async with real.operator():
        first = await real.job_of(key)
        await real.batch_when(key, says("Scheduled", "NoNode"))
        await real.run("delete", "job", first["metadata"]["name"])
        second = await real.job_of(key, attempt=2)
        batch = await real.batch_when(key, lambda batch: batch.status.job_uid == second["metadata"]["uid"])
    assert (batch.status.attempt, batch.status.failed_attempts) == (2, 1)


async def test_a_batch_that_is_deleted_takes_its_job_along_and_one_of_the_same_name_begins_anew(
    real: Real, key: Key
) -> None:
    async with real.operator():
        job = await real.job_of(key)
        await real.run("delete", "batchjob", key.name)
        await real.gone(JOB, job["metadata"]["name"])
        await real.add_batch(key.name)
        assert (await real.job_of(key))["metadata"]["name"] != job["metadata"]["name"]
        await real.batch_when(key, says("Scheduled", "NoNode"))


async def test_an_input_that_is_deleted_before_it_is_checked_fails_the_batch(real: Real, key: Key) -> None:
    await real.run("delete", "storedfile", "--all")
    async with real.operator():
        batch = await real.batch_when(key, is_settled)
    assert [error.param for error in batch.status.errors] == ["input_file_id"]


async def test_a_namespace_that_is_deleted_does_not_hold_up_another(real: Real, key: Key) -> None:
    other = f"{real.namespace}-other"
    await real.run("create", "namespace", other)
    there = replace(real, namespace=other)
    await there.add_served_model()
    await there.add_input()
    gone = await there.add_batch()
    async with real.operator(CLUSTER=f"kubernetes://{real.namespace},{other}", RESYNC_INTERVAL_S="1") as operator:
        await there.job_of(gone)
        await real.job_of(key)
        await real.run("delete", "namespace", other)
        last = await real.add_batch("last")
        await real.batch_when(last, says("Scheduled", "NoNode"))
        assert await operator.ends(signal.SIGTERM) == 0


# --- the process ------------------------------------------------------------------------------------------------------


async def test_sigterm_ends_the_operator_within_seconds_and_gives_the_lease_up(real: Real, key: Key) -> None:
    async with real.operator() as operator:
        await real.batch_when(key, says("Scheduled", "NoNode"))
        lease = await real.cluster.get(LEASE, real.namespace, "operator")
        assert lease["spec"]["holderIdentity"] == "one"
        assert await operator.probe() == 200
        async with asyncio.timeout(4):
            assert await operator.ends(signal.SIGTERM) == 0
    assert operator.events[-1] == "operator.stopped"
    lease = await real.cluster.get(LEASE, real.namespace, "operator")
    assert "holderIdentity" not in lease["spec"]


@pytest.mark.parametrize("moment", ["before its status says so", "once its status says so"])
async def test_an_operator_that_is_killed_once_a_job_is_there_goes_on_where_it_was(
    real: Real, key: Key, moment: str
) -> None:
    async with real.operator() as operator:
        job = await real.job_of(key)
        if moment == "once its status says so":
            await real.batch_when(key, says("Scheduled", "NoNode"))
        await operator.ends(signal.SIGKILL)
    await real.ask(key, cancelRequested=True)
    async with real.operator():
        await seal(real, key, Sealing.CANCELLED)
        batch = await real.batch_when(key, is_settled)
    assert (batch.phase, batch.status.attempt) == (Phase.CANCELLED, 1)
    assert job["metadata"]["name"] not in [j["metadata"]["name"] for j in (await real.cluster.list(JOB)).items]


async def test_a_second_operator_waits_for_the_lease_and_goes_on_once_it_is_free(real: Real, key: Key) -> None:
    async with real.operator() as first:
        await first.says("operator.started")
        async with real.operator("two") as second:
            await second.says("operator.waiting")
            await real.batch_when(key, says("Scheduled", "NoNode"))
            assert await first.ends(signal.SIGTERM) == 0
            await second.says("operator.started")
            lease = await real.cluster.get(LEASE, real.namespace, "operator")
            assert lease["spec"]["holderIdentity"] == "two"
            last = await real.add_batch("last")
            await real.batch_when(last, says("Scheduled", "NoNode"))
            assert await second.ends(signal.SIGTERM) == 0


async def test_an_operator_that_waits_for_the_lease_can_be_told_to_stop(real: Real) -> None:
    async with real.operator() as first:
        await first.says("operator.started")
        async with real.operator("two") as second:
            await second.says("operator.waiting")
            assert await second.ends(signal.SIGTERM) == 0
            assert second.events == ["operator.waiting", "operator.stopped"]
        lease = await real.cluster.get(LEASE, real.namespace, "operator")
    assert lease["spec"]["holderIdentity"] == "one"


async def test_an_operator_that_loses_its_lease_ends_at_once(real: Real) -> None:
    async with real.operator() as operator:
        await operator.says("operator.started")
        taken = {"holderIdentity": "thief", "renewTime": "2999-01-01T00:00:00.000000Z"}
        await real.cluster.patch(LEASE, real.namespace, "operator", {"spec": taken})
        assert await operator.ends() == 1
    assert operator.events[-1] == "operator.lease_lost"
    lease = await real.cluster.get(LEASE, real.namespace, "operator")
    assert lease["spec"]["holderIdentity"] == "thief"


async def test_an_operator_that_may_not_read_batches_says_so_and_ends(real: Real, tmp_path: Path) -> None:
    token = (await real.run("create", "token", "nightshift-processor")).strip()
    powerless = tmp_path / "powerless"
    config = yaml.safe_load(real.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    powerless.write_text(yaml.safe_dump(config))
    async with real.operator(KUBECONFIG=str(powerless)) as operator:
        assert await operator.ends() == 2
    assert "does not let the operator read BatchJobs" in "".join(operator.lines)
