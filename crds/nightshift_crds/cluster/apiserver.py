"""How a request reaches the API server: rate, retries, timeouts, and what each refusal means, in one place.

Reads are repeated freely. A write whose answer was lost is repeated too: guarded writes and names that are functions of
identity make that safe, and `Reply.repeated` says that "already there" or "already gone" may be our own doing.
Every retry has jitter; 429 slows all requests of the process down. Sources: kubernetes.md 2.8 and 6.1.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import structlog
from kubernetes.aio.client import ApiClient

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.errors import (
    AlreadyExists,
    Denied,
    Missing,
    Refused,
    Stale,
    Unauthenticated,
    Unavailable,
)

_log = structlog.get_logger()
MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
TRIES = 6
_BASE_S = 0.1
_CAP_S = 5.0
_SETTLE_S = 1.0
_MAX_SKEW_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90)
"""A watch gets a bookmark every minute; one that is silent for longer is dead."""
_AGAIN = frozenset({401, 408, 429, 500, 502, 503, 504})
"""401 too: a token may just have been replaced on disk."""
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Manifest | None = None
    content_type: str = _JSON


@dataclass(frozen=True)
class Reply:
    """An answer that stands: a success or a verdict.

    Attributes:
        repeated: an earlier try of the same call, whose answer was lost, may have taken effect.
    """

    status: int
    body: Manifest
    repeated: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether a create found the name taken."""
        return self.status == HTTPStatus.CONFLICT and self.body.get("reason") == "AlreadyExists"

    @property
    def is_stale(self) -> bool:
        """Whether a guard did not hold, or what was asked for is too old."""
        return self.status in {HTTPStatus.CONFLICT, HTTPStatus.GONE} and not self.is_taken

    @property
    def is_of_no_kind(self) -> bool:
        """Whether the server knows no such kind: a 404 that says nothing about any object."""
        return self.status == HTTPStatus.NOT_FOUND and not self.body.get("details", {}).get("name")

    def accepted(self) -> Manifest:
        """Give the body of a success. Raises `Missing`, `AlreadyExists`, `Stale` or `Refused` for a verdict."""
        if self.status < HTTPStatus.MULTIPLE_CHOICES:
            return self.body
        message = str(self.body.get("message") or f"the API server answered {self.status}")
        if self.is_of_no_kind:
            raise Unavailable(f"the cluster does not know this kind: {message}")
        if self.status == HTTPStatus.NOT_FOUND:
            raise Missing(message)
        if self.is_taken:
            raise AlreadyExists(message)
        if self.status == HTTPStatus.FORBIDDEN:
            raise Denied(message)
        raise (Stale if self.is_stale else Refused)(message)


class RateLimit:
    """A token bucket that halves its rate when the server says that it is too much, and recovers within minutes."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._full_per_s = per_s
        self._per_s = per_s
        self._clock = clock
        self._held = 2 * per_s
        self._since = clock()
        self._slowed = self._since - _SETTLE_S

    def reserve(self) -> float:
        """Take one request; gives the seconds to wait before it may be sent."""
        self._advance()
        self._held -= 1
        return max(-self._held / self._per_s, 0.0)

    def slow_down(self) -> None:
        """Halve the rate; requests that were on their way when it was halved do not halve it again."""
        now = self._advance()
        if now >= self._slowed + _SETTLE_S:
            self._slowed = now
            self._per_s = max(self._per_s / 2, 1.0)

    def _advance(self) -> float:
        now = self._clock()
        elapsed_s = now - self._since
        self._since = now
        self._per_s = min(self._full_per_s, self._per_s * (1 + 0.02 * elapsed_s))
        self._held = min(2 * self._per_s, self._held + elapsed_s * self._per_s)
        return now


class ApiServer:
    """One API server, as one process talks to it."""

    def __init__(self, client: ApiClient, limit: RateLimit) -> None:
        self._client = client
        self._limit = limit
        self._is_skewed = False

    async def send(self, call: Call) -> Reply:
        """Send a request until it has an answer that stands.

        Raises:
            Unavailable: there is none, however often it was asked; `Unauthenticated` if the last said 401.
        """
        repeated = False
        for attempt in range(1, TRIES + 1):
            status, headers, body = await self._try(call)
            if status and status not in _AGAIN:
                return Reply(status, _parse(body), repeated)
            if status == HTTPStatus.TOO_MANY_REQUESTS:
                self._limit.slow_down()
            else:
                repeated = True
            if attempt < TRIES:
                await asyncio.sleep(delay_s(attempt, headers.get("Retry-After"), random.random()))  # noqa: S311 - jitter
        problem = Unauthenticated if status == HTTPStatus.UNAUTHORIZED else Unavailable
        raise problem(f"the API server does not answer {call.method} {call.path}: {status or body.decode()}")

    async def _try(self, call: Call) -> tuple[int, Mapping[str, str], bytes]:
        try:
            async with self._open(call, _TIMEOUT) as response:
                self._compare_clocks(response.headers.get("Date", ""))
                return response.status, response.headers, await response.read()
        except _BROKEN as error:
            return 0, {}, type(error).__name__.encode()

    def _compare_clocks(self, date: str) -> None:
        """Say once that this machine's clock is not the server's: deadlines are set by the one, judged by the other."""
        ahead_s = seconds_ahead(date, datetime.now(UTC))
        is_skewed = abs(ahead_s) > _MAX_SKEW_S
        if is_skewed and not self._is_skewed:
            _log.warning("cluster.clocks_differ", ahead_s=round(ahead_s, 1))
        self._is_skewed = is_skewed

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """Read an answer that goes on, in chunks as they come; ends when the server ends it.

        Raises:
            Missing, Stale, Refused: the server's verdict on the request.
            Unavailable: it did not answer, or the connection broke.
        """
        try:
            async with self._open(call, _STREAM_TIMEOUT) as response:
                if response.status != HTTPStatus.OK:
                    await self._refuse(call, response)
                try:
                    async for chunk in response.content.iter_any():
                        yield chunk
                finally:
                    if response.connection and response.connection.transport:
                        response.connection.transport.abort()  # a polite end of TLS would outlive whoever leaves
        except _BROKEN as error:
            raise Unavailable(f"the API server broke off {call.path}: {type(error).__name__}", delay_s=0) from error

    async def _refuse(self, call: Call, response: aiohttp.ClientResponse) -> None:
        if response.status not in _AGAIN:
            Reply(response.status, _parse(await response.read())).accepted()
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._limit.slow_down()
        pause_s = delay_s(1, response.headers.get("Retry-After"), 1)
        raise Unavailable(f"the API server answers {call.path} with {response.status}", delay_s=pause_s)

    @asynccontextmanager
    async def _open(self, call: Call, patience: aiohttp.ClientTimeout) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        await asyncio.sleep(self._limit.reserve())
        request = await self._client.param_serialize(
            call.method,
            call.path,
            query_params=list(call.query),
            header_params={"Accept": _JSON, "Content-Type": call.content_type},
            body=call.body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*request, _request_timeout=patience)
        response: aiohttp.ClientResponse = answer.response
        async with response:
            yield response


async def unrepeated(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request once: aiohttp repeats a DELETE whose connection broke, and `Reply.repeated` would not know."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


def seconds_ahead(date: str, now: datetime) -> float:
    """Say how far a clock is ahead of a server that answers with this `Date`; 0.0 if it says none. Pure."""
    try:
        return (now - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def delay_s(attempt: int, retry_after: str | None, luck: float) -> float:
    """Say how long to wait after a try that had no verdict; `luck` is a random number in [0, 1). Pure."""
    asked_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    backoff_s = min(_CAP_S, _BASE_S * 2.0**attempt)
    return float(max(min(asked_s, 2 * _CAP_S), backoff_s * (0.5 + 0.5 * luck)))


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:  # a proxy on the way says something in HTML
        return {}
