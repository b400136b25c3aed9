"""The reference: a batch in the pattern of vLLM's `run-batch`, with a model server behind HTTP in place of its engine.

`python -m tests.bench.run_batch INPUT OUTPUT URL CONNECTIONS` prints seconds on the clock and of CPU, imports left out.
As there: the file is read whole, each line becomes a pydantic model and a task, results are pydantic models in memory
until all are there, and are then written in order. Nothing is durable before that, nothing is tried again. It is easy
on the pattern: vLLM's own models have several dozen fields. Its newer versions read the file bit by bit and write
through aiofiles, which holds less memory and is no faster.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from uuid import uuid4

import aiohttp
from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Of a prompt or of an answer."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str | None = None


class Body(BaseModel):
    """Of a request."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[Message]


class Request(BaseModel):
    """A line of the input."""

    custom_id: str
    method: str
    url: str
    body: Body


class Choice(BaseModel):
    """One of an answer."""

    model_config = ConfigDict(extra="allow")
    index: int
    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """Tokens of an answer."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    total_tokens: int = 0


class Completion(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="allow")
    id: str
    model: str
    choices: list[Choice]
    usage: Usage


class Response(BaseModel):
    """An answer as its line shows it."""

    status_code: int = 200
    request_id: str
    body: Completion


class Output(BaseModel):
    """A line of the output."""

    id: str
    custom_id: str
    response: Response | None
    error: str | None = None


async def answer(session: aiohttp.ClientSession, url: str, slots: asyncio.Semaphore, request: Request) -> Output:
    """Have one line answered."""
    async with slots, session.post(url + request.url, json=request.body.model_dump(exclude_none=True)) as response:
        response.raise_for_status()
        body = Completion.model_validate(await response.json())
    found = Response(request_id=f"vllm-batch-{uuid4().hex}", body=body)
    return Output(id=f"vllm-{uuid4().hex}", custom_id=request.custom_id, response=found)


async def main(source: Path, target: Path, url: str, connections: int) -> None:
    """Run a batch."""
    slots = asyncio.Semaphore(connections)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        lines = source.read_text().strip().split("\n")  # noqa: ASYNC240 - as in the original
        requests = [Request.model_validate_json(line) for line in lines]
        outputs = await asyncio.gather(*(answer(session, url, slots, request) for request in requests))
    with target.open("w") as file:
        for output in outputs:
            print(output.model_dump_json(), file=file)


if __name__ == "__main__":
    began, cpu_began = time.perf_counter(), time.process_time()
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    print(json.dumps({"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}))
