"""What conditions say: trouble of pods in words, and times that move only with the value."""

from datetime import timedelta
from typing import Any

import pytest

from nightshift_crds.models import BatchJobStatus, Condition
from nightshift_operator.conditions import (
    Kind,
    Reason,
    Says,
    explain_hopeless,
    explain_run,
    no,
    with_condition,
    yes,
)
from nightshift_operator.facts import Job, Pod, Trouble
from tests.builders import T0
from tests.operator.builders import NOW, a_job

GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def a_pod(trouble: Trouble | None = None, message: str = "", **more: Any) -> Pod:
    return Pod("pod", "uid", trouble=trouble, message=message, **more)


@pytest.mark.parametrize(
    ("job", "reason", "words"),
    [
        (a_job(), Reason.STARTING, "being started"),
        (a_job(suspended=True), Reason.WAITING_FOR_QUOTA, "queue"),
        (a_job(pods=(a_pod(),)), Reason.STARTING, "being started"),
        (a_job(pods=(a_pod(Trouble.NO_NODE, GPU),)), Reason.NO_NODE, GPU),
        (a_job(pods=(a_pod(Trouble.IMAGE_PULL, "no such image"),)), Reason.IMAGE_PULL, "no such image"),
        (a_job(pods=(a_pod(Trouble.NO_NODE),)), Reason.NO_NODE, "no node"),
        (a_job(pods=(a_pod(Trouble.MISCONFIGURED),)), Reason.MISCONFIGURED, "misconfigured"),
        (a_job(pods=(a_pod(Trouble.OUT_OF_MEMORY, exit_code=137),)), Reason.OUT_OF_MEMORY, "out of memory"),
        (a_job(pods=(a_pod(Trouble.MODEL_LOADING),)), Reason.MODEL_LOADING, "model loading"),
        (a_job(pods=(a_pod(Trouble.MODEL_CRASHED, running=True),)), Reason.MODEL_CRASHED, "model crashed"),
        (a_job(pods=(a_pod(), a_pod(Trouble.NO_NODE, GPU))), Reason.NO_NODE, GPU),
        (a_job(pods=(a_pod(exit_code=1), a_pod(exit_code=75))), Reason.CRASHED, "exit code 1, 75"),
        (a_job(pods=(a_pod(exit_code=0), a_pod())), Reason.STARTING, "being started"),
    ],
)
def test_a_job_without_a_running_pod_says_why(job: Job, reason: Reason, words: str) -> None:
    says = explain_run(job)
    assert (says.kind, says.holds, says.reason) == (Kind.SCHEDULED, False, reason)
    assert words in says.message


def test_a_running_pod_outweighs_the_trouble_of_others() -> None:
    says = explain_run(a_job(pods=(a_pod(Trouble.OUT_OF_MEMORY, exit_code=137), a_pod(running=True))))
    assert (says.holds, says.reason) == (True, Reason.RUNNING)


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_a_reason_of_its_own(trouble: Trouble) -> None:
    reasons = {explain_run(a_job(pods=(a_pod(each),))).reason for each in Trouble}
    assert explain_run(a_job(pods=(a_pod(trouble),))).reason in reasons
    assert len(reasons) == len(Trouble)


# --- what is not waited for -------------------------------------------------------------------------------------------

STUCK = timedelta(minutes=30)
LONG_AGO = NOW - STUCK


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (a_pod(Trouble.MODEL_CRASHED, "words", model_restarts=5), Reason.MODEL_CRASHED),
        (a_pod(Trouble.OUT_OF_MEMORY, "words", model_restarts=7), Reason.OUT_OF_MEMORY),
        (a_pod(running=True, model_restarts=5), Reason.MODEL_CRASHED),
        (a_pod(Trouble.IMAGE_PULL, "words", scheduled_at=LONG_AGO), Reason.IMAGE_PULL),
        (a_pod(Trouble.MISCONFIGURED, "words", scheduled_at=LONG_AGO), Reason.MISCONFIGURED),
    ],
)
def test_a_job_is_given_up_whose_model_server_keeps_dying_or_can_never_start(pod: Pod, reason: Reason) -> None:
    says = explain_hopeless(a_job(pods=(a_pod(running=True), pod)), NOW, 5, STUCK)
    assert says
    assert (says.kind, says.holds, says.reason) == (Kind.SCHEDULED, False, reason)
    assert says.message == "words" or "started again 5 times" in says.message


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(Trouble.MODEL_CRASHED, model_restarts=4),
        a_pod(Trouble.MODEL_CRASHED, model_restarts=9, exit_code=1),
        a_pod(Trouble.MODEL_CRASHED, model_restarts=9, deleting_at=NOW),
        a_pod(Trouble.IMAGE_PULL, scheduled_at=LONG_AGO + timedelta(seconds=1)),
        a_pod(Trouble.IMAGE_PULL),
        a_pod(Trouble.NO_NODE),
        a_pod(Trouble.MODEL_LOADING, scheduled_at=LONG_AGO),
        a_pod(running=True, scheduled_at=LONG_AGO),
    ],
)
def test_a_job_that_may_still_do_its_work_is_waited_for(pod: Pod) -> None:
    assert explain_hopeless(a_job(pods=(pod,)), NOW, 5, STUCK) is None


# --- conditions -------------------------------------------------------------------------------------------------------


def conditions_after(*says: Says) -> list[Condition]:
    status = BatchJobStatus()
    for n, one in enumerate(says):
        status = with_condition(status, one, T0 + timedelta(minutes=n))
    return status.conditions


def test_a_condition_keeps_its_time_while_only_its_words_change() -> None:
    [condition] = conditions_after(
        no(Kind.SCHEDULED, Reason.STARTING, "One."), no(Kind.SCHEDULED, Reason.IMAGE_PULL, "Two.")
    )
    assert (condition.last_transition_time, condition.message) == (T0, "Two.")


def test_a_condition_takes_the_time_at_which_its_value_changes() -> None:
    [condition] = conditions_after(
        no(Kind.SCHEDULED, Reason.STARTING, "One."), yes(Kind.SCHEDULED, Reason.RUNNING, "Two.")
    )
    assert condition.last_transition_time == T0 + timedelta(minutes=1)


def test_there_is_one_condition_of_a_kind_and_their_order_does_not_depend_on_time() -> None:
    validated, scheduled = yes(Kind.VALIDATED, Reason.INPUT_ACCEPTED, ""), no(Kind.SCHEDULED, Reason.STARTING, "")
    kinds = [c.type for c in conditions_after(validated, scheduled, validated)]
    assert kinds == [c.type for c in conditions_after(scheduled, validated)] == [Kind.SCHEDULED, Kind.VALIDATED]


def test_what_is_not_known_is_unknown() -> None:
    [condition] = conditions_after(Says(Kind.VALIDATED, holds=None, reason=Reason.INSPECTING, message="..."))
    assert condition.status == "Unknown"


def test_a_message_that_is_too_long_for_the_cluster_is_cut() -> None:
    status = with_condition(BatchJobStatus(), no(Kind.SCHEDULED, Reason.NO_NODE, "x" * 5_000), NOW)
    assert BatchJobStatus.model_validate(status.dump()).conditions[0].message == "x" * 1024
