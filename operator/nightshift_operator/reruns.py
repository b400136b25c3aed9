"""Whether a batch can be run again: what its rerun must say, and what must be there until its rows are taken over.

Pure. Once the verdict of the `inspect` Job stands, the rerun has all that it needs, whatever becomes of the other one.
"""

from nightshift_crds.lifecycle import is_terminal
from nightshift_crds.models import BatchError
from nightshift_crds.reruns import find_missing, find_obstacle
from nightshift_operator.facts import Observed, Origin


def is_early(observed: Observed) -> bool:
    """Tell whether the batch that is to be run again has not ended."""
    return observed.origin is not None and observed.verdict is None and not is_terminal(observed.origin.batch.phase)


def find_origin_problem(observed: Observed) -> BatchError | None:
    """Say why a rerun cannot be."""
    if observed.verdict is not None:
        return None
    if observed.origin is None:
        return _refused("The batch that is to be run again does not exist.", "rerun_of")
    if observed.origin.batch.metadata.uid == observed.batch.metadata.uid:
        return _refused("A batch cannot run itself again.", "rerun_of")
    if observed.origin.batch.spec.endpoint != observed.batch.spec.endpoint:
        return _refused("Expected the endpoint of the batch that is to be run again.", "endpoint")
    return None if is_early(observed) else _find_rest_problem(observed.origin)


def _find_rest_problem(origin: Origin) -> BatchError | None:
    """Say what holds up that the rows of a batch which has ended are taken over."""
    problem = find_obstacle(origin.batch) or find_missing(origin.batch, origin.input_file, origin.output_file)
    if problem is None and origin.input_key is None:
        return _refused("Expected an input that this namespace may still read.", "input_file_id")
    return problem


def _refused(message: str, param: str) -> BatchError:
    return BatchError(code="invalid_request", message=message, param=param)
