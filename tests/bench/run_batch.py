"""The reference: a batch in the pattern of vLLM's `run-batch`, with a model server behind HTTP in place of its engine.

`python -m tests.bench.run_batch INPUT OUTPUT URL CONNECTIONS` prints seconds on the clock and of CPU, imports left out.
As there, each line becomes a pydantic model and a task, each result a pydantic model, and results are written in the
order of the file. Lines are read and written through a pool of threads, one hop each, which is how aiofiles does it.
Nothing is durable before the end, nothing is tried again. It is kind to the pattern: vLLM's models have some thirty
fields and a few validators more. Its older versions read the file whole and write it in the end: they hold all of it in
memory and save the hops.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import aiohttp
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Of a request."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None


class Body(BaseModel):
    """Of a request."""

    model_config = ConfigDict(extra="allow")
    messages: list[Message]
    model: str | None = None
    frequency_penalty: float | None = 0.0
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = False
    max_tokens: int | None = None
    n: int | None = 1
    presence_penalty: float | None = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    temperature: float | None = None
    tools: list[dict[str, Any]] | None = None
    top_p: float | None = None
    user: str | None = None


class Request(BaseModel):
    """A line of the input."""

    custom_id: str
    method: str
    url: str
    body: Body


class Response(BaseModel):
    """An answer as its line shows it."""

    status_code: int = 200
    request_id: str
    body: ChatCompletion


class Output(BaseModel):
    """A line of the output."""

    id: str
    custom_id: str
    response: Response | None
    error: Any | None = None


@dataclass
class Writer:
    """Writes results in the order of the file, as soon as all before them are there."""

    file: TextIO
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: dict[int, Output] = field(default_factory=dict)
    written: int = 0

    async def add(self, index: int, output: Output) -> None:
        """Take a result."""
        async with self.lock:
            self.held[index] = output
            while self.written in self.held:
                line = self.held.pop(self.written).model_dump_json() + "\n"
                await asyncio.get_running_loop().run_in_executor(None, self.file.write, line)
                self.written += 1


async def read_lines(file: TextIO) -> AsyncIterator[str]:
    """Read line by line."""
    while line := await asyncio.get_running_loop().run_in_executor(None, file.readline):
        yield line


async def answer(session: aiohttp.ClientSession, url: str, request: Request) -> Output:
    """Have one line answered."""
    body = request.body.model_dump(mode="json", exclude_unset=True)
    async with session.post(url + request.url, json=body) as response:
        response.raise_for_status()
        completion = ChatCompletion.model_validate(await response.json())
    found = Response(request_id=f"vllm-batch-{uuid4().hex}", body=completion)
    return Output(id=f"vllm-{uuid4().hex}", custom_id=request.custom_id, response=found)


async def main(source: TextIO, target: TextIO, url: str, connections: int) -> None:
    """Run a batch."""
    slots, writer, tasks, index = asyncio.Semaphore(connections), Writer(target), set(), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:

        async def run(index: int, request: Request) -> None:
            await writer.add(index, await answer(session, url, request))

        async for line in read_lines(source):
            task = asyncio.create_task(run(index, Request.model_validate_json(line)))
            await slots.acquire()
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: slots.release())
            index += 1
        await asyncio.gather(*tasks)


if __name__ == "__main__":
    began, cpu_began = time.perf_counter(), time.process_time()
    with Path(sys.argv[1]).open() as lines, Path(sys.argv[2]).open("w") as outputs:
        asyncio.run(main(lines, outputs, sys.argv[3], int(sys.argv[4])))
    print(json.dumps({"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu_began}))
