"""What holds of every decision, over every phase and whatever may be observed of a batch in it (Hypothesis).

What follows from which situation is in the files beside: `test_validating`, `test_running`, `test_ending`.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightshift_crds.cluster.local import admit
from nightshift_crds.cluster.port import BATCH_JOB, Manifest
from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, Phase, Sealing, can_move, is_terminal
from nightshift_crds.models import BatchJob, BatchJobStatus
from nightshift_crds.names import Step
from nightshift_crds.records import State
from nightshift_operator.conditions import Kind
from nightshift_operator.decisions import CreateJob, Decision, PurgeScratch
from nightshift_operator.facts import Job, JobState, Observed
from tests.builders import T0, a_batch, a_file, a_model, a_verdict, timestamp
from tests.operator.builders import (
    DEADLINE,
    EMBEDDINGS,
    LATE,
    NOW,
    a_job,
    a_manifest,
    a_status,
    after,
    decided,
    sealed,
    with_status,
)

OPEN = [phase for phase in Phase if phase not in TERMINAL]
STANDS: list[tuple[Phase | None, Sealing | None]] = [
    (None, None),
    (Phase.VALIDATING, None),
    (Phase.VALIDATING, Sealing.EXPIRED),
    (Phase.IN_PROGRESS, None),
    (Phase.IN_PROGRESS, Sealing.EXPIRED),
    (Phase.IN_PROGRESS, Sealing.FAILED),
    (Phase.FINALIZING, None),
    (Phase.FINALIZING, Sealing.COMPLETED),
    *product([Phase.CANCELLING], Sealing),
    *((phase, Sealing(phase.lower())) for phase in TERMINAL),
]
"""Every phase with every reason to seal that it can have."""
RAN = {phase for phase in Phase if phase is not Phase.VALIDATING}
MOMENTS = [T0, NOW, DEADLINE - timedelta(seconds=1), DEADLINE, LATE, DEADLINE + timedelta(days=40)]
INPUTS: list[dict[str, Any]] = [{}, {"input": {"uri": "gs://b/in"}}, {"input": {"rerunOf": "other"}}]


def jobs(step: Step) -> st.SearchStrategy[Job | None]:
    """Any Job of a step, or none."""
    codes = st.lists(st.sampled_from([0, 1, 40, 41, 42, 43, 75, 137]), max_size=2)
    deleting = st.sampled_from([None, NOW - timedelta(seconds=5), NOW - timedelta(hours=1)])
    more: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"deleting_at": deleting, "suspended": st.booleans(), "ended_at": st.sampled_from([None, T0, NOW])}
    )
    made = st.builds(lambda state, c, m: a_job(step, state, *c, **m), st.sampled_from(JobState), codes, more)
    return st.none() | made


def manifests() -> st.SearchStrategy[Any]:
    """Any manifest that counts at least what the status of the builders does, and other reasons than were asked for."""
    counts = st.tuples(st.integers(4, 12), st.integers(1, 8), st.sampled_from(Sealing))
    return counts.map(lambda c: sealed(a_manifest(c[2], completed=c[0], failed=c[1], errors=1)))


@st.composite
def batches(draw: st.DrawFn) -> BatchJob:
    """Draw a batch in any stand, asked for in any way."""
    phase, sealing = draw(st.sampled_from(STANDS))
    ran = phase in RAN and (phase is not Phase.CANCELLING or draw(st.booleans()))
    status = a_status(phase, sealing if ran or phase is Phase.VALIDATING else None, ran=ran) if phase else {}
    has_failed = draw(st.booleans())
    if status and has_failed:
        status |= {"failedAttempts": 2}
    if sealing is not None and phase is Phase.VALIDATING:
        status |= {"counts": {"total": 10}, "slices": 1}
    is_cancelled = phase in {Phase.CANCELLING, Phase.CANCELLED} or (
        sealing not in {Sealing.EXPIRED, Sealing.FAILED} and phase not in TERMINAL and draw(st.booleans())
    )
    spec = {"cancelRequested": is_cancelled, "suspend": draw(st.booleans())} | draw(st.sampled_from(INPUTS))
    if is_cancelled and draw(st.booleans()):
        spec["cancelRequestedAt"] = timestamp(NOW)
    return a_batch(spec=spec, status=status)


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    """Draw what may be observed."""
    states = st.builds(State, completed=st.integers(0, 6), failed=st.integers(0, 4), output_bytes=st.integers(0, 9))
    return Observed(
        draw(batches()),
        input_file=draw(st.sampled_from([None, a_file(), a_file(status={"phase": "Ready"})])),
        input_key=draw(st.sampled_from([None, "in.jsonl"])),
        verdict=draw(st.sampled_from([None, a_verdict(), a_verdict(lines=0), a_verdict(endpoint=EMBEDDINGS)])),
        models=draw(st.sampled_from([(), (a_model(),), (a_model(shards=4),)])),
        run=draw(jobs(Step.RUN)),
        seal=draw(jobs(Step.SEAL)),
        inspect=draw(jobs(Step.INSPECT)),
        ended_at=draw(st.sampled_from([None, NOW, LATE])),
        progress=draw(st.none() | states),
        sealed=draw(st.none() | manifests()),
    )


moments = st.sampled_from(MOMENTS)


def written(seen: Observed, now: datetime) -> BatchJobStatus:
    """Give the status that stands after a decision."""
    return decided(seen, now).status or seen.batch.status


def manifest_of(batch: BatchJob) -> Manifest:
    return {"apiVersion": BATCH_JOB.api_version, "kind": BATCH_JOB.kind} | batch.dump()


def has_news(seen: Observed, decision: Decision) -> bool:
    return decision.status is not None and decision.status != seen.batch.status


@settings(deadline=None)  # the first example compiles the rules
@given(observations(), moments)
def test_every_status_is_one_that_the_cluster_admits_after_the_one_before(seen: Observed, now: datetime) -> None:
    status = written(seen, now)
    assert can_move(seen.batch.status.phase, status.phase or Phase.VALIDATING)
    admit(BATCH_JOB, manifest_of(with_status(seen.batch, status)), manifest_of(seen.batch))


@given(observations(), moments)
def test_a_terminal_phase_is_never_left(seen: Observed, now: datetime) -> None:
    if is_terminal(seen.batch.phase):
        status = written(seen, now)
        assert status == seen.batch.status.model_copy(update={"settled": status.settled, "webhooks": status.webhooks})


@given(observations(), moments)
def test_a_time_once_set_stays_and_a_new_one_is_not_before_any_other(seen: Observed, now: datetime) -> None:
    before, status = seen.batch.status, written(seen, now)
    old = {name: moment for name in TIMESTAMPS.values() if (moment := getattr(before, name))}
    new = {name: moment for name in TIMESTAMPS.values() if (moment := getattr(status, name))}
    assert old.items() <= new.items()
    latest = max([T0, *old.values()])
    assert all(moment >= latest for name, moment in new.items() if name not in old)


@given(observations(), moments)
def test_counts_attempts_and_what_is_fixed_never_fall_back(seen: Observed, now: datetime) -> None:
    before, status = seen.batch.status, written(seen, now)
    assert status.counts.completed >= before.counts.completed
    assert status.counts.failed >= before.counts.failed
    assert status.attempt >= before.attempt
    assert before.sealing in {None, status.sealing}
    assert before.deadline in {None, status.deadline}


@given(observations(), moments)
def test_a_cancel_leads_to_cancelled_and_to_nothing_else(seen: Observed, now: datetime) -> None:
    if seen.batch.spec.cancel_requested and not is_terminal(seen.batch.phase):
        assert written(seen, now).phase in {None, Phase.CANCELLING, Phase.CANCELLED}


@given(observations(), moments)
def test_a_batch_that_ran_ends_well_only_with_a_manifest_that_holds_what_was_asked_for(
    seen: Observed, now: datetime
) -> None:
    status = written(seen, now)
    if is_terminal(seen.batch.phase) or not is_terminal(status.phase) or status.in_progress_at is None:
        return
    assert status.phase is Phase.FAILED or seen.sealed is not None
    if status.phase in {Phase.COMPLETED, Phase.EXPIRED} and seen.sealed:
        assert _END[status.phase] is seen.sealed.manifest.reason is status.sealing


_END = {Phase.COMPLETED: Sealing.COMPLETED, Phase.EXPIRED: Sealing.EXPIRED}


@given(observations(), moments)
def test_a_batch_that_has_not_settled_is_looked_at_again(seen: Observed, now: datetime) -> None:
    decision = decided(seen, now)
    status = decision.status or seen.batch.status
    assert decision.requeue_after_s is not None or status.settled
    assert decision.requeue_after_s is None or decision.requeue_after_s >= 0


@given(observations(), moments)
def test_looking_again_at_the_same_facts_comes_to_rest_without_going_back(seen: Observed, now: datetime) -> None:
    phases = [seen.batch.phase]
    for _ in range(12):
        decision = decided(seen, now)
        if not has_news(seen, decision):
            break
        seen = after(seen, decision)
        phases.append(seen.batch.phase)
    else:
        pytest.fail(f"no rest after {phases}")
    assert all(can_move(a, b) for a, b in pairwise(phases))


@given(observations(), moments)
def test_nothing_is_started_for_a_batch_that_ended_and_logs_go_only_once_they_are_sealed(
    seen: Observed, now: datetime
) -> None:
    for action in decided(seen, now).actions:
        assert not (isinstance(action, CreateJob) and is_terminal(seen.batch.phase))
        assert not isinstance(action, PurgeScratch) or (is_terminal(seen.batch.phase) and seen.sealed)


@given(observations(), moments)
def test_a_batch_settles_only_after_its_end_and_with_no_job_left(seen: Observed, now: datetime) -> None:
    if written(seen, now).settled:
        assert is_terminal(seen.batch.phase)
        assert not seen.jobs


@given(observations(), moments)
def test_a_terminal_batch_says_so_in_its_conditions_and_only_completed_is_complete(
    seen: Observed, now: datetime
) -> None:
    status = written(seen, now)
    if is_terminal(seen.batch.phase) or not is_terminal(status.phase):
        return
    said = {condition.type: condition.status for condition in status.conditions}
    assert said[Kind.PROGRESSING] == "False"
    assert said[Kind.COMPLETE] == ("True" if status.phase is Phase.COMPLETED else "False")


@given(observations(), moments)
def test_whatever_people_are_told_is_a_sentence(seen: Observed, now: datetime) -> None:
    decision = decided(seen, now)
    told = [condition.message for condition in (decision.status or seen.batch.status).conditions]
    for message in [*told, *([decision.event.message] if decision.event else [])]:
        assert re.fullmatch(r"(?s)[A-Z0-9].* .*[^.]\.", message), message


@given(observations(), moments)
def test_a_batch_that_is_being_deleted_is_left_to_the_cluster(seen: Observed, now: datetime) -> None:
    metadata = seen.batch.metadata.model_copy(update={"deletion_timestamp": NOW})
    going = replace(seen, batch=seen.batch.model_copy(update={"metadata": metadata}))
    assert decided(going, now) == Decision()


@given(observations(), moments)
def test_a_settled_batch_asks_for_nothing(seen: Observed, now: datetime) -> None:
    if is_terminal(seen.batch.phase):
        settled = with_status(seen.batch, seen.batch.status.model_copy(update={"settled": True}))
        assert decided(replace(seen, batch=settled), now) == Decision()
