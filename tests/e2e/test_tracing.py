"""Traces through real processes: from the SDK's request by API, operator and processor to the model server.

A collector stands in the test and reads what comes with OpenTelemetry's own classes.
"""

import json
import secrets
import subprocess
import time
from typing import Any

import pytest
from openai.types import Batch

from nightshift_crds.cluster.port import BATCH_JOB
from tests.collector import Collector, Heard, collecting
from tests.e2e.conftest import Starter
from tests.e2e.installation import BIN, Installation, Stub, audit, chat_lines, wait_until
from tests.e2e.test_rerun import in_cluster

SECRET_WORDS = ["a-prompt-of-mine", "row-0", "a-value-of-mine", "a-name-of-mine", "sk-e2e-test", "sk-of-the-collector"]
SPANS = {"POST /batches", "batch", "batch validating", "batch in_progress", "batch finalizing"}
SPANS |= {"processor run", "processor seal"}


def a_traceparent(*, is_sampled: bool = True) -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-0{int(is_sampled)}"


def parts_of(traceparent: str) -> tuple[str, str]:
    _, trace, span, _ = traceparent.split("-")
    return trace, span


def run_batch(installation: Installation, prompts: list[str], traceparent: str) -> Batch:
    lines, ids = chat_lines(prompts)
    headers = {"traceparent": traceparent, "tracestate": "vendor=of-the-caller"}
    batch = installation.submit(lines, extra_headers=headers, metadata={"note": "a-value-of-mine"})
    ended = installation.wait(batch.id)
    audit(installation, ended, ids)
    return ended


def whole(collector: Collector, trace: str) -> dict[str, Heard]:
    """Wait until all of a batch's spans have come; gives them by their names."""

    def came() -> bool:
        return {heard.name for heard in list(collector.spans) if heard.trace == trace} >= SPANS

    wait_until(came, f"all spans of {trace}")
    found = [heard for heard in collector.spans if heard.trace == trace]
    assert len({heard.id for heard in found}) == len(found), "none is recorded twice"
    return {heard.name: heard for heard in found}


def check_steps(spans: dict[str, Heard], stub: Stub, prompt: str) -> None:
    """See that phases stand under the batch, steps under phases, and requests to the model under the run."""
    for phase in ("validating", "in_progress", "finalizing"):
        assert spans[f"batch {phase}"].parent == spans["batch"].id
    run = spans["processor run"]
    assert run.parent == spans["batch in_progress"].id
    assert spans["processor seal"].parent == spans["batch finalizing"].id
    assert parts_of(stub.traces()[prompt]) == (run.trace, run.id)
    assert stub.traces()[prompt].endswith(("-01", "-03")), "sampled; by an id that is random, or not known to be"


def test_a_batch_is_one_trace_from_the_callers_request_to_the_model(
    start: Starter, stub: Stub, collector: Collector
) -> None:
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=sk-of-the-collector"}
    installation = start(**collector.environ, **headers)
    prompts, traceparent = [f"a-prompt-of-mine {n}" for n in range(20)], a_traceparent()
    trace, caller = parts_of(traceparent)
    batch = run_batch(installation, prompts, traceparent)
    spans = whole(collector, trace)

    assert spans["POST /batches"].parent == caller
    assert spans["batch"].parent == spans["POST /batches"].id
    check_steps(spans, stub, prompts[0])
    assert len(set(map(stub.traces().get, prompts))) == 1
    services = {name: heard.service for name, heard in spans.items()}
    assert services["POST /batches"] == "nightshift-api"
    assert services["batch"] == services["batch in_progress"] == "nightshift-operator"
    assert services["processor run"] == services["processor seal"] == "nightshift-processor"

    about = spans["batch"].attributes
    assert about["nightshift.batch.id"] == batch.id == spans["processor run"].attributes["nightshift.batch.id"]
    assert (about["nightshift.batch.total"], about["nightshift.batch.completed"]) == (20, 20)
    assert batch.usage is not None
    assert about["gen_ai.usage.output_tokens"] == batch.usage.output_tokens
    assert spans["POST /batches"].attributes["http.response.status_code"] == 200
    assert spans["processor run"].resource["k8s.namespace.name"] == "default"
    assert not any(heard.is_failed for heard in spans.values())
    assert {heard.span.trace_state for heard in spans.values()} == {"vendor=of-the-caller"}

    sent = b"".join(collector.bodies).decode(errors="replace") + installation.log
    assert [word for word in SECRET_WORDS if word in sent] == []
    assert {found["authorization"] for found in collector.headers} == {"sk-of-the-collector"}, "of all three roles"
    said = [line for line in map(as_line, installation.log.splitlines()) if line.get("batch") == batch.id]
    assert {line["role"] for line in said if line.get("trace_id") == trace} == {"api", "operator", "processor"}


def as_line(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
    return found


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
def test_a_manifest_may_name_its_trace_and_has_one_of_its_own_without(
    start: Starter, stub: Stub, collector: Collector, *, is_named: bool
) -> None:
    installation = start(**collector.environ)
    lines, _ = chat_lines(["by manifest"])
    file = installation.client().files.create(file=("a-name-of-mine.jsonl", lines), purpose="batch")
    traceparent = a_traceparent()
    annotations = {"nightshift.dev/traceparent": traceparent} if is_named else {}
    metadata = {"name": "by-hand", "namespace": "default", "annotations": annotations}
    spec = {"input": {"fileId": file.id}, "endpoint": "/v1/chat/completions"}
    manifest = {"apiVersion": BATCH_JOB.api_version, "kind": BATCH_JOB.kind, "metadata": metadata, "spec": spec}
    batch_id = f"batch_{in_cluster(installation.data_dir, manifest)['metadata']['uid']}"
    assert installation.wait(batch_id).status == "completed"
    wait_until(lambda: collector.named("batch") and collector.named("processor seal"), "the last spans")
    [ended] = collector.named("batch")
    assert ended.attributes["nightshift.batch.id"] == batch_id
    assert not is_named or (ended.trace, ended.parent) == parts_of(traceparent)
    assert is_named or not ended.parent
    check_steps({heard.name: heard for heard in collector.spans if heard.trace == ended.trace}, stub, "by manifest")


def test_a_caller_who_does_not_sample_is_heeded_by_all_and_passed_on(
    start: Starter, stub: Stub, collector: Collector
) -> None:
    installation = start(**collector.environ)
    unsampled, sampled = a_traceparent(is_sampled=False), a_traceparent()
    run_batch(installation, ["unsampled"], unsampled)
    run_batch(installation, ["sampled"], sampled)
    whole(collector, parts_of(sampled)[0])
    trace, _ = parts_of(unsampled)
    assert [heard for heard in collector.spans if heard.trace == trace] == []
    said = stub.traces()["unsampled"]
    assert said.startswith(f"00-{trace}-")
    assert said.endswith("-00")


@pytest.mark.parametrize("status", [503, 0, None], ids=["refuses", "hangs", "is not there"])
def test_a_collector_that_is_of_no_use_costs_no_batch_and_no_long_goodbye(start: Starter, status: int | None) -> None:
    with collecting(status or 0) as collector:
        environ = collector.environ | (
            {} if status is not None else {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        )
        installation = start(**environ)
        assert run_batch(installation, ["undisturbed"], a_traceparent()).status == "completed"
        began = time.monotonic()
        assert installation.stop() == 0
        assert time.monotonic() - began < 10, "or else the supervisor has killed its parts"
        assert not installation.pids()


UNASKED: dict[str, dict[str, str]] = {
    "nothing": {},
    "an SDK that is disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
}


@pytest.mark.parametrize("environ", UNASKED.values(), ids=UNASKED)
def test_unasked_no_part_loads_anything_of_opentelemetry(start: Starter, stub: Stub, environ: dict[str, str]) -> None:
    installation = start(**environ, PYTHONPROFILEIMPORTTIME="1")
    assert run_batch(installation, ["unasked"], a_traceparent()).status == "completed"
    assert installation.stop() == 0
    imported = [line for line in installation.log.splitlines() if line.startswith("import time:")]
    for part in ("nightshift_api.main", "nightshift_operator.main", "nightshift_processor.main"):
        assert any(line.endswith(part) for line in imported)
    assert [line for line in imported if "opentelemetry" in line or "nightshift_crds.otel" in line] == []
    assert stub.traces()["unasked"] == ""


def test_without_the_extra_a_role_says_so_and_works() -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from nightshift_crds.tracing import open_tracing\n"
        "with open_tracing('api', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:9'}) as tracing: print(tracing)"
    )
    done = subprocess.run([BIN / "python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "None"
    assert "tracing.unusable" in done.stdout + done.stderr
