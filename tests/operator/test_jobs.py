"""The manifests of Jobs, held against what a processor can read, and what is read back of Jobs and pods."""

from datetime import UTC, datetime
from typing import Any

import pytest

from nightshift_crds.exits import NEVER_RETRY, Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import CHAT, ErrorForm
from nightshift_crds.models import BatchJob, HostedModel
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_operator.facts import JobState, Pod
from nightshift_operator.jobs import BATCH_LABEL, CONTAINER, MANAGED_BY, build_job, parse_job
from nightshift_operator.settings import Settings
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings, StepSettings
from tests.builders import BATCH_UID, FILE_ID, MODEL, NAMESPACE, a_batch, a_model
from tests.operator.builders import DEADLINE, a_status

KEY = f"openai/files/{FILE_ID}.jsonl"
SETTINGS = Settings.load(
    {
        "NIGHTSHIFT_CLUSTER": "sqlite:///unused",
        "NIGHTSHIFT_BUCKET": "gs://bucket",
        "NIGHTSHIFT_MAX_FILE_BYTES": "1001",
        "NIGHTSHIFT_MAX_LINES": "1002",
        "NIGHTSHIFT_MAX_LINE_BYTES": "1003",
        "NIGHTSHIFT_FLUSH_INTERVAL_S": "4.5",
        "NIGHTSHIFT_FLUSH_BYTES": "1005",
        "NIGHTSHIFT_REQUEST_TIMEOUT_S": "106.5",
        "NIGHTSHIFT_MAX_TRIES": "7",
        "NIGHTSHIFT_MAX_ANSWER_BYTES": "1008",
        "NIGHTSHIFT_ERROR_LINE_FORMAT": "openai",
        "NIGHTSHIFT_GRACE_S": "33",
        "NIGHTSHIFT_IMAGE": "registry/nightshift:9",
    }
)
SERVICE = {"url": "http://model:8000/v1", "maxConcurrency": 12}


def a_running_batch(**status: Any) -> BatchJob:
    return a_batch(status=a_status(Phase.IN_PROGRESS, **status))


def job_of(step: Step, batch: BatchJob | None = None, model: HostedModel | None = None) -> dict[str, Any]:
    batch = batch or a_running_batch(sealing=Sealing.CANCELLED, slices=3, attempt=2)
    return build_job(batch, step, model or a_model(service=SERVICE), KEY, SETTINGS)


def env_of(job: dict[str, Any]) -> dict[str, str]:
    """Give the environment as a pod of the Job has it; secrets hold 's3cret' and a newline."""
    [container] = job["spec"]["template"]["spec"]["containers"]
    return {v["name"]: v.get("value", "s3cret\n") for v in container["env"]} | {"JOB_COMPLETION_INDEX": "2"}


# --- what the processor reads -----------------------------------------------------------------------------------------


def test_a_run_reads_out_of_its_job_all_that_the_operator_was_told() -> None:
    read = RunSettings.load(env_of(job_of(Step.RUN)))
    assert (read.bucket, read.batch_uid, read.input_key, read.input_crc32c) == ("gs://bucket", BATCH_UID, KEY, 7)
    assert (read.endpoint, str(read.model_url), read.max_concurrency) == (CHAT, "http://model:8000/v1", 12)
    assert (read.deadline, read.slices, read.slice_no) == (DEADLINE, 3, 2)
    assert (read.flush_interval_s, read.flush_bytes, read.request_timeout_s) == (4.5, 1_005, 106.5)
    assert (read.max_tries, read.max_answer_bytes, read.error_line_format) == (7, 1_008, ErrorForm.OPENAI)
    assert read.model_api_key is None


def test_a_key_of_a_model_server_goes_by_reference_and_never_by_value() -> None:
    model = a_model(service=SERVICE | {"apiKeySecret": {"name": "keys", "key": "model"}})
    job = job_of(Step.RUN, model=model)
    [variable] = [v for v in job["spec"]["template"]["spec"]["containers"][0]["env"] if "valueFrom" in v]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "model"}}
    key = RunSettings.load(env_of(job)).model_api_key
    assert key is not None
    assert key.get_secret_value() == "s3cret"


def test_a_seal_reads_out_of_its_job_what_it_is_to_make() -> None:
    batch = a_running_batch(sealing=Sealing.CANCELLED, slices=3)
    read = SealSettings.load(env_of(job_of(Step.SEAL, batch)))
    assert (read.reason, read.items, read.slices, read.input_crc32c) == (Sealing.CANCELLED, 10, 3, 7)
    assert (read.output_file_id, read.error_file_id) == tuple(map(batch.result_file_id, ResultKind))


def test_an_inspection_reads_out_of_its_job_what_it_is_to_check() -> None:
    read = InspectSettings.load(env_of(job_of(Step.INSPECT, a_batch())))
    assert (read.input_key, read.endpoint) == (KEY, CHAT)
    assert (read.max_file_bytes, read.max_lines, read.max_line_bytes) == (1_001, 1_002, 1_003)


@pytest.mark.parametrize("step", Step)
def test_every_variable_of_a_job_is_a_string_that_the_processor_knows(step: Step) -> None:
    readers: dict[Step, type[StepSettings]] = {
        Step.INSPECT: InspectSettings,
        Step.SEAL: SealSettings,
        Step.RUN: RunSettings,
    }
    names = {
        name.removeprefix("NIGHTSHIFT_").lower() for name in env_of(job_of(step)) if name.startswith("NIGHTSHIFT_")
    }
    assert names <= set(readers[step].model_fields)
    assert all(isinstance(value, str) for value in env_of(job_of(step)).values())


@pytest.mark.parametrize(
    "model", [None, HostedModel.parse(a_model().dump() | {"spec": {"name": MODEL, "server": {"image": "vllm:1"}}})]
)
def test_a_run_without_a_server_to_send_to_is_a_bug(model: HostedModel | None) -> None:
    with pytest.raises(ValueError, match="model with a service"):
        build_job(a_running_batch(), Step.RUN, model, KEY, SETTINGS)


# --- what Kubernetes reads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "pods"), [(Step.RUN, 3), (Step.SEAL, 1), (Step.INSPECT, 1)])
def test_a_run_has_a_pod_per_slice_and_every_other_step_one(step: Step, pods: int) -> None:
    spec = job_of(step)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", pods, pods)


@pytest.mark.parametrize("step", Step)
def test_a_job_belongs_to_its_batch_and_is_named_after_it(step: Step) -> None:
    job = job_of(step)
    metadata = job["metadata"]
    assert (metadata["name"], metadata["namespace"]) == (job_name(BATCH_UID, step, 2), NAMESPACE)
    assert metadata["labels"].items() >= (MANAGED_BY | {BATCH_LABEL: BATCH_UID}).items()
    [owner] = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("BatchJob", BATCH_UID, True)
    assert job["spec"]["template"]["metadata"]["labels"] == metadata["labels"]


@pytest.mark.parametrize("step", Step)
def test_a_pod_has_no_right_that_it_does_not_need(step: Step) -> None:
    pod = job_of(step)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_a_pod_runs_its_step_in_the_image_that_is_set_and_is_never_restarted_in_place() -> None:
    pod = job_of(Step.SEAL)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (container["image"], container["command"]) == ("registry/nightshift:9", ["nightshift-processor"])
    assert container["args"] == ["seal"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 33)
    assert [v["name"] for v in pod["volumes"]] == [m["name"] for m in container["volumeMounts"]] == ["scratch"]


def test_a_job_fails_at_once_on_exactly_the_codes_that_are_final() -> None:
    fail, _ = job_of(Step.RUN)["spec"]["podFailurePolicy"]["rules"]
    codes = fail["onExitCodes"]
    assert (fail["action"], codes["operator"], codes["containerName"]) == ("FailJob", "In", CONTAINER)
    assert set(codes["values"]) == set(NEVER_RETRY)
    assert set(codes["values"]).isdisjoint({Exit.DONE, Exit.INTERRUPTED})


def test_an_eviction_is_not_held_against_a_job_and_replaces_a_pod_only_once_it_is_gone() -> None:
    spec = job_of(Step.RUN)["spec"]
    _, ignore = spec["podFailurePolicy"]["rules"]
    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert spec["podReplacementPolicy"] == "Failed"


def test_kubernetes_own_clock_is_only_a_backstop_behind_the_deadline() -> None:
    assert job_of(Step.RUN)["spec"]["activeDeadlineSeconds"] > SETTINGS.completion_window_s


# --- reading ----------------------------------------------------------------------------------------------------------


def a_job_manifest(*conditions: dict[str, str], **metadata: Any) -> dict[str, Any]:
    status = {"conditions": list(conditions), "active": 1} if conditions else {}
    return {"metadata": {"name": "job", "uid": "job-uid"} | metadata, "status": status}


def a_pod_manifest(*, containers: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    status = {"phase": "Pending", "containerStatuses": containers or []} | more.pop("status", {})
    return {"metadata": {"name": "job-0-x7d2k", "uid": "pod-uid"} | more, "status": status}


def a_container(name: str = CONTAINER, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "restartCount": 0, "state": state}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status} | more


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([], JobState.ACTIVE),
        ([condition("Complete")], JobState.COMPLETE),
        ([condition("Failed", reason="BackoffLimitExceeded")], JobState.FAILED),
        ([condition("FailureTarget")], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet")], JobState.ACTIVE),
        ([condition("SuccessCriteriaMet"), condition("Complete")], JobState.COMPLETE),
        ([condition("Failed", "False")], JobState.ACTIVE),
        ([condition("Suspended")], JobState.ACTIVE),
    ],
)
def test_only_a_terminal_condition_ends_a_job(conditions: list[dict[str, str]], state: JobState) -> None:
    assert parse_job(a_job_manifest(*conditions), []).state is state


@pytest.mark.parametrize(("status", "is_suspended"), [("True", True), ("False", False)])
def test_a_job_that_a_queue_holds_is_suspended(status: str, is_suspended: bool) -> None:
    assert parse_job(a_job_manifest(condition("Suspended", status)), []).suspended is is_suspended


def test_a_job_that_nobody_has_looked_at_yet_is_active_and_says_nothing() -> None:
    job = parse_job({"metadata": {"name": "job", "uid": "job-uid"}}, [])
    assert (job.name, job.uid, job.state, job.message, job.deleting_at) == ("job", "job-uid", JobState.ACTIVE, "", None)


def test_a_failed_job_says_why_and_when_it_was_deleted() -> None:
    failed = condition("Failed", reason="PodFailurePolicy", message="Container processor failed with exit code 40")
    job = parse_job(a_job_manifest(failed, deletionTimestamp="2026-11-23T09:00:00Z"), [])
    assert job.message.endswith("exit code 40")
    assert job.deleting_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


def pod_of(manifest: dict[str, Any]) -> Pod:
    [pod] = parse_job(a_job_manifest(), [manifest]).pods
    return pod


@pytest.mark.parametrize(
    ("state", "exit_code", "running"),
    [
        ({"running": {"startedAt": "2026-11-23T09:00:00Z"}}, None, True),
        ({"running": {}}, None, True),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, 0, False),
        ({"terminated": {"exitCode": 40, "reason": "Error"}}, 40, False),
        ({"waiting": {"reason": "ContainerCreating"}}, None, False),
        ({}, None, False),
    ],
)
def test_a_pod_is_as_its_processor_is(state: dict[str, Any], exit_code: int | None, running: bool) -> None:
    pod = pod_of(a_pod_manifest(containers=[a_container(**state)]))
    assert (pod.exit_code, pod.running, pod.trouble) == (exit_code, running, "")


def test_what_another_container_ends_with_is_not_the_processor_s_exit_code() -> None:
    sidecar = a_container("model", terminated={"exitCode": 41})
    pod = pod_of(a_pod_manifest(containers=[sidecar, a_container(running={})]))
    assert (pod.exit_code, pod.running) == (None, True)


def test_a_pod_without_a_status_is_one_that_waits() -> None:
    pod = pod_of({"metadata": {"name": "pod", "uid": "uid", "deletionTimestamp": "2026-11-23T09:00:00Z"}})
    assert (pod.exit_code, pod.running, pod.trouble) == (None, False, "")
    assert pod.deleting_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


UNSCHEDULED = condition("PodScheduled", "False", message="words")


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": "words"}}


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({"conditions": [UNSCHEDULED | {"reason": "Unschedulable"}]}, "Unschedulable"),
        ({"conditions": [UNSCHEDULED]}, "Unschedulable"),
        ({"containerStatuses": [a_container(**waiting("ImagePullBackOff"))]}, "ImagePullBackOff"),
        ({"initContainerStatuses": [a_container("model", **waiting("ErrImagePull"))]}, "ErrImagePull"),
        (
            {"containerStatuses": [a_container(terminated={"reason": "OOMKilled", "message": "words"})]},
            "OOMKilled",
        ),
    ],
)
def test_what_keeps_a_pod_from_running_is_found_with_its_words(status: dict[str, Any], trouble: str) -> None:
    pod = pod_of(a_pod_manifest(status=status))
    assert (pod.trouble, pod.message) == (trouble, "words")


@pytest.mark.parametrize("status", ["True", "Unknown"])
def test_a_pod_that_has_its_node_is_in_no_trouble(status: str) -> None:
    scheduled = {"conditions": [condition("Ready", "False"), condition("PodScheduled", status)]}
    assert pod_of(a_pod_manifest(status=scheduled)).trouble == ""


def test_a_job_knows_the_exit_codes_of_all_its_pods() -> None:
    pods = [a_pod_manifest(containers=[a_container(terminated={"exitCode": code})]) for code in (0, 75, 75)]
    job = parse_job(a_job_manifest(), [*pods, a_pod_manifest()])
    assert job.exit_codes == {Exit.DONE, Exit.INTERRUPTED}
