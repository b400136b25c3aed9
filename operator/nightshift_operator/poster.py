"""Post a webhook over HTTPS: to an address that is allowed, once, without following a redirect or a proxy.

The address is checked as its socket is made, so that it is the one that is dialled, whatever a second look-up of the
name would give. The body of an answer is not read; its status says all.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from yarl import URL

from nightshift_crds.errors import Rejected
from nightshift_operator.facts import Answer
from nightshift_operator.settings import Settings
from nightshift_operator.webhooks import Endpoint, Network, WebhookEvent, is_allowed, parse_networks, sign

_GONE = 410
"""By Standard Webhooks: the receiver wants no more of this."""
_MAX_TEXT = 256
_AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class Poster(Protocol):
    """Whatever takes webhooks out."""

    async def post(self, endpoint: Endpoint, event: WebhookEvent) -> Answer:
        """Send an event to an endpoint, once. Gives what came of it, whatever that is."""
        ...


@asynccontextmanager
async def open_poster(settings: Settings) -> AsyncIterator[Poster]:
    """Open the way out. Raises `Rejected` if the file of authorities cannot be used."""
    networks = parse_networks(settings.webhook_allowed_cidrs)
    connector = aiohttp.TCPConnector(
        ssl=_trust(settings.webhook_ca_file),
        socket_factory=partial(_open_socket, networks),
        use_dns_cache=False,
        force_close=True,
        limit=0,  # the courier has its own
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=settings.webhook_timeout_s),
        headers={"Content-Type": "application/json", "User-Agent": "nightshift"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        yield HttpsPoster(session)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class HttpsPoster:
    """Posts over a session whose connector checks addresses and certificates."""

    session: aiohttp.ClientSession
    now: Callable[[], datetime] = _now

    async def post(self, endpoint: Endpoint, event: WebhookEvent) -> Answer:
        """See `Poster`."""
        url = URL(str(endpoint.url), encoded=True)
        headers = sign(event, endpoint.secrets, self.now())
        try:
            async with self.session.post(url, data=event.body, headers=headers, allow_redirects=False) as response:
                return judge(response.status)
        except (aiohttp.ClientError, OSError) as error:
            return Answer(_explain(error)[:_MAX_TEXT])


def judge(status: int) -> Answer:
    """Say what the status of an answer means: any of 200 to 299 is a yes. Pure."""
    words = "; redirects are not followed" if status in range(300, 400) else ""
    return Answer(f"HTTP {status}{words}", is_taken=status in range(200, 300), is_final=status == _GONE)


def _explain(error: aiohttp.ClientError | OSError) -> str:
    """Say what went wrong, never where to: a URL may hold what is secret."""
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as inner):
            return f"its certificate is not trusted: {inner.verify_message}"
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientConnectorError():
            return f"no connection: {error.os_error}"
        case asyncio.TimeoutError():
            return "no answer in time"
        case _:
            return "the connection broke before an answer"


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # an SSLError is one
            raise Rejected(f"The file of authorities {ca_file} cannot be used: {error.strerror or error}") from None
    return context


def _open_socket(allowed: Collection[Network], info: _AddressInfo) -> socket.socket:
    family, kind, protocol, _, address = info
    if not is_allowed(address[0], allowed):
        raise PermissionError(f"{address[0]} is neither public nor in a network that the operator's settings allow")
    return socket.socket(family, kind, protocol)
