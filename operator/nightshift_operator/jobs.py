"""Manifests of the Jobs that do the work, and what is read back of them.

Pure. A Job is created once and never patched (kubernetes.md 5): what a wrong one needs is another one.
"""

from datetime import datetime
from typing import Any

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.exits import NEVER_RETRY
from nightshift_crds.models import BatchJob, HostedModel, ModelService
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_operator.facts import Job, JobState, Pod
from nightshift_operator.settings import Settings

CONTAINER = "processor"
MANAGED_BY = {"app.kubernetes.io/managed-by": "nightshift", "app.kubernetes.io/component": "processor"}
BATCH_LABEL = "nightshift.dev/batch"
STEP_LABEL = "nightshift.dev/step"
_JOB_SLACK_S = 900
_JOB_TTL_S = 3_600


# --- building ---------------------------------------------------------------------------------------------------------


def build_job(batch: BatchJob, step: Step, model: HostedModel | None, input_key: str, settings: Settings) -> Manifest:
    """Build the Job of a step of a batch as it stands: its status has the attempt, the slices and the input."""
    pods = (batch.status.slices or 1) if step is Step.RUN else 1
    labels = MANAGED_BY | {BATCH_LABEL: batch.metadata.uid, STEP_LABEL: step.value}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(batch.metadata.uid, step, batch.status.attempt),
            "namespace": batch.metadata.namespace,
            "labels": labels,
            "ownerReferences": [batch.owner_reference().dump()],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            "backoffLimit": settings.backoff_limit,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "activeDeadlineSeconds": settings.completion_window_s + _JOB_SLACK_S,
            "ttlSecondsAfterFinished": _JOB_TTL_S,
            "template": {
                "metadata": {"labels": labels},
                "spec": _build_pod(step, _build_env(batch, step, model, input_key, settings), settings),
            },
        },
    }


def _failure_rules() -> list[Manifest]:
    codes = {"containerName": CONTAINER, "operator": "In", "values": list(NEVER_RETRY)}
    return [
        {"action": "FailJob", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]


def _build_pod(step: Step, env: list[Manifest], settings: Settings) -> Manifest:
    container = {
        "name": CONTAINER,
        "image": settings.image,
        "command": ["nightshift-processor"],
        "args": [step.value],
        "env": env,
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": settings.grace_s,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch_size}}],
    }


def _build_env(
    batch: BatchJob, step: Step, model: HostedModel | None, input_key: str, settings: Settings
) -> list[Manifest]:
    values: dict[str, object] = {"BUCKET": settings.bucket, "BATCH_UID": batch.metadata.uid, "INPUT_KEY": input_key}
    match step:
        case Step.INSPECT:
            return _variables(values | _inspect_values(batch, settings))
        case Step.SEAL:
            return _variables(values | _spool_values(batch) | _seal_values(batch))
        case _:
            if model is None or model.spec.service is None:
                raise ValueError("a run needs a model with a service")
            service = model.spec.service
            run = _spool_values(batch) | _run_values(batch, service, settings)
            return [*_variables(values | run), *_secret_variables(service)]


def _inspect_values(batch: BatchJob, settings: Settings) -> dict[str, object]:
    return {
        "ENDPOINT": batch.spec.endpoint,
        "MAX_FILE_BYTES": settings.max_file_bytes,
        "MAX_LINES": settings.max_lines,
        "MAX_LINE_BYTES": settings.max_line_bytes,
    }


def _spool_values(batch: BatchJob) -> dict[str, object]:
    checked = batch.status.input
    return {"INPUT_CRC32C": checked.crc32c if checked else 0, "SLICES": batch.status.slices or 1}


def _seal_values(batch: BatchJob) -> dict[str, object]:
    return {
        "REASON": batch.status.sealing,
        "ITEMS": batch.status.counts.total,
        "OUTPUT_FILE_ID": batch.result_file_id(ResultKind.OUTPUT),
        "ERROR_FILE_ID": batch.result_file_id(ResultKind.ERROR),
    }


def _run_values(batch: BatchJob, service: ModelService, settings: Settings) -> dict[str, object]:
    return {
        "ENDPOINT": batch.spec.endpoint,
        "MODEL_URL": service.url,
        "MAX_CONCURRENCY": service.max_concurrency,
        "DEADLINE": batch.status.deadline.isoformat() if batch.status.deadline else "",
        "FLUSH_INTERVAL_S": settings.flush_interval_s,
        "FLUSH_BYTES": settings.flush_bytes,
        "REQUEST_TIMEOUT_S": settings.request_timeout_s,
        "MAX_TRIES": settings.max_tries,
        "MAX_ANSWER_BYTES": settings.max_answer_bytes,
        "ERROR_LINE_FORMAT": settings.error_line_format,
    }


def _variables(values: dict[str, object]) -> list[Manifest]:
    return [{"name": f"NIGHTSHIFT_{name}", "value": str(value)} for name, value in values.items()]


def _secret_variables(service: ModelService) -> list[Manifest]:
    if service.api_key_secret is None:
        return []
    source = {"secretKeyRef": {"name": service.api_key_secret.name, "key": service.api_key_secret.key}}
    return [{"name": "NIGHTSHIFT_MODEL_API_KEY", "valueFrom": source}]


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_job(manifest: Manifest, pods: list[Manifest]) -> Job:
    """Read a Job and its pods."""
    conditions = {c["type"]: c for c in _status(manifest).get("conditions", []) if c["status"] == "True"}
    state = next((s for name, s in _ENDS.items() if name in conditions), JobState.ACTIVE)
    return Job(
        name=manifest["metadata"]["name"],
        uid=manifest["metadata"]["uid"],
        state=state,
        message=conditions.get("Failed", {}).get("message", ""),
        suspended="Suspended" in conditions,
        deleting_at=_parse_time(manifest["metadata"].get("deletionTimestamp")),
        pods=tuple(_parse_pod(pod) for pod in pods),
    )


_ENDS = {"Complete": JobState.COMPLETE, "Failed": JobState.FAILED}


def _parse_pod(manifest: Manifest) -> Pod:
    status = _status(manifest)
    containers = {c["name"]: c for c in status.get("containerStatuses", [])}
    state: dict[str, Any] = containers.get(CONTAINER, {}).get("state", {})
    trouble, message = _find_trouble(status)
    return Pod(
        name=manifest["metadata"]["name"],
        uid=manifest["metadata"]["uid"],
        exit_code=state.get("terminated", {}).get("exitCode"),
        trouble=trouble,
        message=message,
        running="running" in state,
        deleting_at=_parse_time(manifest["metadata"].get("deletionTimestamp")),
    )


def _find_trouble(status: Manifest) -> tuple[str, str]:
    """Find what keeps a pod from running: no node, an image, its memory."""
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", "Unschedulable"), condition.get("message", "")
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = container.get("state", {})
        for part in (state.get("waiting", {}), state.get("terminated", {})):
            if part.get("reason") in _TROUBLES:
                return part["reason"], part.get("message", "")
    return "", ""


_TROUBLES = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "OOMKilled"})


def _status(manifest: Manifest) -> Manifest:
    status: Manifest = manifest.get("status", {})
    return status


def _parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
