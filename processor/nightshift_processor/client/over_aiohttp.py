"""The client over aiohttp: slower by far, and known by everybody. For whom the thin one fails."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp

from nightshift_crds.several import Start, errands
from nightshift_processor.client.port import (
    CONNECT_TIMEOUT_S,
    IDLE_S,
    Endpoint,
    Failure,
    Hear,
    ModelClient,
    Result,
    build_answer,
)

_READ_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20
"""From here on aiohttp warns of bytes that are given to it as they are."""
_NOBODY_TOOK_IT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


class AiohttpClient:
    """See the port."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: Endpoint, start: Start) -> None:
        self._session = session
        self._endpoint = endpoint
        self._start = start

    def send(self, body: bytes, hear: Hear) -> None:
        """See the port."""
        self._start(self._send(body, hear))

    async def _send(self, body: bytes, hear: Hear) -> None:
        hear(await self._post(body))

    async def _post(self, body: bytes) -> Result:
        try:
            async with self._session.post(self._endpoint.url, data=_payload(body), allow_redirects=False) as response:
                content = await self._read(response)
                request_id, retry_after = _header(response, "x-request-id"), _header(response, "retry-after")
        except _NOBODY_TOOK_IT:
            return Failure.NOT_CONNECTED
        except TimeoutError:
            return Failure.TIMEOUT
        except (aiohttp.ClientError, OSError):
            return Failure.BROKEN
        if content is None:
            return Failure.TOO_LARGE
        return build_answer(response.status, content, request_id, retry_after)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        held: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_READ_BYTES):
            held.append(chunk)
            size += len(chunk)
            if size > self._endpoint.max_answer_bytes:
                return None
        return b"".join(held)


def _payload(body: bytes) -> bytes | BytesIO:
    """Let a large body, such as one with pictures, be sent in pieces, so that others are sent between them."""
    return BytesIO(body) if len(body) > _LARGE_BYTES else body


def _header(response: aiohttp.ClientResponse, name: str) -> bytes:
    return response.headers.get(name, "").encode(errors="surrogateescape")


@asynccontextmanager
async def open_aiohttp(endpoint: Endpoint) -> AsyncIterator[ModelClient]:
    """Open it for as long as the context lasts; leaving it aborts what is in flight."""
    timeout = aiohttp.ClientTimeout(total=endpoint.timeout_s, sock_connect=CONNECT_TIMEOUT_S)
    connector = aiohttp.TCPConnector(
        limit=0,  # the workers are the limit
        keepalive_timeout=IDLE_S,
        ssl=ssl.create_default_context(),  # what SSL_CERT_FILE says now, not when aiohttp was imported
    )
    session = aiohttp.ClientSession(
        connector=connector,
        headers=endpoint.headers,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=True,
    )
    async with session, errands() as start:
        yield AiohttpClient(session, endpoint, start)
