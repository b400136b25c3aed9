"""IN_PROGRESS: keep one Job at work until every slice has ended, the deadline comes, or nothing helps any more.

Pure.
"""

from dataclasses import replace
from datetime import datetime
from math import inf
from typing import assert_never

from nightshift_crds.exits import NEVER_RETRY, Exit
from nightshift_crds.judgement import find_model
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.models import BatchError, Counts, HostedModel
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import State, counts_of, usage_of
from nightshift_operator.conditions import Kind, Reason, Says, explain_hopeless, explain_run, no
from nightshift_operator.decisions import Action, CreateJob, Decision, DeleteJob, Event, EventReason, ShowResultFile
from nightshift_operator.facts import Job, JobState
from nightshift_operator.view import INTERNAL, SOON_S, TEARDOWN_POLL_S, View
from nightshift_operator.windows import closes_at, explain_closed, opens_at

_FORGOTTEN: dict[str, object] = dict.fromkeys(("job_name", "job_uid", "instance_type", "gpu_type"))
"""What a status says of an attempt."""
_PAUSES = frozenset({Reason.SUSPENDED, Reason.OFF_PEAK})
"""Why a Job is taken away though it has not failed."""


def decide_running(view: View) -> Decision:
    """Say what follows for a batch whose lines are being sent."""
    observed, job = view.observed, view.observed.run
    if observed.ended_at is not None and observed.ended_at <= view.deadline:
        status = view.entering(Phase.FINALIZING, view.sealing(Sealing.COMPLETED))
        return view.to(
            status, event=Event(EventReason.FINALIZING, "Every line has an outcome; a Job makes the result files.")
        )
    if view.is_late or observed.ended_at is not None:  # by the bucket's clock it ended too late
        event = Event(
            EventReason.EXPIRING,
            "The window has passed; what has not run goes to the error file as batch_expired.",
            warning=True,
        )
        return view.to(view.sealing(Sealing.EXPIRED), event=event)
    if job is not None and job.deleting_at is not None:
        return view.tear_down(job)
    if observed.batch.spec.suspend:
        text = "The batch is suspended and its clock runs on; set spec.suspend to false to go on."
        return _pause(view, no(Kind.SCHEDULED, Reason.SUSPENDED, text), job, view.until_deadline_s)
    return _start(view) if job is None else _follow(view, job)


def _follow(view: View, job: Job) -> Decision:
    match job.state:
        case JobState.ACTIVE:
            return _watch(view, job)
        case JobState.COMPLETE:
            text = "The Job is complete, but not every line has an outcome."
            return _try_again(view, job, no(Kind.SCHEDULED, Reason.RETRYING, text))
        case JobState.FAILED:
            return _judge_failure(view, job)
        case _:
            assert_never(job.state)


def _pause(view: View, says: Says, job: Job | None, after_s: float) -> Decision:
    actions = (DeleteJob(job.name, job.uid),) if job else ()
    return view.waiting(view.saying(view.stamped(), says), *actions, after_s=after_s)


def _stay_closed(view: View, model: HostedModel) -> Decision:
    """Wait for a window of the model; the batch has no Job."""
    windows = model.spec.windows
    says = no(Kind.SCHEDULED, Reason.OFF_PEAK, explain_closed(windows, view.now))
    opens = opens_at(windows, view.now)
    after_s = min(_until_s(view, opens), view.until_deadline_s)
    return _pause(view, says, None, after_s)


def _until_s(view: View, moment: datetime | None) -> float:
    return (moment - view.now).total_seconds() + SOON_S if moment else inf


def _start(view: View) -> Decision:
    status = view.stamped()
    model = find_model(view.observed.models, status.model or "", view.observed.batch.spec.endpoint)
    windows = model.spec.windows if model else []
    closes = closes_at(windows, view.now)
    if model and windows and closes is None:
        return _stay_closed(view, model)
    if status.job_uid is not None:  # the Job that we knew is gone: torn down for a pause, or deleted by somebody
        was_paused = any(c.type == Kind.SCHEDULED and c.reason in _PAUSES for c in status.conditions)
        text = "The batch was paused." if was_paused else "Somebody has deleted the Job."
        says = no(Kind.SCHEDULED, Reason.RETRYING, text)
        return _next_attempt(view, says, failed=not was_paused)
    if model is None:
        endpoint = view.observed.batch.spec.endpoint
        text = f"No HostedModel serves {status.model} on {endpoint} any more; make one, or cancel the batch."
        says = no(Kind.SCHEDULED, Reason.MODEL_MISSING, text)
        after_s = min(view.policy.progress_interval_s, view.until_deadline_s)
        return view.waiting(view.saying(status, says), after_s=after_s)
    status = view.saying(status, no(Kind.SCHEDULED, Reason.STARTING, "The pod of the processor is being started."))
    name = job_name(view.observed.batch.metadata.uid, Step.RUN, status.attempt)
    return view.to(status.model_copy(update={"job_name": name}), CreateJob(Step.RUN, model, closes))


def _watch(view: View, job: Job) -> Decision:
    if job.closes_at is not None and job.closes_at <= view.now:
        text = "The window of the model has closed; the batch goes on in the next one."
        return _pause(view, no(Kind.SCHEDULED, Reason.OFF_PEAK, text), job, view.until_deadline_s)
    hopeless = explain_hopeless(job, view.now, view.policy.max_model_restarts, view.policy.stuck_pod)
    if hopeless:
        return _try_again(view, job, hopeless)
    scheduled = explain_run(job)
    progressing = Says(Kind.PROGRESSING, scheduled.holds, scheduled.reason, scheduled.message)
    status = view.stamped().model_copy(update={"job_name": job.name, "job_uid": job.uid} | _machine(view))
    status = view.saying(status, scheduled, progressing)
    after_s = min(view.policy.progress_interval_s, view.until_deadline_s, _until_s(view, job.closes_at))
    if status != view.status:
        return Decision(status=status, requeue_after_s=after_s)
    progress = view.observed.progress
    if progress is None:
        return Decision(requeue_after_s=after_s)
    counts = counts_of(progress, status.counts.total, view.observed.batch.reused)
    if not _is_further(counts, status.counts):
        return Decision(requeue_after_s=after_s)
    copied = status.model_copy(update={"counts": counts, "usage": usage_of(progress.usage)})
    return Decision(_newly_visible(status.counts, progress), copied, requeue_after_s=after_s, is_progress=True)


def _machine(view: View) -> dict[str, str | None]:
    node = view.observed.node
    return {"instance_type": node.instance_type, "gpu_type": node.gpu_type} if node else {}


def _is_further(new: Counts, old: Counts) -> bool:
    """Tell whether progress counts more than a status; neither count may fall."""
    is_lower = new.completed < old.completed or new.failed < old.failed
    return not is_lower and new.completed + new.failed > old.completed + old.failed


def _newly_visible(counts: Counts, progress: State) -> tuple[Action, ...]:
    sizes = {ResultKind.OUTPUT: progress.output_bytes, ResultKind.ERROR: progress.error_bytes}
    known = {ResultKind.OUTPUT: counts.completed, ResultKind.ERROR: counts.failed}
    return tuple(ShowResultFile(kind, size) for kind, size in sizes.items() if size and not known[kind])


def _judge_failure(view: View, job: Job) -> Decision:
    codes = job.exit_codes
    if Exit.DEADLINE in codes:  # by the processor's clock; ours will follow
        return view.waiting(view.status, after_s=min(view.until_deadline_s, TEARDOWN_POLL_S))
    if Exit.BAD_INPUT in codes:
        message = "The input is not the file that was validated any more."
        return _fail(view, BatchError(code="invalid_request", message=message, param="input_file_id"))
    said = (job.message or "it gives no reason").removesuffix(".")
    why = no(Kind.SCHEDULED, Reason.CRASHED, f"The Job has failed: {said}. The logs of its pods say why.")
    return _fail(view, INTERNAL, why) if codes & set(NEVER_RETRY) else _try_again(view, job, why)


def _try_again(view: View, job: Job, why: Says) -> Decision:
    return _next_attempt(view, why, DeleteJob(job.name, job.uid), failed=True)


def _next_attempt(view: View, why: Says, *actions: Action, failed: bool) -> Decision:
    """Start anew, and give up after so many failures; the condition says why either way."""
    status = view.stamped()
    failures = status.failed_attempts + failed
    if failures >= view.policy.max_attempts:
        return _fail(view, INTERNAL, why)
    update = {"failed_attempts": failures, "attempt": status.attempt + 1}
    text = f"{why.message} Attempt {status.attempt + 1} goes on with what is left."
    says = replace(why, reason=Reason.RETRYING, message=text)
    status = view.saying(status.model_copy(update=update | _FORGOTTEN), says)
    event = Event(EventReason.RETRYING, text, warning=True) if failed else None
    return replace(view.to(status, *actions, event=event), retry=why.reason if failed else None)


def _fail(view: View, error: BatchError, why: Says | None = None) -> Decision:
    """Give a batch up that has run: what it has is sealed first."""
    status = view.sealing(Sealing.FAILED).model_copy(update={"errors": [error]})
    text = f"{why.message if why else error.message} The batch fails; what ran is kept."
    event = Event(EventReason.FAILING, text, warning=True)
    return view.to(view.saying(status, *([why] if why else [])), event=event)
