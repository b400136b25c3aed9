"""Manifests of the Jobs that do the work.

Pure. A Job is created once and never patched (kubernetes.md 5): what a wrong one needs is another one. What is read
back of Jobs is in `pods`, where a run may go and its model server in `placement`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nightshift_crds import names
from nightshift_crds.cluster.port import Manifest
from nightshift_crds.exits import NEVER_RETRY
from nightshift_crds.lines import LineOrder
from nightshift_crds.models import BatchJob, HostedModel, ModelService, Scheduling
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_operator.facts import Origin
from nightshift_operator.placement import QUEUE_LABEL, choose_scheduling, disruption_annotations, place_pod
from nightshift_operator.settings import Settings

CONTAINER = "processor"
MANAGED_BY = {"app.kubernetes.io/managed-by": "nightshift", "app.kubernetes.io/component": "processor"}
BATCH_LABEL = "nightshift.dev/batch"
STEP_LABEL = "nightshift.dev/step"
CLOSES_AT = "nightshift.dev/closes-at"
"""Annotation of a run Job: when the window of its model closes."""
METRICS_PORT = "metrics"
_JOB_SLACK_S = 900
_JOB_TTL_S = 3_600
_CA = "model-ca"
_CA_FOLDER = "/etc/nightshift/model-ca"


def build_job(batch: BatchJob, step: Step, model: HostedModel | None, input_key: str, settings: Settings) -> Manifest:
    """Build the Job of a step of a batch as it stands: its status has the attempt, the slices and the input."""
    if step is Step.RUN:
        return _build_run(batch, model, input_key, settings)
    values = _inspect_values(batch, settings) if step is Step.INSPECT else _seal_values(batch)
    env = _variables(_common_values(batch, input_key, settings) | values)
    return _build(batch, step, _build_pod(step, env, settings), settings)


def closing(job: Manifest, at: datetime | None) -> Manifest:
    """Note on a Job when it is to be stopped. Pure."""
    if at is None:
        return job
    annotations = job["metadata"].get("annotations", {}) | {CLOSES_AT: at.isoformat()}
    return job | {"metadata": job["metadata"] | {"annotations": annotations}}


def collecting(job: Manifest, origin: Origin | None) -> Manifest:
    """Have the `inspect` Job of a rerun write first what the batch has left that is run again. Pure."""
    return telling(job, after=_variables(_origin_values(origin))) if origin else job


def telling(job: Manifest, *, before: Sequence[Manifest] = (), after: Sequence[Manifest] = ()) -> Manifest:
    """Give the processor of a Job more variables; of two of one name the last one counts. Pure."""
    template = job["spec"]["template"]
    [container] = template["spec"]["containers"]
    told = container | {"env": [*before, *container["env"], *after]}
    pod = template["spec"] | {"containers": [told]}
    return job | {"spec": job["spec"] | {"template": template | {"spec": pod}}}


def _build_run(batch: BatchJob, model: HostedModel | None, input_key: str, settings: Settings) -> Manifest:
    if model is None:
        raise ValueError("a run needs a model")
    target, scheduling = _target_of(model), choose_scheduling(batch, model)
    pods = min(model.spec.shards, batch.status.slices or 1)
    values = _run_values(batch, target, settings) | {"SHARDS": pods}
    env = _variables(_common_values(batch, input_key, settings) | values)
    pod = _measured(_build_pod(Step.RUN, [*env, *target.env], settings), settings)
    placed = place_pod(_trusting(pod, model.spec.service), model, scheduling, settings.gpu_label)
    return _shared(_build(batch, Step.RUN, placed, settings, scheduling), pods)


def _shared(job: Manifest, pods: int) -> Manifest:
    """Have a Job done by several pods. Pure."""
    return job | {"spec": job["spec"] | {"completions": pods, "parallelism": pods}}


def _build(
    batch: BatchJob, step: Step, pod: Manifest, settings: Settings, scheduling: Scheduling | None = None
) -> Manifest:
    labels = MANAGED_BY | {BATCH_LABEL: batch.metadata.uid, STEP_LABEL: step.value}
    queue = {QUEUE_LABEL: scheduling.queue} if scheduling and scheduling.queue else {}
    annotations = {"annotations": notes} if scheduling and (notes := disruption_annotations(scheduling)) else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(batch.metadata.uid, step, batch.status.attempt),
            "namespace": batch.metadata.namespace,
            "labels": labels | queue,
            "ownerReferences": [batch.owner_reference().dump()],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": settings.backoff_limit,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "activeDeadlineSeconds": settings.completion_window_s + _JOB_SLACK_S,
            "ttlSecondsAfterFinished": _JOB_TTL_S,
            "template": {"metadata": {"labels": labels} | annotations, "spec": pod},
        },
    }


def _failure_rules() -> list[Manifest]:
    codes = {"containerName": CONTAINER, "operator": "In", "values": list(NEVER_RETRY)}
    return [
        {"action": "FailJob", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _build_pod(step: Step, env: list[Manifest], settings: Settings) -> Manifest:
    own = [
        {"name": name, "value": value} for name, _, value in (pair.partition("=") for pair in settings.processor_env)
    ]
    memory = {"memory": settings.processor_memory}
    container = {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["nightshift-processor"],
        "args": [step.value],
        "env": [*own, *env],  # of two of one name the last one counts
        "resources": {"requests": {"cpu": settings.processor_cpu} | memory, "limits": memory},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    secrets = [{"name": name} for name in settings.image_pull_secrets]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "tolerations": [{"key": key, "operator": "Exists"} for key in settings.tolerated_taints],
        "enableServiceLinks": False,  # a Service called nightshift would set NIGHTSHIFT_PORT
        "terminationGracePeriodSeconds": settings.grace_s,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch_size}}],
        **({"imagePullSecrets": secrets} if secrets else {}),
        **({"priorityClassName": settings.priority_class} if settings.priority_class else {}),
    }


def _measured(pod: Manifest, settings: Settings) -> Manifest:
    """Name the port of a pod that shows metrics, if it does: a PodMonitor finds it by that. Pure."""
    if not settings.processor_metrics_port:
        return pod
    [container] = pod["containers"]
    port = {"name": METRICS_PORT, "containerPort": settings.processor_metrics_port}
    return pod | {"containers": [container | {"ports": [port]}]}


# --- where a run sends its lines --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """A model server, as a processor is told of it; one beside it has nobody else to serve."""

    url: str
    max_concurrency: int
    service: ModelService | None = None
    env: tuple[Manifest, ...] = ()


def _target_of(model: HostedModel) -> _Target:
    service, server = model.spec.service, model.spec.server
    if service is not None:
        return _Target(service.url, service.max_concurrency, service, tuple(_service_variables(service)))
    if server is not None:
        return _Target(f"http://127.0.0.1:{server.port}", server.max_concurrency)
    raise ValueError("a run needs a model with a service or a server")


def _service_variables(service: ModelService) -> list[Manifest]:
    key, ca = service.api_key_secret, service.ca_secret
    reference = {"secretKeyRef": {"name": key.name, "key": key.key}} if key else {}
    return [
        *([{"name": "NIGHTSHIFT_MODEL_API_KEY", "valueFrom": reference}] if key else []),
        # OpenSSL's own variable: what the system trusts otherwise is a folder, and stays trusted.
        *([{"name": "SSL_CERT_FILE", "value": f"{_CA_FOLDER}/{ca.key}"}] if ca else []),
    ]


def _trusting(pod: Manifest, service: ModelService | None) -> Manifest:
    """Give a pod the certificates that its model server needs. Pure."""
    if service is None or service.ca_secret is None:
        return pod
    [container] = pod["containers"]
    mount = {"name": _CA, "mountPath": _CA_FOLDER, "readOnly": True}
    volume = {"name": _CA, "secret": {"secretName": service.ca_secret.name}}
    trusting = container | {"volumeMounts": [*container["volumeMounts"], mount]}
    return pod | {"containers": [trusting], "volumes": [*pod["volumes"], volume]}


# --- what a processor is told -----------------------------------------------------------------------------------------


def _common_values(batch: BatchJob, input_key: str, settings: Settings) -> dict[str, object]:
    uid = batch.metadata.uid
    return {"BUCKET": settings.bucket, "BATCH_UID": uid, "BATCH_ID": batch.id, "INPUT_KEY": input_key}


def _inspect_values(batch: BatchJob, settings: Settings) -> dict[str, object]:
    return {
        "ENDPOINT": batch.spec.endpoint,
        "MAX_FILE_BYTES": settings.max_file_bytes,
        "MAX_LINES": settings.max_lines,
        "MAX_LINE_BYTES": settings.max_line_bytes,
    }


def _origin_values(origin: Origin) -> dict[str, object]:
    checked, has_output = origin.batch.status.input, origin.batch.status.output_file_id is not None
    output_key = names.file_key(origin.batch.result_file_id(ResultKind.OUTPUT))
    return {
        "ORIGIN_INPUT_KEY": origin.input_key or "",
        **({"ORIGIN_INPUT_CRC32C": checked.crc32c} if checked else {}),
        **({"ORIGIN_OUTPUT_KEY": output_key} if has_output else {}),
    }


def _spool_values(batch: BatchJob) -> dict[str, object]:
    checked = batch.status.input
    return {"INPUT_CRC32C": checked.crc32c if checked else 0, "SLICES": batch.status.slices or 1}


def _seal_values(batch: BatchJob) -> dict[str, object]:
    return _spool_values(batch) | {
        "REASON": batch.status.sealing,
        "ITEMS": batch.status.counts.total - batch.reused,
        "REUSED": batch.reused,
        "OUTPUT_FILE_ID": batch.result_file_id(ResultKind.OUTPUT),
        "ERROR_FILE_ID": batch.result_file_id(ResultKind.ERROR),
    }


def _run_values(batch: BatchJob, target: _Target, settings: Settings) -> dict[str, object]:
    values = _spool_values(batch) | _sharing_values(target.service)
    return values | {
        "ENDPOINT": batch.spec.endpoint,
        "MODEL": batch.status.model or "",
        "METRICS_PORT": settings.processor_metrics_port,
        "ORDER": batch.status.order or LineOrder.FILE,
        "ATTEMPT": batch.status.attempt,
        "MODEL_URL": target.url,
        "MAX_CONCURRENCY": target.max_concurrency,
        "DEADLINE": batch.status.deadline.isoformat() if batch.status.deadline else "",
        "FLUSH_INTERVAL_S": settings.flush_interval_s,
        "FLUSH_BYTES": settings.flush_bytes,
        "REQUEST_TIMEOUT_S": settings.request_timeout_s,
        "MAX_TRIES": settings.max_tries,
        "MAX_ANSWER_BYTES": settings.max_answer_bytes,
        "ERROR_LINE_FORMAT": settings.error_line_format,
    }


def _sharing_values(service: ModelService | None) -> dict[str, object]:
    if service is None:
        return {"MODEL_IS_SHARED": False}
    return {"BATCH_SHARE": service.batch_share, "LATENCY_TOLERANCE": service.latency_tolerance}


def _variables(values: dict[str, object]) -> list[Manifest]:
    return [{"name": f"NIGHTSHIFT_{name}", "value": str(value)} for name, value in values.items()]
