"""A small real HTTP server that speaks as much of the API as the commands need, and does what a test says."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.serving import serving_in_thread

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


@dataclass
class Content:
    """The bytes of a file; a version of them has an `etag`, one that grows has none. It breaks off where it is told."""

    body: bytes
    etag: str | None = '"1-8"'
    breaks_at: int | None = None
    has_ranges: bool = True


class StubApi:
    """What the server shall answer, and what it was asked.

    `looks` are the answers to looks at the batch, in order: a batch, a status code, or DROP; the last one stays. So are
    `contents` of a file.
    """

    def __init__(self) -> None:
        self.looks: list[Any] = [a_batch_object("completed", (2, 2, 0), output_file_id="file_out")]
        self.refusal: tuple[int, str] | None = None
        self.contents = {"file_out": [Content(b"results\n")], "file_err": [Content(b"errors\n")]}
        self.listed: list[Any] = []
        self.asked: list[str] = []
        self.ranges: list[str | None] = []
        self.page: bytes | None = None
        self.uploads: list[bytes] = []
        self.created: list[dict[str, Any]] = []
        self.base_url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if self.page is not None:
            return 200, self.page
        match (method, path.removeprefix("/openai/v1").partition("?")[0]):
            case ("POST", "/files"):
                return self._upload(body)
            case ("POST", "/batches"):
                self.created.append(json.loads(body))
                return 200, a_batch_object()
            case ("GET", "/batches"):
                return 200, {"object": "list", "data": self.listed, "has_more": False}
            case ("GET", "/models"):
                return 200, {
                    "object": "list",
                    "data": [{"id": "m:1", "object": "model", "created": 1, "owned_by": "x"}],
                }
            case (_, batch) if re.fullmatch("/batches/batch_1(/(cancel|suspend|resume|rerun))?", batch):
                look = _next(self.looks)
                return (look, _error("Not now.")) if isinstance(look, int) else (200, look)
            case ("GET", content) if content.startswith("/files/") and content.split("/")[2] in self.contents:
                return 200, _next(self.contents[content.split("/")[2]])
        return 404, _error("No such batch." if "/batches/" in path else "Not Found: GET /nowhere")

    def _upload(self, body: bytes) -> tuple[int, Any]:
        if self.refusal:
            return self.refusal[0], _error(self.refusal[1])
        self.uploads.append(body)
        fields = {"object": "file", "created_at": 1, "filename": "in", "purpose": "batch", "status": "processed"}
        return 200, fields | {"id": "file_in", "bytes": len(body)}


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


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
        elif isinstance(answer, Content):
            self._send_content(answer)
        else:
            self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if answer is content else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_content(self, content: Content) -> None:
        """Answer as the API does: ranges of what has a version, of the version that was asked for."""
        asked = self.headers["Range"]
        self.server.api.ranges.append(asked)
        is_part = asked and content.etag and content.has_ranges and self.headers["If-Range"] == content.etag
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if is_part else 0
        self.send_response(206 if is_part else 200)
        self.send_header("Content-Length", str(len(content.body) - start))
        self.send_header("Nightshift-More", "false" if content.etag else "true")
        if content.etag:
            self.send_header("ETag", content.etag)
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{len(content.body) - 1}/{len(content.body)}")
        self.end_headers()
        self.wfile.write(content.body[start : content.breaks_at])
        self.close_connection = content.breaks_at is not None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server passes
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    api: StubApi


@contextmanager
def serving() -> Iterator[StubApi]:
    api = StubApi()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.api = api
    with serving_in_thread(server) as url:
        api.base_url = f"{url}/openai/v1"
        yield api
