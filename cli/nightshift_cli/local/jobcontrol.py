"""What a Job controller does, for the part of it that our Jobs use: pods per index, retries, the ways to end.

Pure. Kubernetes' rules (kubernetes.md 5.1): a pod failure policy judges exit codes first, disruptions are never
counted, an index gets its next pod when the last is gone, after a delay that doubles. The delays are shorter here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from nightshift_crds.cluster.port import Manifest

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
JOB_LABEL = "batch.kubernetes.io/job-name"
_BACKOFF_S = 0.5
_BACKOFF_CAP_S = 60.0
_TTL_S = 3_600


class Verdict(Enum):
    """What a failed pod means for its Job."""

    COUNT = auto()
    IGNORE = auto()
    FAIL_JOB = auto()


@dataclass(frozen=True)
class Ending:
    """How a Job ends."""

    condition: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Plan:
    """What follows for a Job.

    Attributes:
        indexes: indexes that get a pod now.
        surplus: pods that are of no use any more.
        again_at: when another index may get one.
    """

    indexes: tuple[int, ...] = ()
    surplus: tuple[str, ...] = ()
    ending: Ending | None = None
    again_at: datetime | None = None


def plan(job: Manifest, pods: Sequence[Manifest], now: datetime) -> Plan:
    """Say what follows for a Job that has not ended."""
    failed = [(pod, judge(job, pod)) for pod in pods if phase_of(pod) == "Failed"]
    ending = _find_ending(job, pods, failed, now)
    active = [pod for pod in pods if phase_of(pod) in {"Pending", "Running"}]
    if ending:  # told only once no pod runs any more: until then one may still be writing
        return Plan(surplus=tuple(pod["metadata"]["name"] for pod in active), ending=None if active else ending)
    busy = {index_of(pod) for pod in pods if phase_of(pod) == "Succeeded"} | {index_of(pod) for pod in active}
    due = {
        i: _next_start([p for p, v in failed if index_of(p) == i and v is Verdict.COUNT]) for i in _indexes(job) - busy
    }
    ready = tuple(sorted(i for i, at in due.items() if at is None or at <= now))
    later = [at for at in due.values() if at is not None and at > now]
    return Plan(ready, again_at=_earliest([*later, _deadline(job)]))


def judge(job: Manifest, pod: Manifest) -> Verdict:
    """Judge a failed pod by the Job's failure policy: the first rule that matches."""
    for rule in job["spec"].get("podFailurePolicy", {}).get("rules", []):
        if _matches(rule, pod):
            return {"FailJob": Verdict.FAIL_JOB, "Ignore": Verdict.IGNORE}.get(rule["action"], Verdict.COUNT)
    return Verdict.COUNT


def _matches(rule: Manifest, pod: Manifest) -> bool:
    codes = rule.get("onExitCodes")
    if codes:
        return exit_code_of(pod, codes.get("containerName")) in codes["values"]
    wanted = {(c["type"], c.get("status", "True")) for c in rule.get("onPodConditions", [])}
    return bool(wanted & {(c["type"], c["status"]) for c in pod.get("status", {}).get("conditions", [])})


def _find_ending(
    job: Manifest, pods: Sequence[Manifest], failed: Sequence[tuple[Manifest, Verdict]], now: datetime
) -> Ending | None:
    for pod, verdict in failed:
        if verdict is Verdict.FAIL_JOB:
            message = f"A container of pod {pod['metadata']['name']} failed with exit code {exit_code_of(pod)}."
            return Ending("Failed", "PodFailurePolicy", message)
    if {index_of(pod) for pod in pods if phase_of(pod) == "Succeeded"} >= _indexes(job):
        return Ending("Complete")
    counted = sum(verdict is Verdict.COUNT and not _is_deleting(pod) for pod, verdict in failed)
    if counted > job["spec"].get("backoffLimit", 6):
        return Ending("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit.")
    deadline = _deadline(job)
    if deadline is not None and deadline <= now:
        return Ending("Failed", "DeadlineExceeded", "Job was active longer than specified deadline.")
    return None


def _deadline(job: Manifest) -> datetime | None:
    started, seconds = job.get("status", {}).get("startTime"), job["spec"].get("activeDeadlineSeconds")
    return datetime.fromisoformat(started) + timedelta(seconds=seconds) if started and seconds else None


def expiry_of(job: Manifest) -> datetime | None:
    """Tell when a Job that has ended is removed; None while it has not ended."""
    ended = job.get("status", {}).get("completionTime")
    if ended is None:
        return None
    return datetime.fromisoformat(ended) + timedelta(seconds=job["spec"].get("ttlSecondsAfterFinished", _TTL_S))


def _next_start(failures: Sequence[Manifest]) -> datetime | None:
    """Tell when an index gets its next pod; None is at once."""
    if not failures:
        return None
    delay_s = min(_BACKOFF_CAP_S, _BACKOFF_S * 2.0 ** min(len(failures) - 1, 10))
    return max(ended_at(pod) for pod in failures) + timedelta(seconds=delay_s)


def _earliest(moments: Sequence[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment), default=None)


def _indexes(job: Manifest) -> set[int]:
    return set(range(job["spec"].get("completions", 1)))


# --- reading pods -----------------------------------------------------------------------------------------------------


def phase_of(pod: Manifest) -> str:
    """Tell a pod's phase; a new one is Pending."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def _is_deleting(pod: Manifest) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def index_of(pod: Manifest) -> int:
    """Tell which part of its Job a pod works on."""
    return int(pod["metadata"]["annotations"][INDEX_ANNOTATION])


def _terminated(pod: Manifest, container: str | None = None) -> Manifest:
    for status in pod.get("status", {}).get("containerStatuses", []):
        if container in {None, status["name"]}:
            found: Manifest = status["state"].get("terminated", {})
            return found
    return {}


def exit_code_of(pod: Manifest, container: str | None = None) -> int | None:
    """Tell how a pod's process ended."""
    code: int | None = _terminated(pod, container).get("exitCode")
    return code


def ended_at(pod: Manifest) -> datetime:
    """Tell when a pod's process ended."""
    return datetime.fromisoformat(_terminated(pod)["finishedAt"])


# --- building ---------------------------------------------------------------------------------------------------------


def build_pod(job: Manifest, index: int, suffix: str) -> Manifest:
    """Build the pod of an index."""
    metadata, template = job["metadata"], job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{index}-{suffix}",
            "namespace": metadata["namespace"],
            "labels": template.get("metadata", {}).get("labels", {}) | {JOB_LABEL: metadata["name"]},
            "annotations": {INDEX_ANNOTATION: str(index)},
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
    }


def build_job_status(job: Manifest, pods: Sequence[Manifest], ending: Ending | None, now: datetime) -> dict[str, Any]:
    """Build a Job's status as its controller writes it."""
    phases = [phase_of(pod) for pod in pods]
    status: dict[str, Any] = {
        "startTime": job.get("status", {}).get("startTime") or _text(now),
        "active": sum(phase in {"Pending", "Running"} for phase in phases),
        "succeeded": phases.count("Succeeded"),
        "failed": phases.count("Failed"),
    }
    if ending:
        condition = {"type": ending.condition, "status": "True", "reason": ending.reason, "message": ending.message}
        status["conditions"] = [condition | {"lastTransitionTime": _text(now)}]
        status["completionTime"] = _text(now)
    return status


def build_pod_status(container: str, exit_code: int | None, now: datetime, *, disrupted: bool) -> dict[str, Any]:
    """Build a pod's status: running while there is no exit code, then succeeded or failed."""
    if exit_code is None:
        state = {"name": container, "state": {"running": {"startedAt": _text(now)}}}
        return {"phase": "Running", "startTime": _text(now), "containerStatuses": [state]}
    terminated = {"exitCode": exit_code, "finishedAt": _text(now)}
    status: dict[str, Any] = {
        "phase": "Failed" if exit_code else "Succeeded",
        "containerStatuses": [{"name": container, "state": {"running": None, "terminated": terminated}}],
    }
    if disrupted:
        status["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    return status


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
