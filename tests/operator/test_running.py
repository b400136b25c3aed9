"""IN_PROGRESS, situation by situation: the Job, the end of the slices, the deadline, suspend, and what has failed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJobStatus, Condition, HostedModel
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import State
from nightshift_operator.conditions import Kind, Reason
from nightshift_operator.decisions import CreateJob, Decision, DeleteJob, ForceDeletePod, ShowResultFile
from nightshift_operator.facts import Job, JobState, Node, Observed, Pod, Trouble
from tests.builders import BATCH_UID, T0, a_model
from tests.operator.builders import (
    DEADLINE,
    EMBEDDINGS,
    LATE,
    NOW,
    POLICY,
    a_job,
    a_status,
    after,
    decided,
    observed,
    status_of,
)

SUSPENDED = Condition(type=Kind.SCHEDULED, status="False", reason=Reason.SUSPENDED, last_transition_time=T0)


def running(job: Job | None = None, *, status: dict[str, Any] | None = None, **facts: Any) -> Observed:
    """Observe a running batch; without more it knows of no Job yet."""
    fresh = {"jobName": None, "jobUID": None}
    return observed(status=a_status(Phase.IN_PROGRESS) | fresh | (status or {}), run=job, **facts)


def scheduled(status: BatchJobStatus) -> tuple[str, str]:
    return next((c.status, c.reason) for c in status.conditions if c.type == Kind.SCHEDULED)


# --- starting ---------------------------------------------------------------------------------------------------------


def test_a_batch_without_a_job_gets_one_under_the_name_of_its_attempt() -> None:
    decision = decided(running())
    assert decision.actions == (CreateJob(Step.RUN, a_model()),)
    assert status_of(decision).job_name == job_name(BATCH_UID, Step.RUN, 1)


@pytest.mark.parametrize(
    "models",
    [(), (a_model("other"),), (a_model(endpoints=[EMBEDDINGS]),)],
    ids=["none", "another", "one for another endpoint"],
)
def test_a_batch_whose_model_cannot_be_reached_any_more_says_so_and_waits(models: tuple[HostedModel, ...]) -> None:
    decision = decided(running(models=models))
    assert decision.actions == ()
    assert scheduled(status_of(decision)) == ("False", Reason.MODEL_MISSING)
    assert decision.requeue_after_s == POLICY.progress_interval_s


def test_a_job_of_ours_is_noted_with_its_uid() -> None:
    status = status_of(decided(running(a_job())))
    assert (status.job_name, status.job_uid) == (job_name(BATCH_UID, Step.RUN, 1), "run-uid")


# --- while it runs ----------------------------------------------------------------------------------------------------


def watched(progress: State | None = None, **status: Any) -> Observed:
    """Observe a batch whose running pod is known already."""
    job = a_job(pods=(Pod("pod", "uid", running=True),))
    seen = running(job, status=status)
    return replace(after(seen, decided(seen)), progress=progress)


def test_a_batch_of_which_nothing_is_new_is_left_alone_for_a_while() -> None:
    assert decided(watched()) == Decision(requeue_after_s=POLICY.progress_interval_s)


def test_progress_is_copied_and_may_wait_for_its_budget() -> None:
    usage = Usage(input_tokens=9, output_tokens=3, total_tokens=12)
    decision = decided(watched(State(completed=6, failed=2, usage=usage)))
    status = status_of(decision)
    assert decision.is_progress
    assert (status.counts.completed, status.counts.failed, status.counts.total) == (6, 2, 10)
    assert status.usage is not None
    assert status.usage.total_tokens == 12


@pytest.mark.parametrize("progress", [State(), State(completed=3, failed=9), State(completed=9)])
def test_progress_in_which_a_count_is_lower_is_not_copied(progress: State) -> None:
    assert decided(watched(progress)).status is None


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (State(completed=1, output_bytes=10), (ShowResultFile(ResultKind.OUTPUT, 10),)),
        (State(failed=1, error_bytes=20), (ShowResultFile(ResultKind.ERROR, 20),)),
        (
            State(completed=1, failed=1, output_bytes=10, error_bytes=20),
            (ShowResultFile(ResultKind.OUTPUT, 10), ShowResultFile(ResultKind.ERROR, 20)),
        ),
    ],
)
def test_a_result_file_is_shown_with_its_first_line(progress: State, shown: tuple[ShowResultFile, ...]) -> None:
    assert decided(watched(progress, counts={"total": 10})).actions == shown


def test_a_result_file_that_is_shown_is_not_shown_again() -> None:
    progress = State(completed=6, failed=2, output_bytes=10, error_bytes=20)
    assert decided(watched(progress)).actions == ()


def test_the_next_look_is_not_after_the_deadline() -> None:
    assert decided(watched(), DEADLINE - timedelta(seconds=3)).requeue_after_s == 4


def test_a_batch_of_which_no_line_is_durable_has_no_usage_yet() -> None:
    assert decided(watched(State(), counts={"total": 10})).status is None


def test_trouble_of_a_pod_is_told_before_progress_is() -> None:
    seen = replace(watched(State(completed=9, failed=1)), run=a_job(pods=(Pod("p", "u", trouble=Trouble.IMAGE_PULL),)))
    status = status_of(decided(seen))
    assert scheduled(status) == ("False", Reason.IMAGE_PULL)
    assert status.counts.completed == 4


# --- the end of the lines and the deadline ----------------------------------------------------------------------------


@pytest.mark.parametrize("now", [NOW, LATE], ids=["seen in time", "seen late"])
@pytest.mark.parametrize("job", [None, a_job(state=JobState.COMPLETE), a_job(state=JobState.FAILED), a_job()])
def test_a_batch_whose_slices_all_ended_in_time_is_finalized_whatever_its_job_says(
    job: Job | None, now: datetime
) -> None:
    decision = decided(running(job, ended_at=DEADLINE), now)
    status = status_of(decision)
    assert (status.phase, status.sealing, status.finalizing_at) == (Phase.FINALIZING, Sealing.COMPLETED, now)
    assert decision.event
    assert decision.event.reason == "Finalizing"


@pytest.mark.parametrize("ended_at", [None, DEADLINE + timedelta(seconds=1)])
def test_a_batch_that_has_not_ended_by_its_deadline_expires(ended_at: datetime | None) -> None:
    decision = decided(running(a_job(), ended_at=ended_at), LATE)
    assert (status_of(decision).phase, status_of(decision).sealing) == (Phase.IN_PROGRESS, Sealing.EXPIRED)


def test_the_bucket_s_clock_decides_that_slices_ended_too_late_even_if_ours_is_behind() -> None:
    seen = running(a_job(state=JobState.COMPLETE), ended_at=DEADLINE + timedelta(seconds=1))
    assert status_of(decided(seen, DEADLINE - timedelta(seconds=1))).sealing is Sealing.EXPIRED


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job",
    [
        a_job(state=JobState.COMPLETE),
        a_job(Step.RUN, JobState.COMPLETE, 0),
        a_job(Step.RUN, JobState.FAILED, 1),
        a_job(Step.RUN, JobState.FAILED, 137, Exit.INTERRUPTED),
        a_job(state=JobState.FAILED, message="Job was active longer than specified deadline"),
    ],
)
def test_a_job_that_ended_without_doing_its_work_is_replaced_by_another(job: Job) -> None:
    decision = decided(running(job))
    status = status_of(decision)
    assert decision.actions == (DeleteJob(job.name, job.uid),)
    assert (status.attempt, status.failed_attempts, status.job_uid) == (2, 1, None)
    assert scheduled(status) == ("False", Reason.RETRYING)
    assert decision.event
    assert decision.event.warning


def test_a_job_that_vanished_counts_as_a_failure_of_its_attempt() -> None:
    status = status_of(decided(running(None, status={"jobUID": "run-uid"})))
    assert (status.attempt, status.failed_attempts) == (2, 1)


@pytest.mark.parametrize("job", [None, a_job(state=JobState.COMPLETE), a_job(state=JobState.FAILED)])
def test_the_third_failure_is_the_last_and_what_ran_is_sealed(job: Job | None) -> None:
    decision = decided(running(job, status={"failedAttempts": 2, "attempt": 5, "jobUID": "run-uid"}))
    status = status_of(decision)
    assert (status.phase, status.sealing, status.attempt) == (Phase.IN_PROGRESS, Sealing.FAILED, 5)
    assert [error.code for error in status.errors] == ["internal_error"]
    assert decision.event
    assert decision.event.warning


@pytest.mark.parametrize(
    ("exit_code", "error", "param"),
    [
        (Exit.BAD_INPUT, "invalid_request", "input_file_id"),
        (Exit.BAD_SETTINGS, "internal_error", None),
        (Exit.CONFLICT, "internal_error", None),
        (49, "internal_error", None),
    ],
)
def test_a_failure_that_would_come_again_is_not_tried_again(exit_code: int, error: str, param: str | None) -> None:
    status = status_of(decided(running(a_job(Step.RUN, JobState.FAILED, 0, exit_code))))
    assert status.sealing is Sealing.FAILED
    assert [(e.code, e.param) for e in status.errors] == [(error, param)]


def test_a_processor_whose_clock_is_ahead_at_the_deadline_is_not_blamed() -> None:
    seen = running(a_job(Step.RUN, JobState.FAILED, Exit.DEADLINE))
    decision = decided(seen, DEADLINE - timedelta(seconds=2))
    assert (decision.status, decision.actions, decision.requeue_after_s) == (None, (), 3)
    assert status_of(decided(seen, DEADLINE + POLICY.clock_skew)).sealing is Sealing.EXPIRED


def crashing(**more: Any) -> Job:
    pod = Pod("p", "u", trouble=Trouble.MODEL_CRASHED, message="Exit code 1.", model_restarts=POLICY.max_model_restarts)
    return a_job(pods=(replace(pod, **more),))


def test_a_model_server_that_keeps_dying_costs_an_attempt_and_the_condition_says_why() -> None:
    decision = decided(running(crashing()))
    status = status_of(decision)
    assert decision.actions == (DeleteJob(a_job().name, "run-uid"),)
    assert (status.attempt, status.failed_attempts) == (2, 1)
    assert scheduled(status) == ("False", Reason.RETRYING)
    assert decision.event
    assert decision.event.message == "Exit code 1. Attempt 2 goes on with what is left."


def test_a_model_server_that_keeps_dying_fails_its_batch_in_the_end_and_everybody_is_told_why() -> None:
    decision = decided(running(crashing(), status={"failedAttempts": POLICY.max_attempts - 1}))
    status = status_of(decision)
    assert status.sealing is Sealing.FAILED
    assert [error.code for error in status.errors] == ["internal_error"]
    assert scheduled(status) == ("False", Reason.MODEL_CRASHED)
    assert decision.event
    assert (decision.event.warning, decision.event.message) == (
        True,
        "Exit code 1. The batch fails; what ran is kept.",
    )


def test_a_model_server_that_was_started_again_less_often_is_waited_for() -> None:
    decision = decided(running(crashing(model_restarts=POLICY.max_model_restarts - 1)))
    assert decision.actions == ()
    assert scheduled(status_of(decision)) == ("False", Reason.MODEL_CRASHED)


# --- the machine ------------------------------------------------------------------------------------------------------


def test_a_status_says_on_what_machine_its_attempt_runs_and_forgets_it_with_the_attempt() -> None:
    job = a_job(pods=(Pod("p", "u", running=True, node="node-1"),))
    status = status_of(decided(running(job, node=Node("g2-standard-8", "nvidia-l4"))))
    assert (status.instance_type, status.gpu_type) == ("g2-standard-8", "nvidia-l4")
    known = {"instanceType": "g2-standard-8", "gpuType": "nvidia-l4"}
    assert status_of(decided(running(job, status=known))).instance_type == "g2-standard-8"
    failed = status_of(decided(running(a_job(state=JobState.FAILED), status=known)))
    assert (failed.instance_type, failed.gpu_type) == (None, None)


# --- suspend ----------------------------------------------------------------------------------------------------------


def suspended(job: Job | None, **status: Any) -> Observed:
    return observed(status=a_status(Phase.IN_PROGRESS, **status), spec={"suspend": True}, run=job)


def test_a_suspended_batch_keeps_its_phase_but_not_its_job() -> None:
    decision = decided(suspended(a_job()))
    assert decision.actions == (DeleteJob(a_job().name, "run-uid"),)
    assert status_of(decision).phase is Phase.IN_PROGRESS
    assert scheduled(status_of(decision)) == ("False", Reason.SUSPENDED)


def test_a_suspended_batch_starts_nothing_until_its_deadline_and_then_expires() -> None:
    decision = decided(suspended(None))
    assert decision.actions == ()
    assert decision.requeue_after_s == (DEADLINE - NOW).total_seconds() + 1
    assert status_of(decided(suspended(None), LATE)).sealing is Sealing.EXPIRED


def test_resuming_is_a_new_attempt_but_no_failed_one() -> None:
    status = a_status(Phase.IN_PROGRESS, conditions=[SUSPENDED.dump()])
    decision = decided(observed(status=status))
    assert (status_of(decision).attempt, status_of(decision).failed_attempts) == (2, 0)
    assert decision.event is None


def test_a_batch_that_was_suspended_before_its_first_job_starts_like_any_other() -> None:
    decision = decided(running(status={"conditions": [SUSPENDED.dump()]}))
    assert decision.actions == (CreateJob(Step.RUN, a_model()),)
    assert status_of(decision).attempt == 1


# --- windows ----------------------------------------------------------------------------------------------------------

MORNING = a_model(windows=[{"start": "06:00", "end": "12:00"}])
EVENING = a_model(windows=[{"start": "18:30", "end": "20:00"}])
NOON = T0.replace(hour=12)
OFF_PEAK = Condition(type=Kind.SCHEDULED, status="False", reason=Reason.OFF_PEAK, last_transition_time=T0)


def message(status: BatchJobStatus) -> str:
    return next(c.message for c in status.conditions if c.type == Kind.SCHEDULED)


def test_in_a_window_a_job_is_started_and_knows_when_to_end() -> None:
    assert decided(running(models=(MORNING,))).actions == (CreateJob(Step.RUN, MORNING, NOON),)


def test_outside_of_all_windows_nothing_is_started_until_the_next_one_opens() -> None:
    decision = decided(running(models=(EVENING,)))
    assert decision.actions == ()
    assert scheduled(status_of(decision)) == ("False", Reason.OFF_PEAK)
    assert "2026-11-23 18:30 UTC" in message(status_of(decision))
    assert decision.requeue_after_s == (T0.replace(hour=18, minute=30) - NOW).total_seconds() + 1
    assert status_of(decision).failed_attempts == 0


def test_a_batch_that_waits_for_its_window_is_written_once() -> None:
    seen = running(models=(EVENING,))
    assert decided(after(seen, decided(seen)), NOW + timedelta(minutes=5)).status is None


@pytest.mark.parametrize(
    "model",
    [
        a_model(windows=[{"start": "08:00", "end": "10:00", "days": ["Thu"]}]),
        a_model(windows=[{"start": "08:00", "end": "10:00", "timeZone": "Mars/Base"}]),
    ],
    ids=["after the deadline", "never"],
)
def test_a_batch_whose_window_does_not_open_in_time_expires(model: HostedModel) -> None:
    decision = decided(running(models=(model,)))
    assert decision.requeue_after_s == (DEADLINE - NOW).total_seconds() + 1
    assert status_of(decided(after(running(models=(model,)), decision), LATE)).sealing is Sealing.EXPIRED


def test_when_its_window_closes_a_job_is_taken_away_and_not_before() -> None:
    job = a_job(closes_at=NOON, pods=(Pod("p", "u", running=True),))
    early = decided(running(job), NOON - timedelta(seconds=5))
    assert (early.actions, early.requeue_after_s) == ((), 6)
    closed = decided(running(job), NOON)
    assert closed.actions == (DeleteJob(job.name, job.uid),)
    assert scheduled(status_of(closed)) == ("False", Reason.OFF_PEAK)
    assert status_of(closed).phase is Phase.IN_PROGRESS


def test_a_job_that_has_failed_is_judged_though_its_window_has_closed() -> None:
    job = a_job(Step.RUN, JobState.FAILED, 1, closes_at=NOON)
    assert status_of(decided(running(job), NOON)).failed_attempts == 1


def test_a_batch_that_was_stopped_waits_and_goes_on_as_another_attempt_that_is_no_failed_one() -> None:
    stopped = observed(status=a_status(Phase.IN_PROGRESS, conditions=[OFF_PEAK.dump()]), models=(EVENING,))
    waiting = decided(stopped, NOON)
    assert (waiting.actions, scheduled(status_of(waiting))) == ((), ("False", Reason.OFF_PEAK))
    evening = T0.replace(hour=19)
    resumed = after(stopped, decided(after(stopped, waiting), evening))
    assert (resumed.batch.status.attempt, resumed.batch.status.failed_attempts) == (2, 0)
    assert decided(resumed, evening).actions == (CreateJob(Step.RUN, EVENING, T0.replace(hour=20)),)


def test_a_suspended_batch_says_so_whatever_its_window() -> None:
    seen = replace(suspended(None), models=(EVENING,))
    assert scheduled(status_of(decided(seen))) == ("False", Reason.SUSPENDED)


# --- a Job that is going ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_is_being_deleted_is_waited_for(state: JobState) -> None:
    decision = decided(running(a_job(state=state, deleting_at=NOW)))
    assert (decision.status, decision.actions) == (None, ())
    assert decision.requeue_after_s


@pytest.mark.parametrize(
    ("deleting_for", "pod_deleting_for", "is_given_up"),
    [
        (timedelta(seconds=5), timedelta(seconds=5), False),
        (timedelta(seconds=5), None, False),
        (timedelta(seconds=200), POLICY.lost_pod, False),
        (timedelta(seconds=200), POLICY.lost_pod + timedelta(seconds=1), True),
        (POLICY.teardown_timeout + timedelta(seconds=1), None, True),
    ],
)
def test_a_pod_is_given_up_once_it_outstays_its_grace_or_the_teardown_its_time(
    deleting_for: timedelta, pod_deleting_for: timedelta | None, is_given_up: bool
) -> None:
    pod = Pod("pod", "pod-uid", deleting_at=NOW - pod_deleting_for if pod_deleting_for is not None else None)
    decision = decided(running(a_job(deleting_at=NOW - deleting_for, pods=(pod,))))
    assert decision.actions == ((ForceDeletePod("pod", "pod-uid"),) if is_given_up else ())
