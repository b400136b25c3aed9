"""What a webhook says and how it is signed, as receivers check it; and where none may go."""

import base64
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import InvalidWebhookSignatureError, OpenAI
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, Phase
from nightshift_operator.webhooks import (
    EVENT_TYPES,
    build_event,
    is_allowed,
    parse_endpoints,
    parse_networks,
    pauses,
    sign,
)
from tests.builders import BATCH_UID, a_batch
from tests.operator.builders import a_status

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
URL = "https://hooks.example/nightshift?token=hidden"


def an_endpoint(**more: Any) -> dict[str, Any]:
    return {"name": "billing", "url": URL, "secrets": [SECRET]} | more


def a_file(*endpoints: dict[str, Any]) -> bytes:
    return json.dumps({"webhooks": endpoints}).encode()


def signed(phase: Phase, *secrets: str, now: datetime | None = None) -> tuple[bytes, dict[str, str]]:
    event = build_event(a_batch(status=a_status(phase)))
    return event.body, sign(event, map(SecretStr, secrets), now or datetime.now(UTC))


# --- events -----------------------------------------------------------------------------------------------------------


def test_every_end_has_an_event() -> None:
    assert set(EVENT_TYPES) == TERMINAL


@pytest.mark.parametrize(("phase", "kind"), EVENT_TYPES.items())
def test_an_event_is_what_openai_s_sdk_takes_for_one(phase: Phase, kind: str) -> None:
    batch = a_batch(status=a_status(phase))
    body, headers = signed(phase, SECRET)
    event = OpenAI(api_key="unused").webhooks.unwrap(body, headers, secret=SECRET)
    assert type(event).__name__ == f"Batch{phase.title()}WebhookEvent"
    assert event.type == kind
    ended_at = getattr(batch.status, TIMESTAMPS[phase])
    assert event.model_dump() == {
        "id": headers["webhook-id"],
        "object": "event",
        "type": kind,
        "created_at": int(ended_at.timestamp()),
        "data": {"id": batch.id},
    }


def test_an_id_is_a_function_of_the_batch_and_its_end_alone() -> None:
    ids = {build_event(a_batch(status=a_status(phase))).id for phase in EVENT_TYPES for _ in range(2)}
    assert len(ids) == len(EVENT_TYPES)
    other = a_batch(status=a_status(Phase.FAILED), metadata={"uid": BATCH_UID.replace("5", "6")})
    assert build_event(other).id not in ids
    later = a_batch(status=a_status(Phase.FAILED, settled=True), metadata={"resourceVersion": "9"})
    assert build_event(later) == build_event(a_batch(status=a_status(Phase.FAILED)))


# --- signatures -------------------------------------------------------------------------------------------------------


def test_standard_webhooks_verifies_a_signature() -> None:
    body, headers = signed(Phase.COMPLETED, SECRET)
    assert Webhook(SECRET).verify(body, headers)["type"] == "batch.completed"


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_while_one_secret_follows_another_either_verifies(secret: str) -> None:
    body, headers = signed(Phase.COMPLETED, SECRET, OTHER)
    Webhook(secret).verify(body, headers)
    OpenAI(api_key="unused").webhooks.verify_signature(body, headers, secret=secret)


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"{}", {}),
        (None, {"webhook-id": "evt_other"}),
        (None, {"webhook-timestamp": str(int(datetime.now(UTC).timestamp()))}),
    ],
    ids=["body", "id", "time"],
)
def test_whatever_is_changed_is_refused(body: bytes | None, changes: dict[str, str]) -> None:
    sent, headers = signed(Phase.COMPLETED, SECRET, now=datetime.now(UTC) - timedelta(minutes=1))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body or sent, headers | changes)
    with pytest.raises(InvalidWebhookSignatureError):
        OpenAI(api_key="unused").webhooks.unwrap(body or sent, headers | changes, secret=SECRET)


# --- endpoints --------------------------------------------------------------------------------------------------------


def test_endpoints_are_read_and_show_neither_url_nor_secret() -> None:
    [one, two] = parse_endpoints(a_file(an_endpoint(), an_endpoint(name="audit", namespaces=["team-a"])))
    assert (one.name, str(one.url), one.secrets[0].get_secret_value()) == ("billing", URL, SECRET)
    assert two.namespaces == ("team-a",)
    assert "hidden" not in repr(one)
    assert SECRET not in repr(one)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Billing"},
        {"name": ""},
        {"url": "http://hooks.example/?token=hidden"},
        {"url": "https://user@hooks.example/?token=hidden"},
        {"url": "https://:hidden@hooks.example/"},
        {"url": "https://hooks.example/?token=hidden#part"},
        {"url": f"https://hooks.example/?token=hidden{'x' * 2048}"},
        {"url": "https://?token=hidden"},
        {"secrets": []},
        {"secrets": [SECRET] * 4},
        {"secrets": ["whsec_hidden"]},
        {"secrets": [f"whsec_{base64.b64encode(b'hidden').decode()}"]},
        {"secrets": [f"whsec_{base64.b64encode(b'hidden' * 11).decode()}"]},
        {"secrets": [SECRET.removeprefix("whsec_")]},
        {"nmaespaces": ["hidden"]},
    ],
    ids=str,
)
def test_an_endpoint_that_cannot_be_used_is_refused_without_a_word_of_what_is_secret(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_endpoints(a_file(an_endpoint(**change)))
    assert "hidden" not in str(refused.value)
    assert SECRET.removeprefix("whsec_") not in str(refused.value)


def test_two_endpoints_of_one_name_and_too_many_are_refused() -> None:
    with pytest.raises(ValidationError, match="a name of its own"):
        parse_endpoints(a_file(an_endpoint(), an_endpoint()))
    with pytest.raises(ValidationError, match="at most 16"):
        parse_endpoints(a_file(*(an_endpoint(name=f"n{n}") for n in range(17))))


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(address, ())


PRIVATE = [
    "127.0.0.1", "10.96.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "192.0.0.192", "168.63.129.16", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
    "ff02::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_not_however_it_is_written(address: str) -> None:
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", ["10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::a60:1"])
def test_a_private_address_is_allowed_in_a_network_of_the_settings(address: str) -> None:
    assert is_allowed(address, parse_networks(["fd00::/8", "10.96.0.0/12"]))
    assert not is_allowed("10.112.0.1", [ip_network("10.96.0.0/12")])


# --- retries ----------------------------------------------------------------------------------------------------------


def test_by_default_an_event_is_sent_eleven_times_over_a_day() -> None:
    found = [pause.total_seconds() for pause in pauses(5, 86_400)]
    assert found == [5, 15, 45, 135, 405, 1_215, 3_645, 10_935, 32_805, 37_195]


@given(st.integers(1, 3_600), st.integers(0, 700_000))
def test_pauses_grow_and_are_together_as_long_as_told(first_s: int, give_up_s: int) -> None:
    found = [pause.total_seconds() for pause in pauses(first_s, give_up_s)]
    assert sum(found) == give_up_s
    assert found[:-1] == sorted(found[:-1])
    assert all(pause > 0 for pause in found)
    assert len(found) <= 14
