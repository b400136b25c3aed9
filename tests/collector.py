"""A collector of traces over real OTLP/HTTP, which takes spans, refuses them, or never answers."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from nightshift_crds.otel import Tracing
from nightshift_crds.tracing import open_tracing
from tests.serving import serving_in_thread


@dataclass(frozen=True)
class Heard:
    """A span as it came in."""

    service: str
    resource: dict[str, Any]
    span: Span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        return self.span.parent_span_id.hex()

    @property
    def trace(self) -> str:
        return self.span.trace_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return _plain(self.span.attributes)

    @property
    def is_failed(self) -> bool:
        return self.span.status.code == 2


@dataclass
class Collector:
    """Answers with a status; 0 never answers as long as it is open."""

    status: int = 200
    spans: list[Heard] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def named(self, name: str, trace: str = "") -> list[Heard]:
        return [heard for heard in list(self.spans) if heard.name == name and trace in heard.trace]

    @property
    def environ(self) -> dict[str, str]:
        """What a process is told to send its spans here, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [Heard(resource["service.name"], resource, span) for span in scope.spans]


def _plain(pairs: Any) -> dict[str, Any]:
    def value_of(pair: KeyValue) -> Any:
        return getattr(pair.value, str(pair.value.WhichOneof("value")))

    return {pair.key: value_of(pair) for pair in pairs}


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """Collect on a port of its own."""
    collector = Collector(status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.headers.append(dict(self.headers))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not collector.status:
                collector.closing.wait()
                return
            if collector.status == 200:
                collector.take(body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with serving_in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        collector.url = url
        try:
            yield collector
        finally:
            collector.closing.set()


@contextmanager
def tracing_to(collector: Collector, monkeypatch: pytest.MonkeyPatch, **environ: str) -> Iterator[Tracing]:
    """Make spans in this process; all have come in once the context is left."""
    for name, text in (collector.environ | environ).items():
        monkeypatch.setenv(name, text)
    with open_tracing("test", os.environ) as tracing:
        assert tracing is not None
        yield tracing
