"""What the conditions of a batch say: a closed set of reasons, and trouble with pods in words.

Pure. `docs/conditions.md` lists the reasons; people read them in `kubectl describe batchjob`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Sealing
from nightshift_crds.models import BatchJobStatus, Condition
from nightshift_operator.facts import Job, Pod, Trouble


class Kind(StrEnum):
    """The conditions that a batch has."""

    VALIDATED = "Validated"
    """Its input can be run."""
    SCHEDULED = "Scheduled"
    """A processor works on it."""
    PROGRESSING = "Progressing"
    """It is on its way to its end."""
    COMPLETE = "Complete"
    """Every line has an outcome and the files are sealed."""


class Reason(StrEnum):
    """Why a condition is as it is."""

    INPUT_ACCEPTED = "InputAccepted"
    """Validation found nothing wrong."""
    INPUT_REFUSED = "InputRefused"
    """Validation found errors, all of them in `status.errors`. Correct the input and create another batch."""
    WAITING_FOR_BATCH = "WaitingForBatch"
    """The batch that is to be run again has not ended yet."""
    INSPECTING = "Inspecting"
    """A Job checks an input that no upload has checked; that of a rerun it collects first."""
    RUNNING = "Running"
    """The processor sends lines."""
    STARTING = "Starting"
    """The pod is on its way, and nothing is wrong with it so far."""
    NO_NODE = "NoNode"
    """No node can take the pod: no GPU is free, or none matches. Free or add a node, or change what the HostedModel
    asks for; the message has the scheduler's words."""
    IMAGE_PULL = "ImagePull"
    """An image cannot be pulled. Check its name and the Secret that it is pulled with."""
    OUT_OF_MEMORY = "OutOfMemory"
    """A container was killed for its memory. Raise its limit: `NIGHTSHIFT_PROCESSOR_MEMORY`, or `spec.server.resources`
    of the HostedModel."""
    MISCONFIGURED = "Misconfigured"
    """A container cannot be made: a Secret or a volume is missing, or its image wants to run as root. The message says
    which; make it, or correct the HostedModel."""
    MODEL_LOADING = "ModelLoading"
    """The model server beside the processor does not answer yet. It has `spec.server.startupSeconds` for it."""
    MODEL_CRASHED = "ModelCrashed"
    """The model server beside the processor ends, or does not answer in time, and is started again. The log of its
    container `model` says why."""
    CRASHED = "Crashed"
    """The processor ended with an error and is started again. The log of its pod says why."""
    WAITING_FOR_QUOTA = "WaitingForQuota"
    """The Job is suspended until its queue admits it; Kueue's Workload of that Job says what it waits for."""
    MODEL_MISSING = "ModelMissing"
    """The HostedModel of the batch is gone, or does not serve its endpoint any more. Make one, or cancel the batch."""
    SUSPENDED = "Suspended"
    """The batch is suspended by its spec. Set `spec.suspend` to false to go on."""
    OFF_PEAK = "OffPeak"
    """The batch waits for a window in which its model runs batches; the message says when the next one opens."""
    RETRYING = "Retrying"
    """A Job ended without doing its work, and another one goes on. So many are made: `NIGHTSHIFT_MAX_ATTEMPTS`."""
    SEALING = "Sealing"
    """A Job makes the result files."""
    SEAL_FAILED = "SealFailed"
    """The Job that makes the result files of a cancelled batch did not do its work. The logs of its pods say why, and
    stay until another one is made, as long as none works; the message has the exit codes, and says when."""
    TEARING_DOWN = "TearingDown"
    """A cancel was asked for, and the processor is being stopped. What ran is kept."""
    COMPLETED = "Completed"
    """The end: every line has an outcome."""
    FAILED = "Failed"
    """The end: the input was refused, or the batch could not go on. `status.errors` says why."""
    EXPIRED = "Expired"
    """The end: the window passed first. What ran is kept."""
    CANCELLED = "Cancelled"
    """The end: somebody cancelled it. What ran is kept."""


_TROUBLES = {
    Trouble.NO_NODE: Reason.NO_NODE,
    Trouble.IMAGE_PULL: Reason.IMAGE_PULL,
    Trouble.MISCONFIGURED: Reason.MISCONFIGURED,
    Trouble.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    Trouble.MODEL_LOADING: Reason.MODEL_LOADING,
    Trouble.MODEL_CRASHED: Reason.MODEL_CRASHED,
}
_STUCK = frozenset({Trouble.IMAGE_PULL, Trouble.MISCONFIGURED})
"""What a pod that has its node will not get out of by waiting, though it holds its GPU."""


@dataclass(frozen=True)
class Says:
    """What a condition shall say; `holds` None is unknown."""

    kind: Kind
    holds: bool | None
    reason: Reason
    message: str


def yes(kind: Kind, reason: Reason, message: str) -> Says:
    """Say that a condition holds."""
    return Says(kind, holds=True, reason=reason, message=message)


def no(kind: Kind, reason: Reason, message: str) -> Says:
    """Say that a condition does not hold."""
    return Says(kind, holds=False, reason=reason, message=message)


def with_condition(status: BatchJobStatus, says: Says, now: datetime) -> BatchJobStatus:
    """Set a condition; its transition time moves only when its value does."""
    text: Literal["True", "False", "Unknown"] = "Unknown" if says.holds is None else "True" if says.holds else "False"
    old = next((c for c in status.conditions if c.type == says.kind), None)
    since = old.last_transition_time if old and old.status == text else now
    new = Condition(
        type=says.kind, status=text, reason=says.reason, message=says.message[:1024], last_transition_time=since
    )
    others = [c for c in status.conditions if c.type != says.kind]
    return status.model_copy(update={"conditions": sorted([*others, new], key=lambda c: c.type)})


def explain_run(job: Job) -> Says:
    """Say whether a run Job works, and if not, why, in words."""
    if job.suspended:
        text = "The Job is suspended until its queue admits it; its Workload says what that waits for."
        return no(Kind.SCHEDULED, Reason.WAITING_FOR_QUOTA, text)
    if any(pod.is_working for pod in job.pods):
        return yes(Kind.SCHEDULED, Reason.RUNNING, "The processor is sending lines.")
    if troubled := _explain_trouble(job):
        return troubled
    if failures := job.exit_codes - {Exit.DONE}:
        codes = ", ".join(map(str, sorted(failures)))
        text = f"The processor ended with exit code {codes} and is started again; its log says why."
        return no(Kind.SCHEDULED, Reason.CRASHED, text)
    return no(Kind.SCHEDULED, Reason.STARTING, "The pod of the processor is being started.")


def explain_hopeless(job: Job, now: datetime, max_model_restarts: int, stuck: timedelta) -> Says | None:
    """Say why a run Job is not waited for any longer; None if it may still do its work."""
    for pod in (pod for pod in job.pods if pod.is_open):
        if pod.model_restarts >= max_model_restarts:
            again = (
                f"The model server beside the processor was started again {pod.model_restarts} times; its log says why."
            )
            return _explain_pod(pod) or no(Kind.SCHEDULED, Reason.MODEL_CRASHED, again)
        if pod.trouble in _STUCK and pod.scheduled_at is not None and pod.scheduled_at + stuck <= now:
            return _explain_pod(pod)
    return None


def seals(reason: Sealing) -> Says:
    """Say that the result files of a batch are made."""
    return yes(Kind.PROGRESSING, Reason.SEALING, f"The batch ends as {reason}; a Job makes its result files.")


def explain_step(says: Says, job: Job) -> Says:
    """Say what a batch does while a Job is at work for it, or why that Job is not at work."""
    troubled = _explain_trouble(job)
    if troubled is None:
        return says
    holds = None if says.holds is None else False
    return replace(says, holds=holds, reason=troubled.reason, message=troubled.message)


def _explain_trouble(job: Job) -> Says | None:
    return next((says for pod in job.pods if (says := _explain_pod(pod))), None)


def _explain_pod(pod: Pod) -> Says | None:
    if pod.trouble is None:
        return None
    return no(
        Kind.SCHEDULED, _TROUBLES[pod.trouble], pod.message or f"The pod {pod.name} is in trouble: {pod.trouble}."
    )
