"""Who is told that a batch has ended: whom to send a webhook now, whom again and when, and whom no more.

Pure. What has been answered is observed, and counts once: by the number of the attempt that it answers.
"""

from dataclasses import dataclass
from math import inf

from nightshift_crds.models import MAX_DELIVERIES, DeliveryState, WebhookDelivery
from nightshift_operator.decisions import Event, EventReason, SendWebhook
from nightshift_operator.facts import Answer
from nightshift_operator.view import View

_UNDER_WAY_S = 300.0
"""An answer brings the batch up again; this is for one that got lost."""
_REMOVED = "it is not configured any more"


@dataclass(frozen=True)
class Telling:
    """What follows for the webhooks of a batch.

    Attributes:
        after_s: when to look again for their sake; infinite once each was taken or given up.
    """

    deliveries: list[WebhookDelivery]
    actions: tuple[SendWebhook, ...]
    after_s: float
    event: Event | None


def tell(view: View) -> Telling:
    """Say what follows for the webhooks of a batch that has ended."""
    before = {delivery.name: delivery for delivery in view.status.webhooks}
    wanted = view.observed.listeners
    followed = [_follow(view, before.get(name) or _begin(view, name)) for name in wanted]
    removed = [_give_up(delivery) for name, delivery in before.items() if name not in wanted]
    deliveries = [*followed, *removed][:MAX_DELIVERIES]
    pending = [delivery for delivery in deliveries if delivery.state is DeliveryState.PENDING]
    return Telling(
        deliveries=deliveries,
        actions=tuple(SendWebhook(d.name, d.attempts + 1) for d in pending if _is_due(view, d)),
        after_s=min((_wait_s(view, delivery) for delivery in pending), default=inf),
        event=_explain([d for d in deliveries if d.state is DeliveryState.GIVEN_UP and d != before.get(d.name)]),
    )


def _begin(view: View, name: str) -> WebhookDelivery:
    return WebhookDelivery(name=name, next_attempt_at=view.now)


def _follow(view: View, delivery: WebhookDelivery) -> WebhookDelivery:
    answer = _news(view, delivery)
    return _record(view, delivery, answer) if answer else delivery


def _news(view: View, delivery: WebhookDelivery) -> Answer | None:
    attempt = view.observed.attempts.get(delivery.name)
    is_new = attempt is not None and attempt.number == delivery.attempts + 1
    return attempt.answer if attempt and is_new and delivery.state is DeliveryState.PENDING else None


def _record(view: View, delivery: WebhookDelivery, answer: Answer) -> WebhookDelivery:
    number = delivery.attempts + 1
    left = view.policy.webhook_pauses[number - 1 : number]
    state = DeliveryState.PENDING if left and not answer.is_final else DeliveryState.GIVEN_UP
    state = DeliveryState.DELIVERED if answer.is_taken else state
    return delivery.model_copy(
        update={
            "state": state,
            "attempts": number,
            "last_answer": answer.text,
            "last_attempt_at": view.now,
            "next_attempt_at": view.now + left[0] if state is DeliveryState.PENDING else None,
        }
    )


def _give_up(delivery: WebhookDelivery) -> WebhookDelivery:
    """Give up an endpoint that was removed or renamed; what has ended stays as it is."""
    if delivery.state is not DeliveryState.PENDING:
        return delivery
    update = {"state": DeliveryState.GIVEN_UP, "last_answer": _REMOVED, "next_attempt_at": None}
    return delivery.model_copy(update=update)


def _is_due(view: View, delivery: WebhookDelivery) -> bool:
    attempt = view.observed.attempts.get(delivery.name)
    is_under_way = attempt is not None and attempt.number == delivery.attempts + 1
    return _until_s(view, delivery) <= 0 and not is_under_way


def _wait_s(view: View, delivery: WebhookDelivery) -> float:
    until_s = _until_s(view, delivery)
    return until_s if until_s > 0 else _UNDER_WAY_S


def _until_s(view: View, delivery: WebhookDelivery) -> float:
    return (delivery.next_attempt_at - view.now).total_seconds() if delivery.next_attempt_at else 0.0


def _explain(given_up: list[WebhookDelivery]) -> Event | None:
    if not given_up:
        return None
    tried = (f"{d.name!r} after {d.attempts} attempt{'s' * (d.attempts != 1)} ({d.last_answer})" for d in given_up)
    text = f"Webhooks were given up: {', '.join(tried)}. Correct the endpoint; who waits for it must ask the API."
    return Event(EventReason.WEBHOOK_GIVEN_UP, text, warning=True)
