"""Plain HTTP, without the leniency of a client library: one connection a request, nothing followed, nothing retried."""

import http.client
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

_TIMEOUT_S = 120


@dataclass(frozen=True)
class Answer:
    """What came back; the names of the headers are in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    @property
    def ok(self) -> Any:
        """The object of a 200."""
        assert self.status == 200, self
        return self.json

    def refuses(self, status: int, code: str | None, param: str | None) -> "Answer":
        """See that this is an error with a status, a code and a param."""
        error = self.json["error"]
        assert (self.status, error["code"], error["param"]) == (status, code, param), self
        return self


@dataclass(frozen=True)
class Part:
    """A part of a form; it is a file if it has a file name."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = "application/octet-stream"

    def head(self) -> bytes:
        named = "" if self.filename is None else f'; filename="{self.filename}"'
        typed = "" if self.filename is None or self.content_type is None else f"\r\nContent-Type: {self.content_type}"
        return f'Content-Disposition: form-data; name="{self.name}"{named}{typed}\r\n\r\n'.encode()


def encode_form(parts: Iterable[Part]) -> tuple[bytes, str]:
    """Write a form; gives its bytes and its content type."""
    boundary = uuid4().hex
    held = [b"".join([f"--{boundary}\r\n".encode(), part.head(), part.content, b"\r\n"]) for part in parts]
    return b"".join([*held, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


@dataclass
class Raw:
    """A caller with a key. What it was answered is kept in `seen`, which callers of the same service share."""

    base_url: str
    key: str | None
    seen: list[Answer] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        prefix: str | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request; a body in pieces is sent chunked. Underscores in the names of headers are hyphens."""
        url = urlsplit(self.base_url)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            sent = {"Authorization": f"Bearer {self.key}"} | sent
        target = f"{url.path if prefix is None else prefix}{path}"
        connection = self.connect()
        try:
            connection.request(method, target, body, sent, encode_chunked=not isinstance(body, bytes | None))
            answer = _read(connection.getresponse(), method, path)
        finally:
            connection.close()
        self.seen.append(answer)
        return answer

    def connect(self) -> http.client.HTTPConnection:
        """Connect; a port-forward may just be beginning anew, and then nothing has been sent."""
        url = urlsplit(self.base_url)
        assert url.hostname
        for _ in range(100):
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_TIMEOUT_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                time.sleep(0.1)
                continue
            assert isinstance(connection.sock, socket.socket)
            return connection
        raise AssertionError(f"{self.base_url} cannot be reached")

    def get(self, path: str, **query: Any) -> Answer:
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def post(self, path: str, fields: Any = None, **headers: str) -> Answer:
        """Post fields as JSON, bytes as they are, or nothing at all."""
        body = fields if isinstance(fields, bytes | None) else json.dumps(fields).encode()
        return self.ask("POST", path, body or b"", Content_Type="application/json", **headers)

    def send_form(self, path: str, *parts: Part) -> Answer:
        body, content_type = encode_form(parts)
        return self.ask("POST", path, body, Content_Type=content_type)

    def upload(self, content: bytes, filename: str = "in.jsonl", **fields: str) -> Answer:
        """Upload a file for a batch; fields replace or add to its purpose."""
        plain = [Part(name, value.encode()) for name, value in ({"purpose": "batch"} | fields).items()]
        return self.send_form("/files", *plain, Part("file", content, filename))


def _read(response: http.client.HTTPResponse, method: str, path: str) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(method, path, response.status, headers, response.read())
