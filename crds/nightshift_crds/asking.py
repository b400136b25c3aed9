"""What a person asks of the spec of a batch: the patch, or nothing if it is so already, or why it cannot be.

Pure. API and command line ask here, so that both allow the same. Patches are guarded by the version that was read, so
that whoever writes in between is looked at again.
"""

from datetime import datetime
from typing import Any

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.errors import Conflict
from nightshift_crds.lifecycle import Phase, Sealing, is_terminal
from nightshift_crds.models import BatchJob

_LOST = frozenset({Sealing.EXPIRED, Sealing.FAILED})


def ask_to_cancel(batch: BatchJob, now: datetime) -> Manifest | None:
    """Ask for a cancel, which is kept whatever happens then. Raises `Conflict`."""
    if batch.visible_phase in {Phase.CANCELLING, Phase.CANCELLED}:
        return None
    if is_terminal(batch.phase) or batch.status.sealing in _LOST:
        raise refuse(batch, "cancelled")
    asked = now.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    return _patch(batch, cancelRequested=True, cancelRequestedAt=asked)


def ask_to_suspend(batch: BatchJob) -> Manifest | None:
    """Ask that nothing of it runs for a while. Raises `Conflict`."""
    return _switch(batch, "suspended", suspend=True)


def ask_to_resume(batch: BatchJob) -> Manifest | None:
    """Ask that it goes on. Raises `Conflict`."""
    return _switch(batch, "resumed", suspend=False)


def _switch(batch: BatchJob, what: str, *, suspend: bool) -> Manifest | None:
    if is_terminal(batch.phase) or batch.visible_phase is Phase.CANCELLING:
        raise refuse(batch, what)
    return None if batch.spec.suspend is suspend else _patch(batch, suspend=suspend)


def _patch(batch: BatchJob, **spec: Any) -> Manifest:
    return {"metadata": {"resourceVersion": batch.metadata.resource_version}, "spec": spec}


def refuse(batch: BatchJob, what: str) -> Conflict:
    """Say that a batch is not in a state for something."""
    return Conflict(f"A batch that is {batch.visible_phase.lower()} cannot be {what}.")
