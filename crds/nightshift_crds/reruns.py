"""Running a batch again: by which spec, and whether its rows can be told into those with a success and those without.

Pure. Every role asks here, so that all refuse the same batches in the same words. The batch that is run again is
the `origin`; it must have ended.
"""

from nightshift_crds.models import BatchError, BatchInput, BatchJob, BatchJobSpec, FilePhase, StoredFile


def find_obstacle(origin: BatchJob) -> BatchError | None:
    """Say why a batch that has ended cannot be run again."""
    counts, has_output = origin.status.counts, origin.status.output_file_id is not None
    if has_output and counts.completed == counts.total:
        return BatchError(code="nothing_to_rerun", message="Every row of the batch has a result.")
    is_rerun, began = origin.spec.input.rerun_of is not None, origin.status.input is not None
    if is_rerun and (not began or (origin.reused and not has_output)):
        message = "The batch is a rerun that took nothing over. Expected the batch that it was to run again."
        return BatchError(code="rerun_never_began", message=message)
    return None


def find_missing(origin: BatchJob, input_file: StoredFile | None, output_file: StoredFile | None) -> BatchError | None:
    """Say which file of a batch is gone that running it again needs; one that is None could not be found."""
    if origin.spec.input.file_id is not None and not _is_whole(input_file):
        return _missing("input", "input_file_id")
    if origin.status.output_file_id is not None and not _is_whole(output_file):
        return _missing("output", "output_file_id")
    return None


def rerun_spec(origin: BatchJob, **given: object) -> BatchJobSpec:
    """Write the spec of a batch that runs another one again: that one's, but for the fields that are given."""
    fresh = {"cancel_requested": False, "cancel_requested_at": None, "suspend": False}
    return origin.spec.model_copy(update={"input": BatchInput(rerun_of=origin.metadata.name), **fresh, **given})


def _is_whole(file: StoredFile | None) -> bool:
    return file is not None and file.status.phase is FilePhase.READY


def _missing(what: str, param: str) -> BatchError:
    message = f"The {what} file of the batch that is to be run again does not exist any more."
    return BatchError(code="file_missing", message=message, param=param)
