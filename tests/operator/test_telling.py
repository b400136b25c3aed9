"""Whom to tell that a batch has ended, whom again and when: what was answered, situation by situation."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.models import DeliveryState, WebhookDelivery
from nightshift_crds.names import Step
from nightshift_operator.decide import decide
from nightshift_operator.decisions import Decision, DeleteJob, EventReason, PurgeScratch, SendWebhook
from nightshift_operator.facts import Answer, Attempt, Observed
from tests.builders import timestamp
from tests.operator.builders import LATE, NOW, POLICY, a_job, a_status, after, observed, sealed

ENDS = [Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED]
YES, NO, GONE = Answer("HTTP 200", is_taken=True), Answer("HTTP 500"), Answer("HTTP 410", is_final=True)


def ended(phase: Phase = Phase.COMPLETED, *deliveries: dict[str, Any], **facts: Any) -> Observed:
    """See a batch whose end is long ago, so that nothing else is left to do for it."""
    status = a_status(phase, Sealing(phase.lower()), webhooks=list(deliveries))
    defaults: dict[str, Any] = {"sealed": sealed(), "listeners": ("billing",)}
    return observed(status=status, **(defaults | facts))


def a_delivery(name: str = "billing", attempts: int = 0, at: datetime | None = LATE, **more: Any) -> dict[str, Any]:
    return {"name": name, "attempts": attempts} | ({"nextAttemptAt": timestamp(at)} if at else {}) | more


def decided(seen: Observed, now: datetime = LATE) -> Decision:
    return decide(seen, now, POLICY)


def deliveries_of(decision: Decision) -> dict[str, WebhookDelivery]:
    assert decision.status is not None
    return {delivery.name: delivery for delivery in decision.status.webhooks}


@pytest.mark.parametrize("phase", ENDS)
def test_every_endpoint_is_told_of_every_end(phase: Phase) -> None:
    decision = decided(ended(phase, listeners=("billing", "audit")))
    assert decision.actions == (SendWebhook("billing", 1), SendWebhook("audit", 1))
    assert [(d.state, d.attempts, d.next_attempt_at) for d in deliveries_of(decision).values()] == [
        (DeliveryState.PENDING, 0, LATE)
    ] * 2
    assert decision.status
    assert not decision.status.settled


def test_a_batch_is_told_of_before_its_jobs_are_gone() -> None:
    job = a_job(Step.SEAL)
    decision = decided(ended(seal=job))
    assert decision.actions == (DeleteJob(job.name, job.uid), SendWebhook("billing", 1))


@pytest.mark.parametrize("at", [LATE, LATE - timedelta(days=3)])
def test_what_is_under_way_is_waited_for(at: datetime) -> None:
    decision = decided(ended(Phase.FAILED, a_delivery(at=at), attempts={"billing": Attempt(1)}))
    assert (decision.actions, decision.status) == ((), None)
    assert decision.requeue_after_s == 300


def test_what_was_taken_settles_the_batch_and_only_then_its_logs_go() -> None:
    seen = ended(Phase.COMPLETED, a_delivery(), attempts={"billing": Attempt(1, YES)})
    decision = decided(seen)
    delivery = deliveries_of(decision)["billing"]
    assert (delivery.state, delivery.attempts, delivery.last_answer) == (DeliveryState.DELIVERED, 1, "HTTP 200")
    assert (delivery.last_attempt_at, delivery.next_attempt_at) == (LATE, None)
    assert decision.status
    assert decision.status.settled
    assert decision.actions == (PurgeScratch(),)


def test_while_one_is_still_to_be_told_nothing_settles() -> None:
    taken = a_delivery("audit", attempts=1, at=None, state="Delivered")
    seen = ended(Phase.COMPLETED, taken, a_delivery(at=LATE + timedelta(hours=1)), listeners=("audit", "billing"))
    decision = decided(seen)
    assert (decision.actions, decision.status, decision.requeue_after_s) == ((), None, 3_600)


def test_logs_that_are_kept_longer_than_the_next_attempt_do_not_delay_it() -> None:
    ended_at = ended().batch.status.completed_at
    assert ended_at is not None
    soon = ended_at + timedelta(seconds=5)
    decision = decided(ended(Phase.COMPLETED, a_delivery(attempts=1, at=soon)), ended_at)
    assert decision.requeue_after_s == 5
    over = a_delivery(attempts=1, at=None, state="Delivered")
    assert decided(ended(Phase.COMPLETED, over), ended_at).requeue_after_s == POLICY.scratch_retention.total_seconds()


@pytest.mark.parametrize("attempts", range(10))
def test_what_was_not_taken_is_sent_again_after_the_next_pause(attempts: int) -> None:
    tried = {"billing": Attempt(attempts + 1, NO)}
    decision = decided(ended(Phase.EXPIRED, a_delivery(attempts=attempts), attempts=tried))
    delivery, pause = deliveries_of(decision)["billing"], POLICY.webhook_pauses[attempts]
    assert (delivery.state, delivery.attempts, delivery.last_answer) == (
        DeliveryState.PENDING,
        attempts + 1,
        "HTTP 500",
    )
    assert delivery.next_attempt_at == LATE + pause
    assert (decision.actions, decision.requeue_after_s) == ((), pause.total_seconds())


@pytest.mark.parametrize(("attempts", "answer"), [(10, NO), (0, GONE), (4, GONE)])
def test_what_is_never_taken_is_given_up_and_people_are_told(attempts: int, answer: Answer) -> None:
    tried = {"billing": Attempt(attempts + 1, answer)}
    decision = decided(ended(Phase.EXPIRED, a_delivery(attempts=attempts), attempts=tried))
    delivery = deliveries_of(decision)["billing"]
    assert (delivery.state, delivery.next_attempt_at) == (DeliveryState.GIVEN_UP, None)
    assert decision.status
    assert decision.status.settled
    assert decision.event
    assert (decision.event.reason, decision.event.warning) == (EventReason.WEBHOOK_GIVEN_UP, True)
    assert f"'billing' after {attempts + 1} attempt" in decision.event.message
    assert f"({answer.text})" in decision.event.message


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_answer_counts_once_and_only_for_the_attempt_it_answers(number: int) -> None:
    seen = ended(Phase.FAILED, a_delivery(attempts=2), attempts={"billing": Attempt(number, YES)})
    decision = decided(seen)
    assert (decision.status, decision.actions) == (None, (SendWebhook("billing", 3),))
    once = decided(replace(seen, attempts={"billing": Attempt(3, NO)}))
    assert decided(after(replace(seen, attempts={"billing": Attempt(3, NO)}), once)).status is None


def test_an_endpoint_that_is_renamed_is_told_under_its_new_name_and_holds_nothing_up() -> None:
    seen = ended(Phase.COMPLETED, a_delivery("old", attempts=3, at=LATE + timedelta(hours=9)), listeners=("new",))
    decision = decided(seen)
    old = deliveries_of(decision)["old"]
    assert (old.state, old.last_answer, old.next_attempt_at) == (
        DeliveryState.GIVEN_UP,
        "it is not configured any more",
        None,
    )
    assert decision.actions == (SendWebhook("new", 1),)
    assert decision.event
    assert "'old'" in decision.event.message


def test_without_endpoints_a_batch_settles_whatever_was_still_to_be_sent() -> None:
    given_up = a_delivery("gone", attempts=11, at=None, state="GivenUp", lastAnswer="HTTP 500")
    seen = ended(Phase.COMPLETED, a_delivery(attempts=3, at=LATE + timedelta(hours=9)), given_up, listeners=())
    decision = decided(seen)
    assert decision.status
    assert decision.status.settled
    assert deliveries_of(decision)["gone"].last_answer == "HTTP 500"
    assert decision.event
    assert "gone" not in decision.event.message


def test_the_list_stays_bounded_however_often_endpoints_are_renamed() -> None:
    seen = ended(Phase.COMPLETED, *(a_delivery(f"old-{n}") for n in range(32)), listeners=("new",))
    assert len(deliveries_of(decided(seen))) == 32
    assert "new" in deliveries_of(decided(seen))


def test_a_batch_that_has_settled_tells_nobody_more() -> None:
    status = a_status(Phase.COMPLETED, Sealing.COMPLETED, settled=True)
    assert decided(observed(status=status, listeners=("billing",))) == Decision()


def test_over_a_day_of_silence_an_event_is_sent_eleven_times_and_given_up() -> None:
    seen, now, sent_at = ended(Phase.COMPLETED), NOW, list[datetime]()
    for _ in range(100):
        decision = decided(seen, now)
        seen = after(seen, decision)
        if seen.batch.status.settled:
            break
        for action in decision.actions:
            assert isinstance(action, SendWebhook)
            assert action.attempt == len(sent_at) + 1
            sent_at.append(now)
            seen = replace(seen, attempts={"billing": Attempt(action.attempt, NO)})
        if not decision.actions:
            assert decision.requeue_after_s
            now += timedelta(seconds=decision.requeue_after_s)
    assert seen.batch.status.settled
    assert (len(sent_at), sent_at[-1] - sent_at[0]) == (11, timedelta(days=1))
