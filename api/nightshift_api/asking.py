"""What a call on a batch asks of its spec: the patch, or nothing if it is so already, or why it cannot be.

Pure. Patches are guarded by the version that was read, so that whoever writes in between is looked at again.
"""

from datetime import datetime
from typing import Any

from nightshift_api.rendering import visible_phase
from nightshift_api.wire import CreateBatch, ExpiresAfter, RerunBatch
from nightshift_crds.cluster.port import Manifest
from nightshift_crds.errors import Conflict
from nightshift_crds.lifecycle import Phase, Sealing, is_terminal
from nightshift_crds.models import BatchError, BatchInput, BatchJob, BatchJobSpec

_LOST = frozenset({Sealing.EXPIRED, Sealing.FAILED})


def ask_to_cancel(batch: BatchJob, now: datetime) -> Manifest | None:
    """Ask for a cancel, which is kept whatever happens then. Raises `Conflict`."""
    if visible_phase(batch) in {Phase.CANCELLING, Phase.CANCELLED}:
        return None
    if is_terminal(batch.phase) or batch.status.sealing in _LOST:
        raise _refuse(batch, "cancelled")
    asked = now.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    return _patch(batch, cancelRequested=True, cancelRequestedAt=asked)


def ask_to_suspend(batch: BatchJob) -> Manifest | None:
    """Ask that nothing of it runs for a while. Raises `Conflict`."""
    return _switch(batch, "suspended", suspend=True)


def ask_to_resume(batch: BatchJob) -> Manifest | None:
    """Ask that it goes on. Raises `Conflict`."""
    return _switch(batch, "resumed", suspend=False)


def _switch(batch: BatchJob, what: str, *, suspend: bool) -> Manifest | None:
    if is_terminal(batch.phase) or visible_phase(batch) is Phase.CANCELLING:
        raise _refuse(batch, what)
    return None if batch.spec.suspend is suspend else _patch(batch, suspend=suspend)


def _patch(batch: BatchJob, **spec: Any) -> Manifest:
    return {"metadata": {"resourceVersion": batch.metadata.resource_version}, "spec": spec}


def _refuse(batch: BatchJob, what: str) -> Conflict:
    return Conflict(f"A batch that is {visible_phase(batch).lower()} cannot be {what}.")


# --- specs of new batches ---------------------------------------------------------------------------------------------


def build_spec(body: CreateBatch) -> BatchJobSpec:
    """Write the spec of a batch over a file."""
    return BatchJobSpec(
        input=BatchInput(file_id=body.input_file_id),
        endpoint=body.endpoint,
        metadata=body.metadata,
        output_expires_after_seconds=_seconds(body.output_expires_after),
    )


def build_rerun(origin: BatchJob, body: RerunBatch) -> BatchJobSpec:
    """Write the spec of a batch that runs another one again: that one's, but for what is asked otherwise."""
    asked = {"metadata": body.metadata, "output_expires_after_seconds": _seconds(body.output_expires_after)}
    fresh = {"cancel_requested": False, "cancel_requested_at": None, "suspend": False}
    given = {name: value for name, value in asked.items() if value is not None}
    return origin.spec.model_copy(update={"input": BatchInput(rerun_of=origin.metadata.name), **fresh, **given})


def _seconds(expiry: ExpiresAfter | None) -> int | None:
    return expiry.seconds if expiry else None


def refuse_unended(origin: BatchJob) -> None:
    """Raise `Conflict` for a batch that cannot be run again yet."""
    if not is_terminal(origin.phase):
        raise _refuse(origin, "run again")


def refuse_for(problem: BatchError | None) -> None:
    """Raise `Conflict` for what holds up that a batch is run again."""
    if problem:
        raise Conflict(problem.message, code=problem.code, param=problem.param)
