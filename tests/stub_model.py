"""A model server for tests: vLLM's answers in a given time, faults on demand, and a record of what was asked.

Run as a program it prints its port. `GET /asked` gives how often each prompt was answered, `GET /digests` the SHA-256
of the body that it last came in, `GET /traces` the `traceparent` beside it; a prompt says by its words what shall
happen: `fail:400`, `fail-once:503`, `not-json`, `pretty`, `slow:SECONDS`, `drop`, and `hold` until `let_go` is set.
"""

import argparse
import asyncio
import hashlib
import json
import re
from collections import Counter
from typing import Any

from aiohttp import web


class StubModel:
    """Answers, and remembers."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.digests: dict[str, str] = {}
        self.traces: dict[str, str] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self.let_go = asyncio.Event()
        self._news = asyncio.Event()

    def build_app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/responses", self.respond)
        app.router.add_post("/v1/embeddings", self.embed)
        app.router.add_post("/v1/rerank", self.rerank)
        app.router.add_post("/v1/score", self.score)
        app.router.add_get("/asked", self.show)
        app.router.add_get("/digests", self.show_digests)
        app.router.add_get("/traces", self.show_traces)
        return app

    async def was_asked(self, times: int) -> None:
        """Wait until that many requests have come in."""
        while self.asked.total() < times:
            self._news.clear()
            await self._news.wait()

    async def show(self, _: web.Request) -> web.Response:
        return web.json_response({"asked": self.asked, "answered": self.answered, "most": self.most_in_flight})

    async def show_digests(self, _: web.Request) -> web.Response:
        return web.json_response(self.digests)

    async def show_traces(self, _: web.Request) -> web.Response:
        return web.json_response(self.traces)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = str(body["messages"][-1]["content"])
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": f"echo {prompt}"}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": 2, "total_tokens": len(prompt) + 2},
        }
        return await self._answer(request, prompt, answer)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = str(body["prompt"])
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 2, "total_tokens": len(prompt) + 2}
        choices = [{"index": 0, "text": f"echo {prompt}", "logprobs": None, "finish_reason": "stop"}]
        answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
        return await self._answer(request, prompt, answer | {"choices": choices, "usage": usage})

    async def respond(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = str(body["input"])
        usage = {
            "input_tokens": len(prompt),
            "input_tokens_details": {"cached_tokens": 1},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": len(prompt) + 5,
        }
        content = [{"type": "output_text", "text": f"echo {prompt}", "annotations": []}]
        output = [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}]
        answer = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": body["model"]}
        return await self._answer(request, prompt, answer | {"output": output, "usage": usage})

    async def rerank(self, request: web.Request) -> web.StreamResponse:
        """Order documents as vLLM did before it told `prompt_tokens` too."""
        body = json.loads(await request.read())
        query, documents = str(body["query"]), body["documents"]
        results = [
            {"index": n, "document": {"text": text}, "relevance_score": 1 / (n + 1)} for n, text in enumerate(documents)
        ]
        usage = {"total_tokens": len(query) + sum(map(len, documents))}
        answer = {"id": "rerank-1", "model": body["model"], "usage": usage, "results": results}
        return await self._answer(request, query, answer)

    async def score(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt, others = str(body["text_1"]), body["text_2"]
        data = [{"index": n, "object": "score", "score": 0.5} for n in range(len(others))]
        tokens = len(prompt) + sum(map(len, others))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
        answer = {"id": "embd-1", "object": "list", "created": 1, "model": body["model"], "data": data, "usage": usage}
        return await self._answer(request, prompt, answer)

    async def embed(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        answer = {"object": "list", "data": [], "model": body["model"], "usage": usage}
        return await self._answer(request, str(body["input"]), answer)

    async def _answer(self, request: web.Request, prompt: str, answer: dict[str, Any]) -> web.StreamResponse:
        self.asked[prompt] += 1
        self.digests[prompt] = hashlib.sha256(await request.read()).hexdigest()
        self.traces[prompt] = request.headers.get("traceparent", "")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self._news.set()
        try:
            if "hold" in prompt:
                await self.let_go.wait()
            slow = re.search(r"slow:([\d.]+)", prompt)
            await asyncio.sleep(float(slow[1]) if slow else self._latency_s)
            response = self._respond(request, prompt, answer)
        finally:
            self.in_flight -= 1
        self.answered[prompt] += 1
        return response

    def _respond(self, request: web.Request, prompt: str, answer: dict[str, Any]) -> web.StreamResponse:
        fault = re.search(r"fail(-once)?:(\d+)", prompt)
        if fault and (not fault[1] or self.asked[prompt] == 1):
            error = {"message": "as you asked", "type": "invalid_request_error", "param": None, "code": None}
            return web.json_response({"error": error}, status=int(fault[2]))
        if "drop" in prompt and self.asked[prompt] == 1 and request.transport:
            request.transport.abort()
        if "not-json" in prompt:
            return web.Response(text="<html>", content_type="application/json")
        return web.json_response(answer, dumps=lambda o: json.dumps(o, indent=1 if "pretty" in prompt else None))


async def serve(host: str, port: int, latency_s: float) -> None:
    runner = web.AppRunner(StubModel(latency_s).build_app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.02)
    options = parser.parse_args()
    asyncio.run(serve(options.host, options.port, options.latency_s))
