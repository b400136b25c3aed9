"""The manifests of Jobs, held against what a processor can read, and what is read back of Jobs and pods."""

from typing import Any

import pytest

from nightshift_crds.exits import NEVER_RETRY, Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import CHAT, ErrorForm, LineOrder
from nightshift_crds.models import BatchJob, HostedModel
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_operator.jobs import BATCH_LABEL, CONTAINER, MANAGED_BY, METRICS_PORT, build_job, closing
from nightshift_operator.placement import MODEL_CONTAINER
from nightshift_operator.pods import parse_job
from nightshift_operator.settings import Settings
from nightshift_processor.settings import HttpClient, InspectSettings, RunSettings, SealSettings, StepSettings
from tests.builders import BATCH_UID, FILE_ID, MODEL, NAMESPACE, T0, a_batch, a_model, timestamp
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
SERVICE = {"url": "http://model:8000/v1", "maxConcurrency": 12, "batchShare": 0.25, "latencyTolerance": 4.5}


def a_running_batch(**status: Any) -> BatchJob:
    return a_batch(status=a_status(Phase.IN_PROGRESS, **status))


def a_served_model(server: dict[str, Any] | None = None, **more: Any) -> HostedModel:
    return a_model(service=None, server={"image": "vllm:1"} | (server or {}) | more)


def job_of(step: Step, batch: BatchJob | None = None, model: HostedModel | None = None) -> dict[str, Any]:
    batch = batch or a_running_batch(sealing=Sealing.CANCELLED, slices=3, attempt=2)
    return build_job(batch, step, model or a_model(service=SERVICE), KEY, SETTINGS)


def env_of(job: dict[str, Any]) -> dict[str, str]:
    """Give the environment as a pod of the Job has it; secrets hold 's3cret' and a newline."""
    [container] = job["spec"]["template"]["spec"]["containers"]
    return {v["name"]: v.get("value", "s3cret\n") for v in container["env"]} | {"JOB_COMPLETION_INDEX": "2"}


# --- metrics and logs -------------------------------------------------------------------------------------------------


def test_a_run_is_told_where_it_shows_metrics_and_by_which_names_it_counts() -> None:
    settings = SETTINGS.model_copy(update={"processor_metrics_port": 9464})
    job = build_job(a_running_batch(), Step.RUN, a_served_model(), KEY, settings)
    read = RunSettings.load(env_of(job))
    assert (read.metrics_port, read.model, read.batch_id) == (9464, MODEL, a_running_batch().id)
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": METRICS_PORT, "containerPort": 9464}]


def test_other_steps_and_runs_that_show_nothing_open_no_port() -> None:
    settings = SETTINGS.model_copy(update={"processor_metrics_port": 9464})
    seal = build_job(a_running_batch(sealing=Sealing.COMPLETED), Step.SEAL, None, KEY, settings)
    for job in (seal, job_of(Step.RUN)):
        [container] = job["spec"]["template"]["spec"]["containers"]
        assert "ports" not in container
    assert RunSettings.load(env_of(job_of(Step.RUN))).metrics_port == 0


@pytest.mark.parametrize("step", list(Step))
def test_every_step_is_told_the_id_that_its_lines_of_the_log_have(step: Step) -> None:
    assert env_of(job_of(step))["NIGHTSHIFT_BATCH_ID"] == a_running_batch().id


# --- what the processor reads -----------------------------------------------------------------------------------------


def test_a_run_reads_out_of_its_job_all_that_the_operator_was_told() -> None:
    read = RunSettings.load(env_of(job_of(Step.RUN)))
    assert (read.bucket, read.batch_uid, read.input_key, read.input_crc32c) == ("gs://bucket", BATCH_UID, KEY, 7)
    assert (read.endpoint, str(read.model_url), read.max_concurrency) == (CHAT, "http://model:8000/v1", 12)
    assert (read.deadline, read.slices, read.shards, read.index) == (DEADLINE, 3, 1, 2)
    assert (read.attempt, read.order) == (2, LineOrder.FILE)
    assert (read.flush_interval_s, read.flush_bytes, read.request_timeout_s) == (4.5, 1_005, 106.5)
    assert (read.max_tries, read.max_answer_bytes, read.error_line_format) == (7, 1_008, ErrorForm.OPENAI)
    assert (read.model_is_shared, read.batch_share, read.latency_tolerance) == (True, 0.25, 4.5)
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


def test_a_run_beside_a_model_server_sends_to_it() -> None:
    read = RunSettings.load(env_of(job_of(Step.RUN, model=a_served_model(port=8123, maxConcurrency=99))))
    assert (str(read.model_url), read.max_concurrency) == ("http://127.0.0.1:8123/", 99)
    assert not read.model_is_shared
    assert read.model_api_key is None


@pytest.mark.parametrize("spot", [True, False], ids=["without other annotations", "beside those of the pod"])
def test_a_job_knows_when_it_is_to_be_stopped(spot: bool) -> None:
    job = job_of(Step.RUN, model=a_model(scheduling={"spot": spot}))
    closed = closing(job, DEADLINE)
    assert parse_job(with_uid(closed), []).closes_at == DEADLINE
    assert closed["spec"] == job["spec"]
    assert parse_job(with_uid(closing(job, None)), []).closes_at is None


def with_uid(job: dict[str, Any]) -> dict[str, Any]:
    return job | {"metadata": job["metadata"] | {"uid": "run-uid", "creationTimestamp": timestamp(T0)}}


def test_an_installation_may_choose_the_http_client_of_its_processors() -> None:
    settings = SETTINGS.model_copy(update={"processor_env": ("NIGHTSHIFT_HTTP_CLIENT=aiohttp",)})
    job = build_job(a_running_batch(slices=3), Step.RUN, a_model(service=SERVICE), KEY, settings)
    assert RunSettings.load(env_of(job)).http_client is HttpClient.AIOHTTP
    assert RunSettings.load(env_of(job_of(Step.RUN))).http_client is HttpClient.THIN


def test_variables_of_the_installation_come_before_those_of_the_job_so_that_they_replace_none() -> None:
    settings = SETTINGS.model_copy(update={"processor_env": ("STORAGE_EMULATOR_HOST=http://gcs:4443/?a=b", "A=")})
    for step in Step:
        env = build_job(a_running_batch(), step, a_model(), KEY, settings)["spec"]["template"]["spec"]["containers"][0][
            "env"
        ]
        assert env[:2] == [
            {"name": "STORAGE_EMULATOR_HOST", "value": "http://gcs:4443/?a=b"},
            {"name": "A", "value": ""},
        ]


@pytest.mark.parametrize("model", [None, a_model(service=None)])
def test_a_run_without_a_server_to_send_to_is_a_bug(model: HostedModel | None) -> None:
    with pytest.raises(ValueError, match="a run needs a model"):
        build_job(a_running_batch(), Step.RUN, model, KEY, SETTINGS)


# --- what Kubernetes reads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "pods"), [(Step.RUN, 3), (Step.SEAL, 1), (Step.INSPECT, 1)])
def test_a_run_has_a_pod_per_shard_of_its_model_and_every_other_step_one(step: Step, pods: int) -> None:
    batch = a_running_batch(sealing=Sealing.CANCELLED, slices=24)
    spec = job_of(step, batch, a_model(service=SERVICE, shards=3))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", pods, pods)


@pytest.mark.parametrize(("slices", "shards", "pods"), [(None, 4, 1), (1, 4, 1), (2, 4, 2), (24, 4, 4), (24, 1, 1)])
def test_no_pod_is_without_a_slice_and_each_knows_how_many_share_them(
    slices: int | None, shards: int, pods: int
) -> None:
    job = job_of(Step.RUN, a_running_batch(slices=slices), a_model(service=SERVICE, shards=shards))
    read = RunSettings.load(env_of(job))
    assert (job["spec"]["completions"], read.shards, read.slices) == (pods, pods, slices or 1)


def test_a_run_sends_in_the_order_that_its_batch_began_with() -> None:
    job = job_of(Step.RUN, a_running_batch(order=LineOrder.PREFIX))
    assert RunSettings.load(env_of(job)).order is LineOrder.PREFIX


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


def test_a_pod_has_the_requests_secrets_and_the_priority_of_the_installation() -> None:
    update = {"image_pull_secrets": ("a", "b"), "priority_class": "batch", "processor_memory": "1Gi"}
    settings = SETTINGS.model_copy(update=update)
    for step in Step:
        pod = build_job(a_running_batch(), step, a_model(), KEY, settings)["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert container["resources"] == {
            "requests": {"cpu": "100m", "memory": "1Gi"},
            "limits": {"memory": "1Gi"},
        }
        assert (pod["imagePullSecrets"], pod["priorityClassName"]) == ([{"name": "a"}, {"name": "b"}], "batch")
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_a_pod_has_neither_secrets_nor_priority_if_none_is_set() -> None:
    assert not {"imagePullSecrets", "priorityClassName"} & set(job_of(Step.SEAL)["spec"]["template"]["spec"])


def test_a_service_may_bring_certificates_of_its_own() -> None:
    model = a_model(service=SERVICE | {"caSecret": {"name": "ca", "key": "ca.crt"}})
    pod = job_of(Step.RUN, model=model)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [volume] = [v for v in pod["volumes"] if "secret" in v]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == volume["name"]]
    assert volume["secret"] == {"secretName": "ca"}
    assert mount["readOnly"]
    assert {"name": "SSL_CERT_FILE", "value": f"{mount['mountPath']}/ca.crt"} in container["env"]


def test_a_queue_finds_the_job_by_its_label_and_the_pod_does_not_carry_it() -> None:
    job = job_of(Step.RUN, model=a_model(service=SERVICE, scheduling={"queue": "gpus"}))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("step", Step)
def test_every_pod_tolerates_the_taints_that_the_settings_name(step: Step) -> None:
    settings = SETTINGS.model_copy(update={"tolerated_taints": ("nvidia.com/gpu", "team")})
    pod = build_job(a_running_batch(), step, a_model(scheduling={"spot": True}), KEY, settings)["spec"]["template"][
        "spec"
    ]
    wanted = [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "team", "operator": "Exists"}]
    assert [toleration for toleration in pod["tolerations"] if toleration["operator"] == "Exists"] == wanted


def test_a_seal_waits_for_no_queue_and_no_gpu() -> None:
    job = job_of(Step.SEAL, model=a_served_model(server={"nodeSelector": {"a": "b"}}))
    pod = job["spec"]["template"]["spec"]
    assert not {"initContainers", "nodeSelector"} & set(pod)
    assert pod["tolerations"] == []
    assert "annotations" not in job["spec"]["template"]["metadata"]


@pytest.mark.parametrize(("spot", "is_asked"), [(False, True), (True, False), (None, True)])
def test_autoscalers_leave_a_run_alone_but_on_spot_nodes(spot: bool | None, is_asked: bool) -> None:
    scheduling = {} if spot is None else {"spot": spot}
    template = job_of(Step.RUN, model=a_model(service=SERVICE, scheduling=scheduling))["spec"]["template"]
    notes = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
    assert template["metadata"].get("annotations", {}) == (notes if is_asked else {})


def test_the_failures_of_a_model_server_are_not_held_against_the_job() -> None:
    job = job_of(Step.RUN, model=a_served_model())
    [sidecar] = job["spec"]["template"]["spec"]["initContainers"]
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert sidecar["name"] == MODEL_CONTAINER
    assert [rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule] == [CONTAINER]
