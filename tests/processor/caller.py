"""What the tests of both clients call them by."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Answer, Failure, ModelClient, Result, open_client
from nightshift_processor.settings import HttpClient
from tests.processor.canned import Canned, serving
from tests.processor.given import run_settings


@dataclass(frozen=True)
class Caller:
    """Opens clients of one kind."""

    kind: HttpClient
    bucket: Bucket

    def client(self, url: str, **values: Any) -> AbstractAsyncContextManager[ModelClient]:
        return open_client(run_settings(self.bucket, model_url=url, http_client=self.kind, **values))

    async def ask(self, *answers: Canned, **values: Any) -> Answer:
        async with serving(*answers) as server, self.client(server.url, **values) as client:
            return await post(client, b"{}")

    async def failure_of(self, *answers: Canned, **values: Any) -> Failure:
        async with serving(*answers) as server, self.client(server.url, **values) as client:
            return await failure_of(client)


async def result_of(client: ModelClient, body: bytes = b"{}") -> Result:
    """Send a request and wait for what comes of it; it must come in a later turn of the loop, and once."""
    heard: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    client.send(body, heard.set_result)
    assert not heard.done()
    return await heard


async def post(client: ModelClient, body: bytes) -> Answer:
    result = await result_of(client, body)
    assert isinstance(result, Answer), result
    return result


async def failure_of(client: ModelClient, body: bytes = b"{}") -> Failure:
    result = await result_of(client, body)
    assert isinstance(result, Failure), result
    return result
