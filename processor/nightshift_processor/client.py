"""How a request reaches the model server: a narrow interface, and aiohttp behind it.

A client sends bytes and gives bytes; it follows no redirect, keeps no cookie, decides nothing. What an answer means is
`outcome`'s to say, whether to ask again `retry`'s.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from typing import Protocol

import aiohttp

from nightshift_processor.settings import RunSettings

_CONNECT_TIMEOUT_S = 10.0
_READ_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20
"""From here on aiohttp warns of bytes that are given to it as they are."""


@dataclass(frozen=True)
class Answer:
    """What the model server said.

    Attributes:
        retry_after_s: how long it wants to be left alone, if it said so in seconds.
    """

    status: int
    body: bytes
    request_id: str | None = None
    retry_after_s: float | None = None


class Failure(Enum):
    """Why there is no answer."""

    NOT_CONNECTED = auto()
    """Nobody took the request: the server is down or unknown."""
    BROKEN = auto()
    """The connection broke after the request had gone out, so the server may have worked on it."""
    TIMEOUT = auto()
    """No whole answer within the time for one."""
    TOO_LARGE = auto()
    """The answer is larger than is taken."""


class NoAnswer(Exception):
    """A request has no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


class ModelClient(Protocol):
    """Sends one request at a time per caller; any number of callers."""

    async def post(self, body: bytes) -> Answer:
        """Send a request body to the batch's endpoint. Raises `NoAnswer`."""
        ...


class AiohttpClient:
    """The client over aiohttp; see `open_client`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, max_answer_bytes: int) -> None:
        self._session = session
        self._url = url
        self._max_answer_bytes = max_answer_bytes

    async def post(self, body: bytes) -> Answer:
        """See the interface."""
        try:
            async with self._session.post(self._url, data=_payload(body), allow_redirects=False) as response:
                return Answer(
                    response.status,
                    await self._read(response),
                    _text(response.headers.get("x-request-id", "")),
                    _seconds(response.headers.get("retry-after", "")),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NoAnswer(Failure.NOT_CONNECTED) from error
        except TimeoutError as error:
            raise NoAnswer(Failure.TIMEOUT) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(Failure.BROKEN) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        held: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            held.append(chunk)
            size += len(chunk)
            if size > self._max_answer_bytes:
                raise NoAnswer(Failure.TOO_LARGE)
        return b"".join(held)


def _payload(body: bytes) -> bytes | BytesIO:
    """Let a large body, such as one with pictures, be sent in pieces, so that others are sent between them."""
    return BytesIO(body) if len(body) > _LARGE_BYTES else body


def _text(header: str) -> str:
    """Give a header as text that can be written: bytes that are no UTF-8 come as lone surrogates."""
    return header.encode(errors="surrogateescape").decode(errors="replace")


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def join_url(root: str, endpoint: str) -> str:
    """Append an endpoint to the root of a model server, which may be written with or without `/v1`. Pure."""
    return root.rstrip("/").removesuffix("/v1").rstrip("/") + endpoint


@asynccontextmanager
async def open_client(settings: RunSettings) -> AsyncIterator[ModelClient]:
    """Open a client for as long as the context lasts; leaving it aborts what is in flight."""
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "nightshift"}
    if settings.model_api_key:
        headers["Authorization"] = f"Bearer {settings.model_api_key.get_secret_value()}"
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)  # the workers are the limit
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
    ) as session:
        url = join_url(str(settings.model_url), settings.endpoint)
        yield AiohttpClient(session, url, settings.max_answer_bytes)
