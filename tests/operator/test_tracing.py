"""The spans of batches, over whole lives on a real cluster and bucket, to a real collector."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from nightshift_crds.cluster.port import Manifest
from nightshift_crds.lifecycle import Phase
from nightshift_crds.names import Step
from nightshift_crds.otel import Tracing
from nightshift_crds.records import RecordKind
from nightshift_operator.controller import Controller, Key
from nightshift_operator.tracing import Traces
from tests.builders import MODEL, NAMESPACE, a_batch
from tests.collector import Collector, Heard
from tests.operator.world import World

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAMED = {"nightshift.dev/traceparent": f"00-{TRACE}-{CALLER}-01", "nightshift.dev/tracestate": "vendor=opaque"}
TOLD = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER": "always_on"}
KEPT = {
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=secret",
    "OTEL_SERVICE_NAME": "the-operator",
    "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=the-operators",
    "PATH": "/bin",
}


def traced(world: World, tracing: Tracing) -> Controller:
    """Start an operator, which remembers nothing of earlier ones."""
    operator = world.operator()
    return replace(operator, applier=replace(operator.applier, traces=Traces.of(tracing, TOLD | KEPT, "")))


async def rest(world: World, tracing: Tracing, key: Key) -> None:
    while await traced(world, tracing).reconcile(key) == 0:
        pass


async def add_batch(world: World, annotations: dict[str, str]) -> Key:
    await world.add_model()
    await world.add_input()
    return await world.add_batch(metadata={"note": "a-value-of-mine"}, annotations=annotations)


async def live(world: World, tracing: Tracing, key: Key) -> dict[Step, dict[str, str]]:
    """Lead a batch to its end; gives what the processors of its steps were told."""
    told = {}
    await rest(world, tracing, key)
    told[Step.RUN] = environment_of(await world.job(key))
    await world.log(key, RecordKind.END, completed=8, failed=2)
    await world.end_job(key)
    await rest(world, tracing, key)
    told[Step.SEAL] = environment_of(await world.job(key, Step.SEAL))
    await world.seal(key, completed=8, failed=2)
    await rest(world, tracing, key)
    return told


def environment_of(job: Manifest) -> dict[str, Any]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}


def sent(tracing: Tracing, collector: Collector) -> dict[str, Heard]:
    tracing.close()
    names = [heard.name for heard in collector.spans]
    assert len(names) == len(set(names)), "each is recorded once"
    return {heard.name: heard for heard in collector.spans}


async def test_a_life_is_a_span_and_its_phases_stand_under_it_and_steps_under_them(
    world: World, tracing: Tracing, collector: Collector
) -> None:
    key = await add_batch(world, NAMED)
    told = await live(world, tracing, key)
    spans, batch = sent(tracing, collector), await world.batch(key)
    assert set(spans) == {"batch", "batch validating", "batch in_progress", "batch finalizing"}
    assert {span.trace for span in spans.values()} == {TRACE}
    whole = spans.pop("batch")
    assert whole.parent == CALLER
    assert {span.parent for span in spans.values()} == {whole.id}
    for step, phase in ((Step.RUN, "in_progress"), (Step.SEAL, "finalizing")):
        assert told[step]["TRACEPARENT"] == f"00-{TRACE}-{spans[f'batch {phase}'].id}-01"
        assert told[step]["TRACESTATE"] == "vendor=opaque"

    assert whole.attributes == {
        "nightshift.batch.id": batch.id,
        "k8s.namespace.name": NAMESPACE,
        "nightshift.batch.phase": "COMPLETED",
        "gen_ai.request.model": MODEL,
        "gen_ai.operation.name": "chat",
        "nightshift.batch.total": 10,
        "nightshift.batch.completed": 8,
        "nightshift.batch.failed": 2,
        "gen_ai.usage.input_tokens": 24,
        "gen_ai.usage.output_tokens": 8,
    }
    assert spans["batch in_progress"].attributes["nightshift.batch.phase"] == "IN_PROGRESS"
    assert b"a-value-of-mine" not in b"".join(collector.bodies)
    times = [batch.created, batch.status.in_progress_at, batch.status.finalizing_at, batch.status.completed_at]
    ns = [int(moment.timestamp()) * 10**9 for moment in times if moment]
    lasted = [(s.span.start_time_unix_nano, s.span.end_time_unix_nano) for s in (*spans.values(), whole)]
    assert lasted == [*pairwise(ns), (ns[0], ns[-1])]


async def test_a_batch_that_names_no_trace_has_one_of_its_own(
    world: World, tracing: Tracing, collector: Collector
) -> None:
    key = await add_batch(world, {})
    told = await live(world, tracing, key)
    spans = sent(tracing, collector)
    assert spans["batch"].parent == ""
    assert {span.trace for span in spans.values()} == {spans["batch"].trace}
    assert told[Step.RUN]["TRACEPARENT"].split("-")[1:3] == [spans["batch"].trace, spans["batch in_progress"].id]


async def test_a_batch_that_is_not_sampled_has_no_spans_and_says_so_to_its_processors(
    world: World, tracing: Tracing, collector: Collector
) -> None:
    unsampled = f"00-{TRACE}-{CALLER}-00"
    key = await add_batch(world, {"nightshift.dev/traceparent": unsampled})
    told = await live(world, tracing, key)
    assert sent(tracing, collector) == {}
    assert told[Step.RUN]["TRACEPARENT"].startswith(f"00-{TRACE}-")
    assert told[Step.RUN]["TRACEPARENT"].endswith("-00")


async def test_processors_send_where_the_operator_does_and_get_neither_its_name_nor_its_key(
    world: World, tracing: Tracing
) -> None:
    key = await add_batch(world, {})
    await rest(world, tracing, key)
    environment = environment_of(await world.job(key))
    otel = {name: value for name, value in environment.items() if name.startswith("OTEL_")}
    assert otel == TOLD | {"OTEL_RESOURCE_ATTRIBUTES": f"k8s.namespace.name={NAMESPACE}"}
    assert "PATH" not in environment
    assert "secret" not in str(environment)


def test_processors_may_have_a_secret_of_their_own_and_start_without_it(tracing: Tracing) -> None:
    variables = {v["name"]: v for v in Traces.of(tracing, {}, "collector/headers").variables_for(a_batch())}
    reference = {"name": "collector", "key": "headers", "optional": True}
    assert variables["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"] == {"secretKeyRef": reference}


@pytest.mark.parametrize("annotations", [NAMED, {}, {"nightshift.dev/traceparent": "made up"}])
async def test_a_batch_that_is_refused_is_a_failure_by_its_code(
    world: World, tracing: Tracing, collector: Collector, annotations: dict[str, str]
) -> None:
    key = await world.add_batch(annotations=annotations)
    await rest(world, tracing, key)
    spans, batch = sent(tracing, collector), await world.batch(key)
    assert set(spans) == {"batch", "batch validating"}
    assert spans["batch"].is_failed
    assert spans["batch"].attributes["error.type"] == batch.status.errors[0].code


def test_a_batch_that_expired_is_a_failure_too(tracing: Tracing, collector: Collector) -> None:
    status = {"phase": "EXPIRED", "expiredAt": "2026-01-02T00:00:00Z"}
    Traces(tracing).moved(a_batch(status={"phase": "IN_PROGRESS"}), a_batch(status=status).status)
    assert sent(tracing, collector)["batch"].attributes["error.type"] == "expired"


async def test_lines_of_the_log_about_a_batch_have_its_trace_and_those_about_others_do_not(
    world: World, tracing: Tracing
) -> None:
    operator, key = traced(world, tracing), await add_batch(world, NAMED)
    with capture_logs(processors=[merge_contextvars]) as logs:
        await operator._pass(key)
    assert {line["trace_id"] for line in logs} == {TRACE}
    assert "trace_id" not in get_contextvars()


async def test_untraced_a_processor_is_told_nothing_of_a_trace(world: World) -> None:
    key = await add_batch(world, NAMED)
    while await world.operator().reconcile(key) == 0:
        pass
    environment = environment_of(await world.job(key))
    assert [name for name in environment if not name.startswith("NIGHTSHIFT_")] == []
    assert (await world.batch(key)).phase is Phase.IN_PROGRESS
