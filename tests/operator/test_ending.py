"""From a cancel, a deadline or a failure to the end, and the clearing up behind it, situation by situation."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.models import BatchJobStatus
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import BatchManifest
from nightshift_operator.conditions import Kind, Reason
from nightshift_operator.decisions import (
    CreateJob,
    DeleteJob,
    DropResultFile,
    FinishResultFile,
    PurgeScratch,
)
from nightshift_operator.ending import SEAL_AGAIN_S
from nightshift_operator.facts import Job, JobState, Observed, Pod, Trouble
from nightshift_operator.view import INTERNAL
from tests.builders import T0, timestamp
from tests.operator.builders import (
    LATE,
    NOW,
    POLICY,
    a_job,
    a_manifest,
    a_status,
    after,
    decided,
    observed,
    sealed,
    status_of,
)

CANCEL = {"cancelRequested": True}
SEALED_AS = [
    (Phase.FINALIZING, Sealing.COMPLETED, Phase.COMPLETED),
    (Phase.IN_PROGRESS, Sealing.EXPIRED, Phase.EXPIRED),
    (Phase.VALIDATING, Sealing.EXPIRED, Phase.EXPIRED),
    (Phase.IN_PROGRESS, Sealing.FAILED, Phase.FAILED),
    (Phase.CANCELLING, Sealing.CANCELLED, Phase.CANCELLED),
    (Phase.CANCELLING, Sealing.COMPLETED, Phase.CANCELLED),
]
"""Every way to be sealed that a batch can come to, and how it ends."""


def sealing(phase: Phase, reason: Sealing, *, status: dict[str, Any] | None = None, **facts: Any) -> Observed:
    more: dict[str, Any] = {"counts": {"total": 10, "completed": 4, "failed": 1}, "slices": 1} | (status or {})
    spec = CANCEL if phase is Phase.CANCELLING else {}
    return observed(status=a_status(phase, reason, **more), spec=spec, **facts)


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [None, Phase.VALIDATING])
@pytest.mark.parametrize("job", [None, a_job(Step.INSPECT), a_job(Step.INSPECT, JobState.COMPLETE)])
def test_a_cancel_before_anything_ran_seals_nothing(phase: Phase | None, job: Job | None) -> None:
    status = status_of(decided(observed(phase, spec=CANCEL, inspect=job)))
    assert (status.phase, status.sealing) == (Phase.CANCELLING, None)


@pytest.mark.parametrize(
    ("phase", "before", "then"),
    [
        (Phase.IN_PROGRESS, None, Sealing.CANCELLED),
        (Phase.FINALIZING, Sealing.COMPLETED, Sealing.COMPLETED),
        (Phase.FINALIZING, None, Sealing.CANCELLED),
    ],
)
def test_a_cancel_of_a_batch_that_ran_seals_it_with_the_reason_that_is_fixed_already_if_one_is(
    phase: Phase, before: Sealing | None, then: Sealing
) -> None:
    status = status_of(decided(observed(phase, before, spec=CANCEL, run=a_job())))
    assert (status.phase, status.sealing) == (Phase.CANCELLING, then)


def test_a_cancel_is_looked_at_before_everything_else_even_the_deadline() -> None:
    seen = observed(Phase.IN_PROGRESS, spec=CANCEL, run=a_job(state=JobState.FAILED), ended_at=NOW)
    assert status_of(decided(seen, LATE)).phase is Phase.CANCELLING


@pytest.mark.parametrize(
    ("asked_at", "cancelling_at"),
    [
        (None, NOW),
        (NOW - timedelta(seconds=3), NOW - timedelta(seconds=3)),
        (NOW + timedelta(seconds=3), NOW + timedelta(seconds=3)),
        (NOW + timedelta(days=3), NOW),
        (T0, T0 + timedelta(minutes=1)),
    ],
    ids=["none given", "that of the request", "by a clock ahead", "nonsense by hand", "never before the last phase"],
)
def test_a_batch_is_cancelling_since_it_was_asked_to(asked_at: datetime | None, cancelling_at: datetime) -> None:
    spec = CANCEL | ({"cancelRequestedAt": timestamp(asked_at)} if asked_at else {})
    assert status_of(decided(observed(Phase.IN_PROGRESS, spec=spec))).cancelling_at == cancelling_at


def test_a_cancelled_batch_of_which_nothing_ran_waits_for_its_inspection_to_go_and_ends() -> None:
    status = a_status(Phase.CANCELLING, ran=False)
    going = decided(observed(status=status, spec=CANCEL, inspect=a_job(Step.INSPECT)))
    assert (going.status, going.actions) == (None, (DeleteJob(a_job(Step.INSPECT).name, "inspect-uid"),))
    gone = decided(observed(status=status, spec=CANCEL))
    assert (status_of(gone).phase, status_of(gone).cancelled_at, gone.actions) == (Phase.CANCELLED, NOW, ())


# --- a cancelled batch whose seal Job does not do its work ------------------------------------------------------------

AGAIN = timedelta(seconds=SEAL_AGAIN_S)
ENDED = [JobState.FAILED, JobState.COMPLETE]


def unsealed(*codes: int, state: JobState = JobState.FAILED, ended_at: datetime | None = NOW, **more: Any) -> Observed:
    return sealing(Phase.CANCELLING, Sealing.CANCELLED, seal=a_job(Step.SEAL, state, *codes, ended_at=ended_at, **more))


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("gone_s", [0, 1, SEAL_AGAIN_S - 1])
def test_a_seal_job_that_failed_is_left_in_place_until_the_wait_ends_and_looked_at_again_just_then(
    state: JobState, gone_s: float
) -> None:
    decision = decided(unsealed(1, state=state), NOW + timedelta(seconds=gone_s))
    assert (decision.actions, decision.requeue_after_s) == ((), SEAL_AGAIN_S - gone_s)
    assert status_of(decision).phase is Phase.CANCELLING


@pytest.mark.parametrize("state", ENDED)
def test_a_seal_job_that_failed_goes_once_the_wait_has_ended_and_another_one_is_made(state: JobState) -> None:
    seen = unsealed(1, state=state)
    decision = decided(seen, NOW + AGAIN)
    assert seen.seal
    assert decision.actions == (DeleteJob(seen.seal.name, seen.seal.uid),)
    assert status_of(decision).phase is Phase.CANCELLING
    gone = decided(replace(after(seen, decision), seal=None), NOW + AGAIN)
    assert (gone.status, gone.actions) == (None, (CreateJob(Step.SEAL),))


def test_a_seal_job_that_failed_is_looked_at_again_without_writing_anything_until_it_goes() -> None:
    seen = unsealed(1)
    seen = after(seen, decided(seen))
    for gone_s in (1, 60, SEAL_AGAIN_S - 1, SEAL_AGAIN_S):
        assert decided(seen, NOW + timedelta(seconds=gone_s)).status is None


@pytest.mark.parametrize(
    ("pods", "since"),
    [
        ((Pod("p", "u", ended_at=NOW), Pod("q", "v", ended_at=NOW - AGAIN), Pod("r", "w")), NOW),
        ((), a_job().created_at),
    ],
    ids=["from the end of its last pod", "from its creation"],
)
def test_a_seal_job_that_does_not_say_when_it_failed_is_replaced_all_the_same(
    pods: tuple[Pod, ...], since: datetime
) -> None:
    seen = unsealed(ended_at=None, pods=pods)
    waits = decided(seen, since + AGAIN - timedelta(seconds=1))
    assert (waits.actions, waits.requeue_after_s) == ((), 1)
    assert len(decided(seen, since + AGAIN).actions) == 1


KILLED = Pod("p", "u", exit_code=137, trouble=Trouble.OUT_OF_MEMORY, message="The processor was killed. Raise it.")


@pytest.mark.parametrize(
    ("seen", "codes", "said"),
    [
        (unsealed(75, 1), "1, 75", "The Job gives no reason."),
        (unsealed(Exit.DONE, state=JobState.COMPLETE), "0", "The Job gives no reason."),
        (unsealed(message="Job was active longer than specified deadline"), "none", "Job was active longer than"),
        (unsealed(pods=(Pod("o", "t", exit_code=1), KILLED), message="Limit."), "1, 137", "killed. Raise it."),
    ],
)
def test_a_cancelled_batch_says_how_its_seal_job_has_ended_and_when_another_one_is_made(
    seen: Observed, codes: str, said: str
) -> None:
    value, reason, message = said_by(seen)
    assert (value, reason) == ("False", Reason.SEAL_FAILED)
    assert message.startswith(f"The result files could not be made (exit codes of the seal Job: {codes}); another Job")
    assert f"at {NOW + AGAIN:%Y-%m-%d %H:%M:%S} UTC" in message
    assert message.endswith(".")
    assert said in message


def said_by(seen: Observed) -> tuple[str, str, str]:
    return said(status_of(decided(seen)))


def test_when_another_seal_job_is_made_is_said_even_where_the_reason_is_too_long_for_a_condition() -> None:
    message = said_by(unsealed(1, message="x" * 5_000))[2]
    assert f"{NOW + AGAIN:%Y-%m-%d %H:%M:%S} UTC" in message
    assert len(message) == 1024


def test_a_cancelled_batch_says_that_it_is_sealed_again_once_another_job_is_at_work() -> None:
    failed = unsealed(1)
    failed = after(failed, decided(failed))
    going = replace(failed, seal=a_job(Step.SEAL, JobState.FAILED, 1, deleting_at=NOW + AGAIN))
    for seen in (going, replace(failed, seal=None)):
        assert decided(seen, NOW + AGAIN).status is None
    working = decided(replace(failed, seal=a_job(Step.SEAL)), NOW + AGAIN)
    assert said(status_of(working))[:2] == ("True", Reason.SEALING)


# --- sealing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "reason", "_end"), SEALED_AS)
@pytest.mark.parametrize(("run", "deletes"), [(a_job(), True), (a_job(state=JobState.FAILED, deleting_at=NOW), False)])
def test_nothing_is_sealed_or_recorded_before_the_run_job_is_gone(
    phase: Phase, reason: Sealing, _end: Phase, run: Job, deletes: bool
) -> None:
    decision = decided(sealing(phase, reason, run=run, sealed=sealed(a_manifest(reason))))
    assert decision.status is None
    assert decision.actions == ((DeleteJob(run.name, run.uid),) if deletes else ())
    assert decision.requeue_after_s


@pytest.mark.parametrize(("phase", "reason", "_end"), SEALED_AS)
@pytest.mark.parametrize("run", [None, a_job(state=JobState.COMPLETE), a_job(state=JobState.FAILED)])
def test_a_seal_job_is_made_once_no_processor_can_be_at_work(
    phase: Phase, reason: Sealing, _end: Phase, run: Job | None
) -> None:
    assert decided(sealing(phase, reason, run=run)).actions == (CreateJob(Step.SEAL),)


@pytest.mark.parametrize("seal", [a_job(Step.SEAL), a_job(Step.SEAL, JobState.FAILED, deleting_at=NOW)])
@pytest.mark.parametrize(("phase", "reason", "_end"), SEALED_AS)
def test_a_seal_job_that_works_or_is_going_is_waited_for(phase: Phase, reason: Sealing, _end: Phase, seal: Job) -> None:
    decision = decided(sealing(phase, reason, seal=seal))
    assert decision.actions == ()
    assert decision.requeue_after_s
    assert (decision.status or BatchJobStatus()).phase in {None, phase}


def test_a_seal_job_that_cannot_start_says_why_and_no_longer_once_it_works() -> None:
    stuck = a_job(Step.SEAL, pods=(Pod("p", "u", trouble=Trouble.NO_NODE, message="No node."),))
    status = status_of(decided(sealing(Phase.FINALIZING, Sealing.COMPLETED, seal=stuck)))
    assert said(status) == ("False", Reason.NO_NODE, "No node.")
    after_it = observed(status=status.dump(), seal=a_job(Step.SEAL))
    works = status_of(decided(after_it))
    assert said(works) == ("True", Reason.SEALING, "The batch ends as completed; a Job makes its result files.")
    assert decided(observed(status=works.dump(), seal=a_job(Step.SEAL))).status is None


def said(status: BatchJobStatus) -> tuple[str, str, str]:
    [condition] = [condition for condition in status.conditions if condition.type == Kind.PROGRESSING]
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize(
    ("phase", "reason", "words"),
    [
        (Phase.FINALIZING, Sealing.COMPLETED, "8 of 10 lines completed, 2 failed."),
        (
            Phase.IN_PROGRESS,
            Sealing.EXPIRED,
            "The window has passed; what ran is kept: 8 of 10 lines completed, 2 failed.",
        ),
        (
            Phase.CANCELLING,
            Sealing.CANCELLED,
            "The batch was cancelled; what ran is kept: 8 of 10 lines completed, 2 failed.",
        ),
        (
            Phase.IN_PROGRESS,
            Sealing.FAILED,
            "The batch could not go on; what ran is kept: 8 of 10 lines completed, 2 failed. The input changed.",
        ),
    ],
)
def test_an_end_says_why_and_what_there_is(phase: Phase, reason: Sealing, words: str) -> None:
    errors = {"errors": [{"code": "invalid_request", "message": "The input changed."}]} if reason == "failed" else {}
    decision = decided(sealing(phase, reason, status=errors, sealed=sealed(a_manifest(reason))))
    assert decision.event
    assert decision.event.message == words
    internal = sealing(phase, reason, status={"errors": [INTERNAL.dump()]}, sealed=sealed(a_manifest(reason)))
    event = decided(internal).event
    assert event
    assert ("The condition Scheduled says why." in event.message) == (reason is Sealing.FAILED)
    assert said(status_of(decision))[2] == words


@pytest.mark.parametrize(("phase", "reason", "end"), SEALED_AS)
@pytest.mark.parametrize("seal", [None, a_job(Step.SEAL), a_job(Step.SEAL, JobState.FAILED)])
def test_a_manifest_ends_the_batch_as_it_was_sealed_whatever_its_job_says(
    phase: Phase, reason: Sealing, end: Phase, seal: Job | None
) -> None:
    status = status_of(decided(sealing(phase, reason, seal=seal, sealed=sealed(a_manifest(reason)))))
    assert (status.phase, status.errors) == (end, [])
    assert (status.counts.total, status.counts.completed, status.counts.failed) == (10, 8, 2)
    assert status.usage is not None
    assert status.usage.total_tokens == 32


def test_a_manifest_brings_files_up_to_date_before_the_status_names_them() -> None:
    manifest = a_manifest()
    decision = decided(sealing(Phase.FINALIZING, Sealing.COMPLETED, sealed=sealed(manifest)))
    expires_at = NOW + POLICY.default_expiry
    output, error = manifest.files[ResultKind.OUTPUT], manifest.files[ResultKind.ERROR]
    assert decision.actions == (
        FinishResultFile(ResultKind.OUTPUT, output, expires_at),
        FinishResultFile(ResultKind.ERROR, error, expires_at),
    )
    assert (status_of(decision).output_file_id, status_of(decision).error_file_id) == (output.file_id, error.file_id)


@pytest.mark.parametrize(("completed", "failed", "empty"), [(10, 0, ResultKind.ERROR), (0, 10, ResultKind.OUTPUT)])
def test_a_result_file_that_stayed_empty_is_dropped_and_has_no_id(
    completed: int, failed: int, empty: ResultKind
) -> None:
    manifest = a_manifest(completed=completed, failed=failed)
    decision = decided(sealing(Phase.FINALIZING, Sealing.COMPLETED, sealed=sealed(manifest)))
    assert DropResultFile(empty) in decision.actions
    assert getattr(status_of(decision), f"{empty}_file_id") is None


def test_result_files_live_as_long_as_the_batch_says_from_their_sealing_on() -> None:
    status = a_status(Phase.FINALIZING, Sealing.COMPLETED)
    at = NOW - timedelta(minutes=7)
    seen = observed(status=status, spec={"outputExpiresAfterSeconds": 3_600}, sealed=sealed(at=at))
    lives = [a.expires_at for a in decided(seen).actions if isinstance(a, FinishResultFile)]
    assert lives == [at + timedelta(hours=1)] * 2


@pytest.mark.parametrize(("later_s", "end_s"), [(-7.5, 0), (0.9, 0), (1.5, 1)])
def test_a_batch_does_not_end_before_its_manifest_which_can_be_written_while_we_look(
    later_s: float, end_s: int
) -> None:
    at = NOW + timedelta(seconds=later_s)
    end = status_of(decided(sealing(Phase.FINALIZING, Sealing.COMPLETED, sealed=sealed(at=at))))
    assert end.completed_at == NOW + timedelta(seconds=end_s)


def test_a_batch_of_which_no_line_was_sent_has_no_usage() -> None:
    manifest = a_manifest(Sealing.EXPIRED, completed=0, failed=0)
    status = {"counts": {"total": 10}}
    end = status_of(decided(sealing(Phase.IN_PROGRESS, Sealing.EXPIRED, status=status, sealed=sealed(manifest))))
    assert (end.phase, end.usage) == (Phase.EXPIRED, None)


@pytest.mark.parametrize(
    "manifest",
    [
        a_manifest(completed=8, failed=1),
        a_manifest(completed=9, failed=2),
        a_manifest(Sealing.EXPIRED),
        BatchManifest(reason=Sealing.COMPLETED, completed=8, failed=2, usage=a_manifest().usage, files={}),
    ],
    ids=["too few", "too many", "another reason", "lines that are in no file"],
)
def test_a_manifest_that_does_not_add_up_fails_the_batch_and_keeps_everything(manifest: BatchManifest) -> None:
    decision = decided(sealing(Phase.FINALIZING, Sealing.COMPLETED, sealed=sealed(manifest)))
    status = status_of(decision)
    assert (status.phase, [error.code for error in status.errors]) == (Phase.FAILED, ["internal_error"])
    kept = [action.kind for action in decision.actions if isinstance(action, FinishResultFile)]
    assert kept == list(manifest.files)
    assert decision.event
    assert decision.event.warning
    assert "What was sealed does not add up" in decision.event.message


def test_a_manifest_that_does_not_add_up_does_not_undo_a_cancel() -> None:
    manifest = a_manifest(Sealing.CANCELLED, completed=11, failed=2)
    status = status_of(decided(sealing(Phase.CANCELLING, Sealing.CANCELLED, sealed=sealed(manifest))))
    assert status.phase is Phase.CANCELLED


def test_what_made_a_batch_fail_stays_in_its_status() -> None:
    error = {"code": "invalid_request", "message": "Changed.", "param": "input_file_id"}
    manifest = a_manifest(Sealing.FAILED, completed=4, failed=1)
    seen = sealing(Phase.IN_PROGRESS, Sealing.FAILED, status={"errors": [error]}, sealed=sealed(manifest))
    assert [e.code for e in status_of(decided(seen)).errors] == ["invalid_request"]


@pytest.mark.parametrize(("phase", "reason"), [row[:2] for row in SEALED_AS if row[0] is not Phase.CANCELLING])
@pytest.mark.parametrize("state", [JobState.COMPLETE, JobState.FAILED])
def test_a_batch_that_cannot_be_sealed_fails_at_once_if_nobody_has_cancelled_it(
    phase: Phase, reason: Sealing, state: JobState
) -> None:
    decision = decided(sealing(phase, reason, seal=a_job(Step.SEAL, state, Exit.CONFLICT, ended_at=NOW)))
    status = status_of(decision)
    assert (status.phase, [error.code for error in status.errors]) == (Phase.FAILED, ["internal_error"])
    assert (decision.actions, decision.requeue_after_s) == ((), 0)
    text = "The result files could not be made (exit codes of the seal Job: 43); what ran stays in the bucket."
    assert said(status) == ("False", Reason.FAILED, text)


def test_a_status_in_finalizing_that_somebody_wrote_without_a_reason_is_sealed_as_completed() -> None:
    assert status_of(decided(observed(Phase.FINALIZING))).sealing is Sealing.COMPLETED


# --- clearing up ------------------------------------------------------------------------------------------------------


ENDS = [Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED]


def ended(phase: Phase, **facts: Any) -> Observed:
    return observed(phase, Sealing(phase.lower()), **facts)


@pytest.mark.parametrize("phase", ENDS)
@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", JobState)
def test_jobs_of_a_batch_that_ended_go_first(phase: Phase, step: Step, state: JobState) -> None:
    job = a_job(step, state)
    decision = decided(ended(phase, **{step: job}, sealed=sealed()), LATE)
    assert (decision.status, decision.actions) == (None, (DeleteJob(job.name, job.uid),))


@pytest.mark.parametrize("phase", ENDS)
def test_logs_outlive_their_batch_for_downloads_that_began_before(phase: Phase) -> None:
    ended_at = max(
        moment
        for name in ("completed_at", "failed_at", "expired_at", "cancelled_at")
        if (moment := getattr(ended(phase).batch.status, name))
    )
    waiting = decided(ended(phase, sealed=sealed()), ended_at + timedelta(seconds=1))
    assert (waiting.actions, waiting.status) == ((), None)
    assert waiting.requeue_after_s == POLICY.scratch_retention.total_seconds() - 1
    over = decided(ended(phase, sealed=sealed()), ended_at + POLICY.scratch_retention)
    assert over.actions == (PurgeScratch(),)
    assert status_of(over).settled


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.CANCELLED])
def test_a_batch_without_a_manifest_settles_at_once_and_keeps_what_ran(phase: Phase) -> None:
    decision = decided(ended(phase))
    assert decision.actions == ()
    assert status_of(decision).settled
