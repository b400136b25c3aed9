"""Batches on a real Kubernetes, through the chart's Service, by the official SDK."""

import json
import time

from tests.cluster.release import GPU, SERVER_MODEL, SERVICE_MODEL, Release
from tests.e2e.installation import audit, chat_lines, wait_until


def test_a_batch_on_a_model_that_runs_already_completes(release: Release) -> None:
    lines, ids = chat_lines([f"served {n}" for n in range(40)] + ["fail:400 please"], SERVICE_MODEL)
    batch = release.submit(lines, metadata={"cast.ai/batch-name": "on the cluster"})
    pod = release.running_pod(batch.id)
    assert "batch-processor" in release.kubectl("get", "jobs")
    assert pod.startswith("nightshift-batch-processor-")
    ended = release.wait(batch.id)
    output, errors = audit(release, ended, ids)
    assert (ended.status, len(output), len(errors)) == ("completed", 40, 1)
    check_files(release, ended)
    check_gone(release, ended.id)


def test_a_batch_on_a_model_that_is_started_beside_it_completes_on_a_gpu(release: Release, gpus: int) -> None:
    lines, ids = chat_lines([f"beside {n}" for n in range(200)], SERVER_MODEL)
    batch = release.submit(lines)
    name = release.running_pod(batch.id)
    pod = json.loads(release.kubectl("get", "pod", name, "--output=json"))
    (model,) = pod["spec"]["initContainers"]
    assert (model["restartPolicy"], model["resources"]["limits"][GPU]) == ("Always", "1")
    assert release.gpus_in_use() == 1
    ended = release.wait(batch.id)
    output, errors = audit(release, ended, ids)
    assert (ended.status, len(output), errors) == ("completed", 200, [])
    assert release.batch_job(ended.id)["status"]["gpuType"] == "nvidia-l4"
    check_files(release, ended)
    check_gone(release, ended.id)
    assert release.gpus_in_use() == 0


def test_a_cancel_in_flight_keeps_what_ran_and_frees_the_gpu(release: Release, gpus: int) -> None:
    lines, ids = chat_lines([f"done {n}" for n in range(20)] + [f"slow:300 {n}" for n in range(20)], SERVER_MODEL)
    batch = release.submit(lines)
    release.wait(batch.id, lambda b: b.request_counts.completed == 20)
    assert release.gpus_in_use() == 1
    began = time.monotonic()
    assert release.client().batches.cancel(batch.id).status == "cancelling"
    ended = release.wait(batch.id)
    print(f"cancelled after {time.monotonic() - began:.1f} s")
    output, errors = audit(release, ended, ids)
    assert (ended.status, len(output)) == ("cancelled", 20)
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    check_gone(release, ended.id)
    assert release.gpus_in_use() == 0


def test_a_batch_that_is_late_expires_and_keeps_what_ran(hasty: Release) -> None:
    lines, ids = chat_lines([f"in time {n}" for n in range(10)] + ["slow:300 late"], SERVICE_MODEL)
    ended = hasty.wait(hasty.submit(lines).id)
    output, errors = audit(hasty, ended, ids)
    assert (ended.status, len(output), len(errors)) == ("expired", 10, 1)
    assert errors[0]["error"]["code"] == "batch_expired"
    check_gone(hasty, ended.id)


def test_a_batch_that_never_gets_a_gpu_says_why_and_expires(hasty: Release) -> None:
    lines, ids = chat_lines(["no node for this"], SERVER_MODEL)
    batch = hasty.submit(lines)
    waiting = wait_until(lambda: scheduled_reason(hasty, batch.id) == "NoNode" and batch, "the reason why it waits")
    described = hasty.kubectl("describe", "batchjob", waiting.id.replace("_", "-", 1))
    assert GPU in described
    ended = hasty.wait(batch.id)
    assert ended.status == "expired"
    assert len(audit(hasty, ended, ids)[1]) == 1


def test_a_model_server_that_keeps_dying_fails_the_batch_in_words(hasty: Release, gpus: int) -> None:
    model = json.loads(hasty.kubectl("get", "hostedmodel", "beside", "--output=json"))
    model["metadata"] = {"name": "broken"}
    model["spec"]["name"] = "broken:1"
    model["spec"]["server"]["args"] = ["python3", "-c", "raise SystemExit(3)"]
    hasty.apply(model)
    lines, _ = chat_lines(["never"], "broken:1")
    batch = hasty.submit(lines)
    ended = hasty.wait(batch.id)
    assert (ended.status, [error.code for error in ended.errors.data]) == ("failed", ["internal_error"])
    described = hasty.kubectl("describe", "batchjob", batch.id.replace("_", "-", 1))
    assert "exit code 3" in described
    assert scheduled_reason(hasty, batch.id) == "ModelCrashed"
    check_gone(hasty, batch.id)


def scheduled_reason(release: Release, batch_id: str) -> str | None:
    conditions = release.batch_job(batch_id).get("status", {}).get("conditions", [])
    return next((c["reason"] for c in conditions if c["type"] == "Scheduled"), None)


def check_files(release: Release, batch: "object") -> None:
    """The files lie under the guide's paths."""
    keys = release.keys("openai/files/")
    for file_id in (getattr(batch, f"{kind}_file_id") for kind in ("input", "output", "error")):
        assert file_id is None or f"openai/files/{file_id}.jsonl" in keys


def check_gone(release: Release, batch_id: str) -> None:
    """Nothing of a batch that has ended runs."""
    uid = release.batch_job(batch_id)["metadata"]["uid"]
    selector = f"--selector=nightshift.dev/batch={uid}"
    wait_until(lambda: not release.get("jobs,pods", selector), "Jobs and pods to go", 60)
