"""Traces, where OpenTelemetry's own variables ask for them: whether they do, and what is passed on.

A carrier names the span that others are to stand under, in the words of W3C Trace Context; an empty one names none. It
goes on as headers, as annotations of a BatchJob and as variables of a process. Spans are made by `otel`, which is
imported only where they are asked for: without them nothing of OpenTelemetry is loaded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from nightshift_crds.lines import CHAT, EMBEDDINGS
from nightshift_crds.models import GROUP

if TYPE_CHECKING:
    from nightshift_crds.otel import Tracing

Carrier = Mapping[str, str]
BATCH_ID = "nightshift.batch.id"
"""Attribute of every span that is about a batch."""
FIELDS = ("traceparent", "tracestate")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SWITCHES = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
"""What turns traces off though an endpoint is named."""
_OPERATIONS = {CHAT: "chat", EMBEDDINGS: "embeddings", "/v1/completions": "text_completion"}
_log = structlog.get_logger()
_current: ContextVar[Carrier] = ContextVar("carrier", default=MappingProxyType({}))


@contextmanager
def open_tracing(role: str, environ: Mapping[str, str]) -> Iterator["Tracing | None"]:
    """Make spans as long as the context lasts; None if nobody asks for any, or if they cannot be made."""
    tracing = _make(role) if is_asked_for(environ) else None
    try:
        yield tracing
    finally:
        if tracing:
            tracing.close()


def _make(role: str) -> "Tracing | None":
    try:
        from nightshift_crds.otel import Tracing  # noqa: PLC0415 - 8 MB and 75 ms that most installations never need

        return Tracing(role)
    except Exception as error:  # noqa: BLE001 - the extra is not installed, or a variable is wrong: batches go on
        _log.error("tracing.unusable", problem=f"{type(error).__name__}: {error}")
        return None


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Tell whether an environment names a collector and does not say that it is to get nothing."""
    is_off = any(environ.get(name, "").strip().lower() == text for name, text in _SWITCHES.items())
    return any(environ.get(name) for name in _ENDPOINTS) and not is_off


def describe_model(model: str, endpoint: str) -> dict[str, str]:
    """Say what a batch asks for, as OpenTelemetry's conventions do. Pure."""
    operation = {"gen_ai.operation.name": _OPERATIONS[endpoint]} if endpoint in _OPERATIONS else {}
    return ({"gen_ai.request.model": model} if model else {}) | operation


def current() -> Carrier:
    """Name the span of what is being done."""
    return _current.get()


@contextmanager
def passing_on(carrier: Carrier) -> Iterator[None]:
    """Make a span that of what is done in the context."""
    token = _current.set(carrier)
    try:
        yield
    finally:
        _current.reset(token)


def from_annotations(annotations: Mapping[str, str]) -> Carrier:
    """Read a carrier off a resource. Pure."""
    return _pick({name: annotations.get(f"{GROUP}/{name}") for name in FIELDS})


def to_annotations(carrier: Carrier) -> dict[str, str]:
    """Write a carrier onto a resource. Pure."""
    return {f"{GROUP}/{name}": text for name, text in carrier.items()}


def from_environ(environ: Mapping[str, str]) -> Carrier:
    """Read the carrier that a process was started with. Pure."""
    return _pick({name: environ.get(name.upper()) for name in FIELDS})


def to_environ(carrier: Carrier) -> dict[str, str]:
    """Write a carrier as variables of a process. Pure."""
    return {name.upper(): text for name, text in carrier.items()}


def _pick(found: Mapping[str, str | None]) -> Carrier:
    return {name: text for name, text in found.items() if text}
