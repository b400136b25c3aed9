"""From a cancel, a deadline, a failure or the last outcome to a terminal phase, and the clearing up behind it.

Pure. Once `sealing` is fixed there is one path, whatever the phase: stop the run Job, seal, record what the manifest
vouches for (design 5, steps 5 and 6).
"""

from datetime import datetime, timedelta
from math import inf

from nightshift_crds.lifecycle import TIMESTAMPS, Phase, Sealing
from nightshift_crds.models import BatchJobStatus
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import BatchManifest, SealedFile, counts_of, usage_of
from nightshift_operator.conditions import Kind, Reason, explain_step, no, seals, yes
from nightshift_operator.decisions import (
    Action,
    CreateJob,
    Decision,
    DeleteJob,
    DropResultFile,
    Event,
    EventReason,
    FinishResultFile,
    PurgeScratch,
)
from nightshift_operator.facts import Job, JobState, Sealed
from nightshift_operator.telling import Telling, tell
from nightshift_operator.view import INTERNAL, TEARDOWN_POLL_S, View

_CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the API's clock may be ahead of ours; a later time of a cancel was written by hand and is not believed."""
SEAL_AGAIN_S = 180.0
"""How long a seal Job that did not do its work is left to a cancelled batch before another one is made: time to see the
condition and to read the logs of its pods. Less would gain little, for the Job has tried for minutes by itself
(`backoffLimit`) or has ended by an exit code that trying at once does not help; an hour, and its TTL would take it."""
_ENDS = {
    Phase.COMPLETED: "",
    Phase.FAILED: "The batch could not go on; what ran is kept: ",
    Phase.EXPIRED: "The window has passed; what ran is kept: ",
    Phase.CANCELLED: "The batch was cancelled; what ran is kept: ",
}
_END_OF = {
    Sealing.COMPLETED: Phase.COMPLETED,
    Sealing.CANCELLED: Phase.CANCELLED,
    Sealing.EXPIRED: Phase.EXPIRED,
    Sealing.FAILED: Phase.FAILED,
}


def start_cancelling(view: View) -> Decision:
    """Enter CANCELLING; a batch that has run will be sealed, with whatever reason is fixed already."""
    asked_at = view.observed.batch.spec.cancel_requested_at
    is_past = asked_at is not None and asked_at <= view.now + _CLOCKS_DIFFER
    status = view.entering(Phase.CANCELLING, view.stamped(), asked_at if is_past else None)
    if status.sealing is None and status.in_progress_at is not None:
        status = status.model_copy(update={"sealing": Sealing.CANCELLED})
    text = "A cancel was asked for; the processor is stopped, and what ran is kept."
    status = view.saying(status, yes(Kind.PROGRESSING, Reason.TEARING_DOWN, text))
    return view.to(status, event=Event(EventReason.CANCELLING, text))


def decide_cancelling(view: View) -> Decision:
    """Say what follows for a cancelled batch of which nothing has run."""
    if view.observed.inspect is not None:
        return view.tear_down(view.observed.inspect)
    return view.end(Phase.CANCELLED, view.stamped(), "The batch was cancelled before anything ran.")


def decide_sealing(view: View) -> Decision:
    """Say what follows for a batch whose sealing is fixed."""
    observed, job = view.observed, view.observed.seal
    if observed.run is not None and (observed.run.state is JobState.ACTIVE or observed.run.deleting_at):
        return view.tear_down(observed.run)
    if observed.sealed is not None:
        return _record(view, observed.sealed)
    if job is None:
        return view.waiting(view.status, CreateJob(Step.SEAL), after_s=TEARDOWN_POLL_S)
    if job.deleting_at is not None:
        return view.tear_down(job)
    if job.state is JobState.ACTIVE:
        return _watch_seal(view, job)
    if observed.batch.phase is Phase.CANCELLING:  # a cancel ends as cancelled, however long sealing takes
        return _seal_again(view, job)
    return _give_up(view, job)


def _watch_seal(view: View, job: Job) -> Decision:
    assert view.status.sealing is not None
    says = explain_step(seals(view.status.sealing), job)
    return view.waiting(view.saying(view.status, says), after_s=TEARDOWN_POLL_S)


def _seal_again(view: View, job: Job) -> Decision:
    """Leave a Job that did not do its work to whoever reads its logs, then make room for another one."""
    again_at = job.over_since + timedelta(seconds=SEAL_AGAIN_S)
    status = view.saying(view.status, no(Kind.PROGRESSING, Reason.SEAL_FAILED, _explain_unsealed(job, again_at)))
    if view.now < again_at:
        return view.waiting(status, after_s=(again_at - view.now).total_seconds())
    return view.waiting(status, DeleteJob(job.name, job.uid), after_s=TEARDOWN_POLL_S)


def _explain_unsealed(job: Job, again_at: datetime) -> str:
    """Say what comes next before what may be too long for a condition."""
    said = next((pod.message for pod in job.pods if pod.message), job.message) or "The Job gives no reason"
    again = f"another Job is made at {again_at:%Y-%m-%d %H:%M:%S} UTC, and until then the logs of its pods say why"
    return f"{_unsealed(job)}; {again}. {said.removesuffix('.')}."


def _unsealed(job: Job) -> str:
    codes = ", ".join(map(str, sorted(job.exit_codes))) or "none"
    return f"The result files could not be made (exit codes of the seal Job: {codes})"


def _record(view: View, sealed: Sealed) -> Decision:
    """Record what the manifest vouches for: files first, then one status that says it all."""
    manifest, status = sealed.manifest, view.stamped()
    total = status.counts.total
    is_sound = _adds_up(manifest, status)
    phase = _END_OF[manifest.reason] if is_sound else Phase.FAILED
    has_run = manifest.completed + manifest.failed > view.observed.batch.reused
    update: dict[str, object] = {
        "counts": counts_of(manifest, total),
        "usage": usage_of(manifest.usage) if has_run else None,
        "output_file_id": _id_of(manifest.files.get(ResultKind.OUTPUT)),
        "error_file_id": _id_of(manifest.files.get(ResultKind.ERROR)),
    }
    if not is_sound:
        update["errors"] = [INTERNAL]
    if status.phase is Phase.CANCELLING:
        phase = Phase.CANCELLED
    status = status.model_copy(update=update)
    text = f"{_ENDS[phase]}{manifest.completed} of {total} lines completed, {manifest.failed} failed."
    text += _blame(status, is_sound=is_sound) if phase is Phase.FAILED else ""
    return view.end(phase, status, text, *_finish_files(view, sealed))


def _blame(status: BatchJobStatus, *, is_sound: bool) -> str:
    if not is_sound:
        return " What was sealed does not add up, which is a bug of Nightshift: please report it."
    if status.errors == [INTERNAL]:
        return " The condition Scheduled says why."
    return "".join(f" {error.message}" for error in status.errors[:1])


def _id_of(file: SealedFile | None) -> str | None:
    return file.file_id if file else None


def _adds_up(manifest: BatchManifest, status: BatchJobStatus) -> bool:
    """Check a manifest against what was asked of it and what every ending promises (contract 10.4)."""
    output = manifest.files.get(ResultKind.OUTPUT)
    done, total = manifest.completed + manifest.failed, status.counts.total
    is_whole = done == total or (done < total and manifest.reason is not Sealing.COMPLETED)
    is_asked_for = manifest.reason is status.sealing
    return is_asked_for and is_whole and (output.lines if output else 0) == manifest.completed


def _finish_files(view: View, sealed: Sealed) -> list[Action]:
    seconds = view.observed.batch.spec.output_expires_after_seconds
    life = timedelta(seconds=seconds) if seconds else view.policy.default_expiry
    files = sealed.manifest.files
    return [
        FinishResultFile(kind, files[kind], sealed.at + life) if kind in files else DropResultFile(kind)
        for kind in ResultKind
    ]


def _give_up(view: View, job: Job) -> Decision:
    """End without a manifest: what ran stays in the logs."""
    text = f"{_unsealed(job)}; what ran stays in the bucket."
    status = view.stamped()
    status = status.model_copy(update={"errors": status.errors or [INTERNAL]})
    return view.end(Phase.FAILED, status, text)


def settle(view: View) -> Decision:
    """Tell who wants to know of the end, clear up behind a batch, then let it leave every watch.

    Logs wait for webhooks: removing them is done once, at the very end.
    """
    observed, told = view.observed, tell(view)
    if view.status.settled:
        return Decision()
    status = view.status.model_copy(update={"webhooks": told.deliveries})
    if observed.jobs:
        torn = view.tear_down(observed.jobs[0])
        return _look_again(status, view, told, torn.actions, TEARDOWN_POLL_S)
    scratch_s = _scratch_s(view)
    if scratch_s > 0 or told.after_s < inf:
        return _look_again(status, view, told, (), scratch_s if scratch_s > 0 else inf)
    purge = (PurgeScratch(),) if observed.sealed is not None else ()
    return Decision(purge, status.model_copy(update={"settled": True}), told.event)


def _scratch_s(view: View) -> float:
    """Tell for how long the logs of a batch are still kept."""
    if view.observed.sealed is None:
        return 0.0
    ended_at: datetime = getattr(view.status, TIMESTAMPS[view.observed.batch.phase])
    return (ended_at + view.policy.scratch_retention - view.now).total_seconds()


def _look_again(
    status: BatchJobStatus, view: View, told: Telling, actions: tuple[Action, ...], after_s: float
) -> Decision:
    news = status if status != view.status else None
    return Decision((*actions, *told.actions), news, told.event, requeue_after_s=min(after_s, told.after_s))
