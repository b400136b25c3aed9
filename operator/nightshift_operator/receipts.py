"""What a batch has used and what that costs: written with every status, and before anything is taken away.

Pure. GPU-seconds are counted pod by pod. The status has the sum, and of it what each pod had at the last write that was
there then, so that only what is new of a pod is added: the sum never falls, and nothing is in it twice, whoever crashed
where, for both are in one guarded write. A pod that is gone stays in the sum with what was seen of it.
"""

from dataclasses import replace
from datetime import datetime

from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.models import BatchJobStatus
from nightshift_crds.receipts import cost_of
from nightshift_operator.decisions import Decision, DeleteJob
from nightshift_operator.facts import Job, Pod
from nightshift_operator.view import View

_UID_DIGITS = 16
_MAX_PODS = 256
"""Pods of one attempt that are counted; more are not there unless nodes evict without end."""


def with_receipt(view: View, decision: Decision) -> Decision:
    """Have a decision write what was used; a batch that has ended is not touched any more."""
    if is_terminal(view.observed.batch.phase):
        return decision
    is_due, is_deleting = _is_due(view), _deletes_run(view, decision)
    if is_due and is_deleting:  # if we end between the two, nobody may ever see these pods again: first write
        return view.to(_receipted(view, view.status))
    status = _receipted(view, decision.status or view.status)
    if decision.status is not None or (is_deleting and status != view.status):
        return replace(decision, status=status)
    return replace(decision, status=status, is_progress=not decision.actions) if is_due else decision


def _deletes_run(view: View, decision: Decision) -> bool:
    run = view.observed.run
    return run is not None and DeleteJob(run.name, run.uid) in decision.actions


def _is_due(view: View) -> bool:
    """Tell whether a pod has ended or has gone on for a while since it was written last."""
    run, status, interval_s = view.observed.run, view.status, view.policy.progress_interval_s
    return run is not None and any(
        pod.gpu_seconds(view.now) - _known(status, pod) > (0 if pod.ended_at else interval_s * pod.gpus)
        for pod in _counted(status, run)
    )


def _receipted(view: View, status: BatchJobStatus) -> BatchJobStatus:
    """Write a receipt on a status."""
    if view.observed.run is not None:
        status = _metered(status, view.observed.run, view.now)
    if is_terminal(status.phase):
        status = status.model_copy(update={"gpu_seconds_by_pod": {}})
    if status.pricing is None:
        return status
    return status.model_copy(update={"cost": cost_of(status.pricing, status.usage, status.gpu_seconds)})


def _metered(status: BatchJobStatus, run: Job, now: datetime) -> BatchJobStatus:
    """Add what is new of the pods of a Job."""
    pods = _counted(status, run)
    if not pods and not status.gpu_seconds_by_pod:
        return status
    by_pod = {_key(pod): max(pod.gpu_seconds(now), _known(status, pod)) for pod in pods}
    new = sum(by_pod.values()) - sum(_known(status, pod) for pod in pods)
    return status.model_copy(
        update={"gpu_seconds": (status.gpu_seconds or 0) + new, "gpu_seconds_by_pod": dict(sorted(by_pod.items()))}
    )


def _counted(status: BatchJobStatus, run: Job) -> list[Pod]:
    """List the pods that hold GPUs; of too many none that is counted already is left out."""
    pods = [pod for pod in run.pods if pod.gpus and pod.started_at]
    return sorted(pods, key=lambda pod: (_key(pod) not in status.gpu_seconds_by_pod, pod.uid))[:_MAX_PODS]


def _known(status: BatchJobStatus, pod: Pod) -> int:
    return status.gpu_seconds_by_pod.get(_key(pod), 0)


def _key(pod: Pod) -> str:
    return pod.uid.replace("-", "")[:_UID_DIGITS]
