"""VALIDATING, situation by situation: what is compared, what is refused, and what an accepted batch starts with."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import LineOrder
from nightshift_crds.models import StoredFile
from nightshift_crds.names import Step
from nightshift_operator.conditions import Kind, Reason
from nightshift_operator.decide import decide
from nightshift_operator.decisions import CreateJob, CreateResultFiles
from nightshift_operator.facts import Job, JobState, Observed, Pod, Trouble
from nightshift_operator.validating import count_slices
from nightshift_operator.view import Policy
from tests.builders import FILE_ID, MODEL, a_file, a_model, a_verdict
from tests.operator.builders import (
    DEADLINE,
    EMBEDDINGS,
    LATE,
    NOW,
    POLICY,
    SETTINGS,
    a_job,
    decided,
    observed,
    refusal,
    status_of,
)

BY_URI = {"input": {"uri": "gs://bucket/shared/in.jsonl"}}


@pytest.mark.parametrize("phase", [None, Phase.VALIDATING])
def test_a_valid_input_lets_the_batch_run(phase: Phase | None) -> None:
    decision = decided(observed(phase))
    status = status_of(decision)
    assert decision.actions == (CreateResultFiles(),)
    assert (status.phase, status.in_progress_at, status.deadline) == (Phase.IN_PROGRESS, NOW, DEADLINE)
    assert (status.counts.total, status.counts.completed, status.counts.failed) == (10, 0, 0)
    assert (status.model, status.attempt, status.slices) == (MODEL, 1, 1)


def test_what_was_checked_is_written_down_so_that_the_processor_can_refuse_other_bytes() -> None:
    checked = status_of(decided(observed())).input
    assert checked is not None
    assert (checked.key, checked.bytes, checked.crc32c) == (f"openai/files/{FILE_ID}.jsonl", 500, 7)


@pytest.mark.parametrize(
    ("shards", "lines", "slices"),
    [
        (1, 10, 1),
        (1, 50_000, 1),
        (4, 3, 3),
        (4, 10, 4),
        (4, 250, 5),
        (4, 1_599, 31),
        (4, 1_600, 32),
        (4, 50_000, 32),
        (64, 50_000, 512),
    ],
)
def test_several_shards_have_several_slices_each_as_far_as_there_are_lines(
    shards: int, lines: int, slices: int
) -> None:
    verdict = a_verdict().model_copy(update={"lines": lines})
    seen = observed(models=(a_model(shards=shards),), verdict=verdict)
    assert status_of(decided(seen)).slices == slices


@given(st.integers(1, 200_000), st.integers(1, 64), st.integers(1, 1_024))
def test_there_are_never_more_slices_than_lines_nor_than_a_status_can_say(
    lines: int, shards: int, per_shard: int
) -> None:
    slices = count_slices(lines, shards, per_shard)
    assert min(shards, lines) <= slices <= min(lines, 1_024)
    assert slices <= min(shards, lines) or lines / slices >= 50


@pytest.mark.parametrize("order", LineOrder)
def test_a_batch_keeps_the_order_of_lines_that_it_begins_with(order: LineOrder) -> None:
    policy = Policy.of(SETTINGS.model_copy(update={"prefix_order": order is LineOrder.PREFIX}))
    assert status_of(decide(observed(), NOW, policy)).order is order


def test_the_slices_are_those_of_the_model_that_serves_the_endpoint() -> None:
    seen = observed(models=(a_model(endpoints=[EMBEDDINGS], shards=8), a_model(shards=2)))
    assert status_of(decided(seen)).slices == 2


@pytest.mark.parametrize(
    "file",
    [
        None,
        a_file(),
        a_file(status={"phase": "Writing"}),
        a_file(spec={"purpose": "batch_output"}, status={"phase": "Ready"}),
    ],
    ids=["deleted", "never finished", "still being written", "another purpose"],
)
def test_an_input_file_that_cannot_be_used_is_refused(file: StoredFile | None) -> None:
    assert refusal(observed(input_file=file)) == ("invalid_request", "input_file_id")


def test_an_input_by_a_uri_that_the_namespace_may_not_read_is_refused() -> None:
    assert refusal(observed(spec=BY_URI, input_file=None, input_key=None)) == ("invalid_request", "input_file_id")


def test_a_model_whose_server_is_started_for_the_batch_lets_it_run() -> None:
    server = a_model(service=None, server={"image": "vllm:1"})
    assert status_of(decided(observed(models=(server,)))).phase is Phase.IN_PROGRESS


@pytest.mark.parametrize(
    ("overridable", "refused"),
    [
        ([], ["scheduling.gpuType", "scheduling.spot"]),
        (["spot"], ["scheduling.gpuType"]),
        (["gpuType", "spot", "queue"], []),
    ],
)
def test_a_batch_may_set_only_what_its_model_lets_it_set(overridable: list[str], refused: list[str]) -> None:
    model = a_model(overridable=overridable)
    seen = observed(spec={"scheduling": {"gpuType": "nvidia-h100", "spot": False}}, models=(model,))
    status = status_of(decided(seen))
    assert [(error.code, error.param) for error in status.errors] == [("invalid_request", param) for param in refused]
    assert status.phase is (Phase.FAILED if refused else Phase.IN_PROGRESS)


def test_errors_of_lines_come_before_those_of_the_scheduling() -> None:
    seen = observed(spec={"scheduling": {"spot": True}}, models=())
    assert {error.code for error in status_of(decided(seen)).errors} == {"model_not_found"}


def test_a_batch_that_names_another_model_than_its_lines_is_refused() -> None:
    assert refusal(observed(spec={"model": "other:1b"})) == ("mismatched_model", "model")


def test_a_batch_that_names_the_model_of_its_lines_runs() -> None:
    assert status_of(decided(observed(spec={"model": MODEL}))).phase is Phase.IN_PROGRESS


def test_a_refusal_names_every_error_and_tells_people_how_many() -> None:
    decision = decided(observed(models=()))
    status = status_of(decision)
    assert [error.line for error in status.errors] == list(range(1, 11))
    assert status.counts.total == 0
    said = {c.type: c.reason for c in status.conditions}
    assert said[Kind.VALIDATED] == Reason.INPUT_REFUSED
    assert decision.event
    assert decision.event.message.startswith("The input has 10 errors")
    assert decision.actions == ()


# --- inspection -------------------------------------------------------------------------------------------------------


def unchecked(job: Job | None = None, **facts: Any) -> Observed:
    return observed(
        spec=BY_URI, **({"input_file": None, "input_key": "in.jsonl", "verdict": None} | facts), inspect=job
    )


@pytest.mark.parametrize("verdict", [None, a_verdict(endpoint=EMBEDDINGS)])
def test_an_input_that_nobody_has_checked_for_the_endpoint_is_inspected(verdict: Any) -> None:
    decision = decided(unchecked(verdict=verdict))
    assert decision.actions == (CreateJob(Step.INSPECT),)
    assert status_of(decision).phase is Phase.VALIDATING
    assert [c.reason for c in status_of(decision).conditions] == [Reason.INSPECTING]


def test_an_inspection_that_works_is_waited_for() -> None:
    decision = decided(unchecked(a_job(Step.INSPECT)))
    assert decision.actions == ()
    assert decision.requeue_after_s == POLICY.progress_interval_s
    late = decided(unchecked(a_job(Step.INSPECT)), DEADLINE - timedelta(seconds=2))
    assert late.requeue_after_s == 3


@pytest.mark.parametrize("job", [None, a_job(Step.INSPECT), a_job(Step.INSPECT, JobState.FAILED, 1)])
def test_a_verdict_counts_whatever_became_of_the_job_that_left_it(job: Job | None) -> None:
    assert status_of(decided(unchecked(job, verdict=a_verdict()))).phase is Phase.IN_PROGRESS


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (a_job(Step.INSPECT, JobState.FAILED, Exit.BAD_INPUT), ("invalid_request", "input_file_id")),
        (a_job(Step.INSPECT, JobState.FAILED, 1), ("internal_error", None)),
        (a_job(Step.INSPECT, JobState.COMPLETE, 0), ("internal_error", None)),
    ],
)
def test_an_inspection_that_ends_without_a_verdict_fails_the_batch(job: Job, error: tuple[str, str | None]) -> None:
    assert refusal(unchecked(job)) == error


# --- too late ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [None, a_job(Step.INSPECT), a_job(Step.INSPECT, JobState.FAILED, 1)])
def test_a_batch_whose_input_was_not_checked_in_time_expires_without_files(job: Job | None) -> None:
    decision = decided(unchecked(job), LATE)
    status = status_of(decision)
    assert (status.phase, status.expired_at, status.sealing) == (Phase.EXPIRED, LATE, None)
    assert decision.actions == ()


def test_a_batch_whose_input_is_accepted_too_late_is_sealed_with_every_line_expired() -> None:
    decision = decided(observed(), LATE)
    status = status_of(decision)
    assert (status.phase, status.sealing, status.in_progress_at) == (Phase.VALIDATING, Sealing.EXPIRED, None)
    assert (status.counts.total, status.slices) == (10, 1)
    assert decision.actions == (CreateResultFiles(),)


def test_a_bad_input_that_is_looked_at_too_late_still_fails() -> None:
    assert refusal(observed(verdict=a_verdict(lines=0)), LATE) == ("empty_file", None)


def test_an_inspection_that_cannot_start_says_why() -> None:
    stuck = a_job(Step.INSPECT, pods=(Pod("p", "u", trouble=Trouble.IMAGE_PULL, message="No such image."),))
    status = status_of(decided(observed(spec=BY_URI, verdict=None, inspect=stuck)))
    [condition] = [condition for condition in status.conditions if condition.type == Kind.VALIDATED]
    assert (condition.status, condition.reason, condition.message) == ("Unknown", Reason.IMAGE_PULL, "No such image.")
