"""Which batches can be run again, and what must be there of them."""

from typing import Any

import pytest

from nightshift_crds.models import BatchJob, StoredFile
from nightshift_crds.reruns import find_missing, find_obstacle
from tests.builders import FILE_ID, a_batch, a_file

READY = a_file(status={"phase": "Ready"})
CHECKED = {"key": "k", "bytes": 1, "crc32c": 1}
RERUN = {"input": {"rerunOf": "another"}}
BY_URI = {"input": {"uri": "gs://bucket/in.jsonl"}}


def ended(
    completed: int = 4, output: str | None = FILE_ID, spec: dict[str, Any] | None = None, **more: Any
) -> BatchJob:
    counts = {"total": 10, "completed": completed, "failed": 1}
    return a_batch(spec=spec, status={"counts": counts, "outputFileId": output, "input": CHECKED} | more)


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        (ended(), None),
        (ended(0, None), None),
        (ended(10), "nothing_to_rerun"),
        (ended(10, None), None),
        (a_batch(), None),
        (ended(spec=RERUN, reused=3), None),
        (ended(0, None, spec=RERUN, reused=0), None),
        (ended(10, spec=RERUN, reused=3), "nothing_to_rerun"),
        (ended(5, None, spec=RERUN, reused=3), "rerun_never_began"),
        (a_batch(spec=RERUN), "rerun_never_began"),
    ],
    ids=[
        "some rows succeeded",
        "none did",
        "all did",
        "all did, but their file could not be made",
        "refused by validation",
        "a rerun",
        "a rerun of a batch without a success",
        "a rerun after which nothing is left",
        "a rerun whose file could not be made",
        "a rerun that was refused",
    ],
)
def test_a_batch_can_be_run_again_if_it_has_rows_left_that_can_be_told(origin: BatchJob, code: str | None) -> None:
    problem = find_obstacle(origin)
    assert (problem.code if problem else None) == code


@pytest.mark.parametrize(
    ("origin", "input_file", "output_file", "param"),
    [
        (ended(), READY, READY, None),
        (ended(), None, READY, "input_file_id"),
        (ended(), a_file(status={"phase": "Writing"}), READY, "input_file_id"),
        (ended(), READY, None, "output_file_id"),
        (ended(output=None), READY, None, None),
        (ended(spec=BY_URI), None, READY, None),
        (ended(spec=BY_URI), None, None, "output_file_id"),
        (ended(spec=RERUN), None, READY, None),
    ],
)
def test_both_files_of_a_batch_are_needed_as_far_as_it_has_them(
    origin: BatchJob, input_file: StoredFile | None, output_file: StoredFile | None, param: str | None
) -> None:
    problem = find_missing(origin, input_file, output_file)
    assert (problem.param if problem else None) == param
