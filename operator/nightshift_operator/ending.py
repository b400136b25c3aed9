"""From a cancel, a deadline, a failure or the last outcome to a terminal phase, and the clearing up behind it.

Pure. Once `sealing` is fixed there is one path, whatever the phase: stop the run Job, seal, record what the manifest
vouches for (design 5, steps 5 and 6).
"""

from datetime import datetime, timedelta

from nightshift_crds.lifecycle import TIMESTAMPS, Phase, Sealing
from nightshift_crds.models import BatchJobStatus
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import BatchManifest, SealedFile, counts_of, usage_of
from nightshift_operator.conditions import Kind, Reason, yes
from nightshift_operator.decisions import (
    Action,
    CreateJob,
    Decision,
    DeleteJob,
    DropResultFile,
    Event,
    FinishResultFile,
    PurgeScratch,
)
from nightshift_operator.facts import JobState, Sealed
from nightshift_operator.view import INTERNAL, TEARDOWN_POLL_S, View

_CLOCKS_DIFFER = timedelta(minutes=5)
"""How far the API's clock may be ahead of ours; a later time of a cancel was written by hand and is not believed."""
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
    text = "The batch is being cancelled."
    status = view.saying(status, yes(Kind.PROGRESSING, Reason.TEARING_DOWN, text))
    return view.to(status, event=Event("Cancelling", text))


def decide_cancelling(view: View) -> Decision:
    """Say what follows for a cancelled batch of which nothing has run."""
    if view.observed.inspect is not None:
        return view.tear_down(view.observed.inspect)
    return view.end(Phase.CANCELLED, view.stamped(), "Cancelled before anything ran.")


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
        return view.waiting(view.status, after_s=TEARDOWN_POLL_S)
    if observed.batch.phase is Phase.CANCELLING:  # a cancel ends as cancelled, however long sealing takes
        return view.waiting(view.status, DeleteJob(job.name, job.uid), after_s=TEARDOWN_POLL_S)
    return _give_up(view)


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
    text = f"{manifest.completed} of {total} lines completed, {manifest.failed} failed."
    return view.end(phase, status.model_copy(update=update), text, *_finish_files(view, sealed))


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


def _give_up(view: View) -> Decision:
    """End without a manifest: what ran stays in the logs."""
    status = view.stamped()
    status = status.model_copy(update={"errors": status.errors or [INTERNAL]})
    return view.end(Phase.FAILED, status, "The result files could not be made.")


def settle(view: View) -> Decision:
    """Clear up behind a batch that has ended, then let it leave every watch."""
    status, observed = view.status, view.observed
    if status.settled:
        return Decision()
    if observed.jobs:
        return view.tear_down(observed.jobs[0])
    ended_at: datetime = getattr(status, TIMESTAMPS[observed.batch.phase])
    left_s = (ended_at + view.policy.scratch_retention - view.now).total_seconds()
    if observed.sealed is not None and left_s > 0:
        return Decision(requeue_after_s=left_s)
    purge = (PurgeScratch(),) if observed.sealed is not None else ()
    return Decision(purge, status.model_copy(update={"settled": True}))
