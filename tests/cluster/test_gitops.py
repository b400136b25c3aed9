"""Promise 2: everything the API can do, a manifest can do; kubectl is the user interface."""

import json
import subprocess
import urllib.parse
import urllib.request
from typing import Any

import pytest

from tests.cluster.release import BUCKET, SERVICE_MODEL, Release
from tests.e2e.installation import audit, chat_lines, wait_until


def a_batch(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    return {
        "apiVersion": "nightshift.dev/v1alpha1",
        "kind": "BatchJob",
        "metadata": metadata,
        "spec": {"endpoint": "/v1/chat/completions"} | spec,
    }


def api_id(release: Release, name: str) -> str:
    """The id under which the API shows a BatchJob that was made by hand."""
    uid = json.loads(release.kubectl("get", "batchjob", name, "--output=json"))["metadata"]["uid"]
    return f"batch_{uid}"


def put_into_bucket(release: Release, key: str, content: bytes) -> None:
    query = urllib.parse.urlencode({"uploadType": "media", "name": key})
    url = f"{release.forward('svc/gcs', 4443)}/upload/storage/v1/b/{BUCKET}/o?{query}"
    urllib.request.urlopen(urllib.request.Request(url, content, method="POST")).close()


def test_everything_the_api_can_do_a_manifest_can_do(release: Release) -> None:
    lines, ids = chat_lines([f"by manifest {n}" for n in range(20)] + ["fail:400"], SERVICE_MODEL)
    uploaded = release.client().files.create(file=("in.jsonl", lines), purpose="batch")
    release.apply(a_batch("nightly", input={"fileId": uploaded.id}, metadata={"team": "search"}))
    release.kubectl("wait", "--for=condition=Complete", "--timeout=120s", "batchjob/nightly")
    shown = release.kubectl("get", "bj", "nightly").splitlines()
    assert shown[0].split()[:6] == ["NAME", "PHASE", "MODEL", "DONE", "FAILED", "TOTAL"]
    assert shown[1].split()[:6] == ["nightly", "COMPLETED", SERVICE_MODEL, "20", "1", "21"]
    described = release.kubectl("describe", "batchjob", "nightly")
    assert "20 of 21 lines completed, 1 failed." in described
    assert "InProgress" in described, "Events tell the story"

    batch = release.client().batches.retrieve(api_id(release, "nightly"))
    assert (batch.status, batch.metadata, batch.input_file_id) == ("completed", {"team": "search"}, uploaded.id)
    audit(release, batch, ids)
    assert batch.id in [listed.id for listed in release.client().batches.list()]


def test_a_manifest_may_name_an_object_in_the_bucket_where_that_is_allowed(release: Release) -> None:
    lines, ids = chat_lines([f"by uri {n}" for n in range(10)], SERVICE_MODEL)
    put_into_bucket(release, "inputs/tonight.jsonl", lines)
    release.install(uriPrefixes=[f"{release.namespace}=inputs"])
    release.apply(a_batch("by-uri", input={"uri": f"gs://{BUCKET}/inputs/tonight.jsonl"}))
    release.kubectl("wait", "--for=condition=Complete", "--timeout=180s", "batchjob/by-uri")
    batch = release.client().batches.retrieve(api_id(release, "by-uri"))
    assert batch.input_file_id == f"gs://{BUCKET}/inputs/tonight.jsonl"
    audit(release, batch, ids)


def test_a_manifest_cannot_name_what_is_not_its_own(release: Release) -> None:
    release.apply(a_batch("stranger", input={"uri": f"gs://{BUCKET}/openai/files/x.jsonl"}))
    release.kubectl("wait", "--for=jsonpath={.status.phase}=FAILED", "--timeout=60s", "batchjob/stranger")
    errors = release.client().batches.retrieve(api_id(release, "stranger")).errors
    assert errors
    assert [(error.code, error.param) for error in errors.data or []] == [("invalid_request", "input_file_id")]


def test_a_batch_of_a_manifest_is_cancelled_through_the_api_and_the_other_way_round(release: Release) -> None:
    lines, _ = chat_lines(["slow:300 cancel me"], SERVICE_MODEL)
    uploaded = release.client().files.create(file=("in.jsonl", lines), purpose="batch")
    release.apply(a_batch("cancelled-by-api", input={"fileId": uploaded.id}))
    wait_until(lambda: release.batch_job("cancelled-by-api").get("status", {}).get("phase") == "IN_PROGRESS", "a start")
    assert release.client().batches.cancel(api_id(release, "cancelled-by-api")).status == "cancelling"
    release.kubectl("wait", "--for=jsonpath={.status.phase}=CANCELLED", "--timeout=60s", "batchjob/cancelled-by-api")

    batch = release.submit(lines)
    release.wait(batch.id, lambda b: b.status == "in_progress")
    name = batch.id.replace("_", "-", 1)
    release.kubectl("patch", "batchjob", name, "--type=merge", "--patch", '{"spec": {"cancelRequested": true}}')
    assert release.wait(batch.id).status == "cancelled"


def test_a_suspended_batch_runs_nothing_until_it_is_resumed(release: Release) -> None:
    lines, ids = chat_lines([f"slow:0.3 resumed {n}" for n in range(300)], SERVICE_MODEL)
    batch = release.submit(lines)
    release.wait(batch.id, lambda b: b.request_counts.completed >= 30)
    name = batch.id.replace("_", "-", 1)
    release.kubectl("patch", "batchjob", name, "--type=merge", "--patch", '{"spec": {"suspend": true}}')
    wait_until(lambda: not release.pods(batch.id), "the processor to go", 60)
    assert release.client().batches.retrieve(batch.id).status == "in_progress"
    release.kubectl("patch", "batchjob", name, "--type=merge", "--patch", '{"spec": {"suspend": false}}')
    ended = release.wait(batch.id)
    assert ended.status == "completed"
    audit(release, ended, ids)
    assert (
        "failedAttempts" not in release.batch_job(batch.id)["status"]
        or not release.batch_job(batch.id)["status"]["failedAttempts"]
    )


def test_a_batch_is_run_again_by_a_manifest_that_waits_for_it(release: Release) -> None:
    prompts = [f"run again {n}" + " fail-once:400" * (n % 10 == 0) for n in range(50)]
    lines, ids = chat_lines([*prompts, "slow:2 run again"], SERVICE_MODEL)
    uploaded = release.client().files.create(file=("in.jsonl", lines), purpose="batch")
    release.apply(a_batch("first", input={"fileId": uploaded.id}), a_batch("second", input={"rerunOf": "first"}))
    release.kubectl("wait", "--for=condition=Complete", "--timeout=180s", "batchjob/second")
    status = release.batch_job("second")["status"]
    assert (status["reused"], status["rerunOf"]) == (46, api_id(release, "first"))
    asked = {prompt: count for prompt, count in release.asked().items() if "run again" in prompt}
    assert {prompt for prompt, count in asked.items() if count > 1} == {p for p in prompts if "fail" in p}

    first, second = (release.client().batches.retrieve(api_id(release, name)) for name in ("first", "second"))
    assert (second.input_file_id, second.error_file_id) == (uploaded.id, None)
    output = release.content(second.output_file_id)
    assert output[:46] == release.content(first.output_file_id)
    assert sorted(line["custom_id"] for line in output) == sorted(ids)
    assert release.get("batchjobs", "--field-selector=spec.input.rerunOf=first")[0]["metadata"]["name"] == "second"

    again = release.client().post(f"/batches/{first.id}/rerun", cast_to=type(first))
    assert release.wait(again.id).request_counts.completed == 51


def test_a_namespace_that_goes_does_not_hold_the_operator_up(release: Release) -> None:
    lines, ids = chat_lines(["after a delete"], SERVICE_MODEL)
    doomed = release.submit(chat_lines(["slow:300 doomed"], SERVICE_MODEL)[0])
    release.running_pod(doomed.id)
    uid = release.batch_job(doomed.id)["metadata"]["uid"]
    release.kubectl("delete", "batchjob", doomed.id.replace("_", "-", 1))
    wait_until(lambda: not release.get("jobs,pods", f"--selector=nightshift.dev/batch={uid}"), "its Job to go", 90)
    with pytest.raises(subprocess.CalledProcessError):
        release.kubectl("get", "batchjob", doomed.id.replace("_", "-", 1))
    audit(release, release.wait(release.submit(lines).id), ids)
