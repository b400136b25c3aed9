"""What a webhook says, how it is signed, and where it may go.

Pure. Events and payload are OpenAI's (contract 4.6); id, timestamp and signature are those of Standard Webhooks 1.0.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, UrlConstraints
from pydantic_core import Url

from nightshift_crds.lifecycle import TIMESTAMPS, Phase
from nightshift_crds.models import MAX_WEBHOOKS, BatchJob

Network = IPv4Network | IPv6Network
EVENT_TYPES = {
    Phase.COMPLETED: "batch.completed",
    Phase.FAILED: "batch.failed",
    Phase.EXPIRED: "batch.expired",
    Phase.CANCELLED: "batch.cancelled",
}
_PREFIX = "whsec_"
_GROWTH = 3
_KEY_BYTES = range(24, 65)
"""Lengths of a key that Standard Webhooks allows."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""Behind it stand IPv4 addresses (RFC 6052), private ones too if the gateway lets them."""
_METADATA = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
"""Clouds tell a machine there what only it may know (Azure, Oracle), and Python counts these as public."""


def _check_url(url: Url) -> Url:
    if not url.host or url.username or url.password or url.fragment is not None:
        raise ValueError("expected https://HOST/... without user, password or fragment")
    return url


def _check_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError("expected whsec_ and the Base64 of 24 to 64 bytes")
    return secret


class Endpoint(BaseModel):
    """Who is told of the end of batches; of several secrets each signs, so that one can follow another."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    url: Annotated[
        Url, UrlConstraints(max_length=2048, allowed_schemes=["https"]), AfterValidator(_check_url), Field(repr=False)
    ]
    secrets: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_check_secret)], ...], Field(min_length=1, max_length=3)
    ]
    namespaces: tuple[str, ...] = ()
    """Whose batches it is told of; those of all namespaces if there is none."""


def _check_names(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    if len({endpoint.name for endpoint in endpoints}) < len(endpoints):
        raise ValueError("expected a name of its own for each")
    return endpoints


class _EndpointFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    webhooks: Annotated[tuple[Endpoint, ...], Field(max_length=MAX_WEBHOOKS), AfterValidator(_check_names)]


def parse_endpoints(data: bytes) -> tuple[Endpoint, ...]:
    """Read the file of endpoints. Raises pydantic.ValidationError, which shows neither URL nor secret."""
    return _EndpointFile.model_validate_json(data).webhooks


@dataclass(frozen=True)
class WebhookEvent:
    """What is told of one batch.

    Attributes:
        id: the same however often and by whomever it is sent, so that a receiver can tell that it knows it already.
    """

    id: str
    body: bytes


def build_event(batch: BatchJob) -> WebhookEvent:
    """Say that a batch has ended: a function of its identity and its end alone."""
    kind = EVENT_TYPES[batch.phase]
    event_id = f"evt_{hashlib.sha256(f'{batch.metadata.uid}/{kind}'.encode()).hexdigest()[:32]}"
    ended_at: datetime = getattr(batch.status, TIMESTAMPS[batch.phase])
    payload = {
        "id": event_id,
        "object": "event",
        "type": kind,
        "created_at": int(ended_at.timestamp()),
        "data": {"id": batch.id},
    }
    return WebhookEvent(event_id, json.dumps(payload, separators=(",", ":")).encode())


def sign(event: WebhookEvent, secrets: Iterable[SecretStr], now: datetime) -> dict[str, str]:
    """Make the headers of a webhook; receivers refuse a timestamp that is more than five minutes off."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join((event.id.encode(), timestamp.encode(), event.body))
    signatures = [f"v1,{_hmac(secret, signed)}" for secret in secrets]
    return {
        "webhook-id": event.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _hmac(secret: SecretStr, signed: bytes) -> str:
    key = base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def pauses(first_s: int, give_up_s: int) -> tuple[timedelta, ...]:
    """List the pauses between attempts: each three times the one before, and together as long as told."""
    found: list[timedelta] = []
    left, pause = timedelta(seconds=give_up_s), timedelta(seconds=first_s)
    while left:
        found.append(min(pause, left))
        left -= found[-1]
        pause *= _GROWTH
    return tuple(found)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks as 10.0.0.0/8 is written. Raises `ValueError`."""
    return tuple(map(ip_network, texts))


def is_allowed(address: str, allowed: Collection[Network]) -> bool:
    """Tell whether a webhook may be sent to an address: to a public one, or to one that the settings allow."""
    found = _unwrap(ip_address(address))
    if any(found in network for network in allowed):
        return True
    is_public = found.is_global and not found.is_multicast and not found.is_reserved
    return is_public and not any(found in network for network in _METADATA)


def _unwrap(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Find the IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return address
    behind_nat64 = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return address.ipv4_mapped or address.sixtofour or behind_nat64 or address
