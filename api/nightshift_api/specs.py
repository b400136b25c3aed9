"""What a call asks for as the spec of a new batch, or why there cannot be one.

Pure.
"""

from nightshift_api.wire import CreateBatch, ExpiresAfter, RerunBatch
from nightshift_crds.asking import refuse
from nightshift_crds.errors import Conflict
from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.models import BatchError, BatchInput, BatchJob, BatchJobSpec
from nightshift_crds.reruns import rerun_spec


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
    return rerun_spec(origin, **{name: value for name, value in asked.items() if value is not None})


def _seconds(expiry: ExpiresAfter | None) -> int | None:
    return expiry.seconds if expiry else None


def refuse_unended(origin: BatchJob) -> None:
    """Raise `Conflict` for a batch that cannot be run again yet."""
    if not is_terminal(origin.phase):
        raise refuse(origin, "run again")


def refuse_for(problem: BatchError | None) -> None:
    """Raise `Conflict` for what holds up that a batch is run again."""
    if problem:
        raise Conflict(problem.message, code=problem.code, param=problem.param)
