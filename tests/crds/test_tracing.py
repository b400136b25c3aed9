"""Who asks for traces, what is passed on of them, and what a real collector gets."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from nightshift_crds import otel
from nightshift_crds.lines import CHAT
from nightshift_crds.tracing import (
    current,
    describe_model,
    from_annotations,
    from_environ,
    is_asked_for,
    open_tracing,
    to_annotations,
    to_environ,
)
from tests.collector import collecting, tracing_to

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
URL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("environ", "expected"), [
    ({}, False),
    ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    (URL, True),
    ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
    (URL | {"OTEL_SDK_DISABLED": "True"}, False),
    (URL | {"OTEL_SDK_DISABLED": "false"}, True),
    (URL | {"OTEL_TRACES_EXPORTER": "none"}, False),
    (URL | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
])  # fmt: skip
def test_the_sdks_own_variables_ask_for_traces(environ: dict[str, str], expected: bool) -> None:
    assert is_asked_for(environ) is expected


def test_unasked_there_is_none() -> None:
    with open_tracing("api", {}) as tracing:
        assert tracing is None


def test_a_variable_that_the_sdk_cannot_use_turns_traces_off_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with capture_logs() as logs, open_tracing("api", URL) as tracing:
        assert tracing is None
    assert [line["event"] for line in logs] == ["tracing.unusable"]
    assert "max_queue_size" in logs[0]["problem"]


def test_what_goes_on_by_annotations_and_variables_comes_back_and_nothing_else_with_it() -> None:
    noise = {"tracestate": "not ours", "example.com/traceparent": "nor this", "PATH": "/bin"}
    assert from_annotations(to_annotations(SAMPLED) | noise) == SAMPLED
    assert from_environ(to_environ(SAMPLED) | noise) == SAMPLED
    assert set(to_environ(SAMPLED)) == {"TRACEPARENT", "TRACESTATE"}
    assert from_annotations({}) == from_environ({"TRACEPARENT": ""}) == {}


def test_what_a_batch_asks_for_has_the_conventions_names() -> None:
    assert describe_model("llama", CHAT) == {"gen_ai.request.model": "llama", "gen_ai.operation.name": "chat"}
    assert describe_model("", "/v1/rerank") == {}


def test_a_span_stands_under_what_it_was_given_and_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector, tracing_to(collector, monkeypatch) as tracing:
        with tracing.span("outer", SAMPLED, {"one": 1}, "SERVER") as span:
            passed, logged = current(), get_contextvars()["trace_id"]
            assert passed == tracing.carrier_of(span)
            with tracing.span("inner", current(), {}):
                assert current() != passed
            assert current() == passed
        assert current() == {}
        assert "trace_id" not in get_contextvars()
        tracing.close()
        [outer], [inner] = collector.named("outer"), collector.named("inner")
    assert outer.trace == inner.trace == logged == TRACE
    assert (outer.parent, inner.parent) == (PARENT, outer.id)
    assert outer.attributes == {"one": 1}
    assert outer.span.kind == 2, "SERVER"
    assert passed["tracestate"] == outer.span.trace_state == "vendor=opaque"
    assert not outer.is_failed
    assert outer.service == "nightshift-test"
    assert outer.resource["service.version"]


@pytest.mark.parametrize(("carrier", "sampler", "expected"), [
    (SAMPLED, "parentbased_always_on", True),
    (UNSAMPLED, "parentbased_always_on", False),
    ({}, "parentbased_always_on", True),
    ({}, "parentbased_always_off", False),
    (SAMPLED, "parentbased_always_off", True),
    (UNSAMPLED, "always_on", True),
    ({"traceparent": "made up"}, "parentbased_always_on", True),
])  # fmt: skip
def test_a_sampler_decides_and_whatever_it_says_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, carrier: Mapping[str, str], sampler: str, expected: bool
) -> None:
    with collecting() as collector:
        with tracing_to(collector, monkeypatch, OTEL_TRACES_SAMPLER=sampler) as tracing, tracing.span("a", carrier, {}):
            flags = int(current()["traceparent"][-2:], 16)
        assert bool(flags & 1) == bool(collector.spans) == expected


def test_what_the_environment_calls_the_service_goes_before_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    with collecting() as collector:
        with tracing_to(collector, monkeypatch, **named) as tracing, tracing.span("a", {}, {}):
            pass
        [heard] = collector.spans
    assert heard.service == "mine"
    assert heard.resource["deployment.environment.name"] == "test"


def test_a_failure_is_told_by_its_kind_and_never_by_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        with (
            tracing_to(collector, monkeypatch) as tracing,
            pytest.raises(ValueError, match="a secret"),
            tracing.span("a", {}, {}),
        ):
            raise ValueError("a secret of somebody")
        [heard] = collector.spans
    assert heard.is_failed
    assert heard.attributes == {"error.type": "ValueError"}
    assert b"a secret" not in b"".join(collector.bodies)


def test_a_key_that_is_no_header_is_not_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting() as collector, tracing_to(collector, monkeypatch, OTEL_EXPORTER_OTLP_HEADERS="sk-of-mine"):
        pass
    assert "OTEL_EXPORTER_OTLP_HEADERS" in caplog.text
    assert "sk-of-mine" not in caplog.text


def test_a_planned_span_is_known_before_it_is_recorded_and_only_then_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    end = NOON.replace(second=9)
    with collecting() as collector:
        with tracing_to(collector, monkeypatch) as tracing:
            plans = [tracing.plan("batch", carrier, "uid", NOON) for carrier in ({}, {}, SAMPLED)]
            known = [tracing.carrier_of(plan)["traceparent"].split("-")[1:3] for plan in plans]
            tracing.end(plans[1], end)
            with tracing.span("random again", {}, {}):
                pass
        [heard] = collector.named("batch")
        [other] = collector.named("random again")
    assert known[0] == known[1] == [heard.trace, heard.id]
    assert known[2] == [TRACE, heard.id]
    assert other.trace != heard.trace
    assert (heard.span.start_time_unix_nano, heard.span.end_time_unix_nano) == (
        int(NOON.timestamp()) * 10**9,
        int(end.timestamp()) * 10**9,
    )


@pytest.mark.parametrize("status", [0, 503], ids=["hangs", "is full"])
def test_a_collector_holds_the_end_of_a_process_up_for_no_longer_than_it_may(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(otel, "PATIENCE_S", 0.2)
    with collecting(status) as collector:
        with tracing_to(collector, monkeypatch) as tracing, tracing.span("a", {}, {}):
            pass
        began = time.monotonic()
        tracing.close()
        assert time.monotonic() - began < 2
