"""What the tests of both clients call them by."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_processor.client import Answer, Failure, ModelClient, NoAnswer, open_client
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
            return await client.post(b"{}")

    async def failure_of(self, *answers: Canned, **values: Any) -> Failure:
        async with serving(*answers) as server, self.client(server.url, **values) as client:
            return await failure_of(client)


async def failure_of(client: ModelClient, body: bytes = b"{}") -> Failure:
    with pytest.raises(NoAnswer) as no_answer:
        await client.post(body)
    return no_answer.value.failure
