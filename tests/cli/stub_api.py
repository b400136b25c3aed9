"""A small real HTTP server that speaks as much of the API as `nightshift submit` needs, and does what a test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-right"
DROP = "drop"


def a_batch_object(status: str = "validating", counts: tuple[int, int, int] | None = None, **fields: Any) -> Any:
    """A batch as the API shows it; `counts` are total, completed and failed."""
    batch = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file_in",
        "completion_window": "24h",
        "created_at": 1,
        "status": status,
    }
    if counts:
        batch["request_counts"] = dict(zip(("total", "completed", "failed"), counts, strict=True))
    return batch | fields


class StubApi:
    """What the server shall answer, and what it was asked.

    `looks` are the answers to looks at the batch, in order: a batch, a status code, or DROP; the last one stays.
    """

    def __init__(self) -> None:
        self.looks: list[Any] = [a_batch_object("completed", (2, 2, 0), output_file_id="file_out")]
        self.refusal: tuple[int, str] | None = None
        self.contents = {"file_out": b"results\n", "file_err": b"errors\n"}
        self.uploads: list[bytes] = []
        self.created: list[dict[str, Any]] = []
        self.base_url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match (method, path.removeprefix("/openai/v1")):
            case ("POST", "/files"):
                return self._upload(body)
            case ("POST", "/batches"):
                self.created.append(json.loads(body))
                return 200, a_batch_object()
            case ("GET", "/batches/batch_1"):
                look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
                return (look, _error("not now")) if isinstance(look, int) else (200, look)
            case ("GET", content):
                return 200, self.contents[content.split("/")[2]]
        return 404, _error("no such route")

    def _upload(self, body: bytes) -> tuple[int, Any]:
        if self.refusal:
            return self.refusal[0], _error(self.refusal[1])
        self.uploads.append(body)
        fields = {"object": "file", "created_at": 1, "filename": "in", "purpose": "batch", "status": "processed"}
        return 200, fields | {"id": "file_in", "bytes": len(body)}


def _error(message: str) -> Any:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            status, answer = 401, _error("wrong key")
        else:
            status, answer = self.server.api.answer(self.command, self.path, body)
        if answer == DROP:
            self.close_connection = True
            return
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if answer is content else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server passes
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    api: StubApi


@contextmanager
def serving() -> Iterator[StubApi]:
    api = StubApi()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.api = api
        api.base_url = f"http://127.0.0.1:{server.server_port}/openai/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
