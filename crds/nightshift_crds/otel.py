"""Spans by OpenTelemetry's SDK, which its own variables configure: where they go, how many are sampled, what waits.

Only `tracing` imports this. Spans wait in the one bounded queue of the SDK and are sent from its thread: a collector
that is slow, refuses or is gone costs spans and lines of the log, never a request or a batch. No text of an exception
goes into a span, since it may be somebody's content.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bound_contextvars

from nightshift_crds.tracing import Carrier, passing_on

Attributes = Mapping[str, str | int]
PATIENCE_S = 2.0
"""Seconds that the last spans get on their way out: a process that ends waits no longer for its collector."""
_PROPAGATOR = TraceContextTextMapPropagator()


def _hide(record: logging.LogRecord) -> bool:
    """Have the SDK say that a header is wrong without showing it: it may be the key."""
    record.msg = "a header in OTEL_EXPORTER_OTLP_HEADERS is left out: it is not NAME=VALUE, URL encoded"
    record.args = ()
    return True


class _Ids(RandomIdGenerator):
    """Ids that follow from a seed while there is one; random ones otherwise."""

    seed = ""

    def generate_trace_id(self) -> int:
        return self._cut(0, 16) if self.seed else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._cut(16, 24) if self.seed else super().generate_span_id()

    def _cut(self, start: int, end: int) -> int:
        return int.from_bytes(sha256(self.seed.encode()).digest()[start:end])


class Tracing:
    """Makes the spans of a role."""

    def __init__(self, role: str) -> None:
        logging.getLogger("opentelemetry.util.re").addFilter(_hide)
        self._ids = _Ids()
        resource = Resource.create({SERVICE_NAME: f"nightshift-{role}", SERVICE_VERSION: version("nightshift-batch")})
        self._provider = TracerProvider(
            resource=resource.merge(OTELResourceDetector().detect()),  # what the environment says goes first
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("nightshift")

    def plan(self, name: str, carrier: Carrier, seed: str, start: datetime) -> Span:
        """Give a span whose ids follow from a seed, so that others can stand under it before it is recorded.

        It may be planned as often as need be, and is recorded by whoever knows its end and ends it.
        """
        self._ids.seed = seed
        try:
            return self._tracer.start_span(name, _PROPAGATOR.extract(carrier), start_time=_to_ns(start))
        finally:
            self._ids.seed = ""

    @contextmanager
    def span(self, name: str, carrier: Carrier, attributes: Attributes, kind: str = "INTERNAL") -> Iterator[Span]:
        """Record what happens in the context as a span under the one that a carrier names.

        It is what is passed on meanwhile, and lines of the log name its trace.
        """
        span = self._tracer.start_span(name, _PROPAGATOR.extract(carrier), SpanKind[kind], attributes)
        try:
            with passing_on(self.carrier_of(span)), bound_contextvars(trace_id=self.trace_id_of(span)):
                yield span
        except BaseException as error:
            self.fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()

    @staticmethod
    def carrier_of(span: Span) -> Carrier:
        """Name a span to others."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(span))
        return carrier

    @staticmethod
    def trace_id_of(span: Span) -> str:
        """Name the trace of a span as others show it."""
        return format_trace_id(span.get_span_context().trace_id)

    @staticmethod
    def fail(span: Span, kind: str) -> None:
        """Mark a span as failed, by the kind of failure and not its text."""
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", kind)

    @staticmethod
    def end(span: Span, at: datetime) -> None:
        """Record a planned span."""
        span.end(_to_ns(at))

    def close(self) -> None:
        """Send what waits, and give up soon: the SDK itself would wait for as long as its exporter tries."""
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(PATIENCE_S)


def _to_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1_000
