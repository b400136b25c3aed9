"""The span of a step, by the real program and a real collector, and the header that names it to the model server."""

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.exits import Exit
from nightshift_processor.settings import HttpClient
from tests.builders import BATCH_UID
from tests.collector import Heard, collecting
from tests.processor.given import Model, chat_lines, put_input
from tests.processor.test_main import environ, start

TRACE, PHASE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"TRACEPARENT": f"00-{TRACE}-{PHASE}-01", "TRACESTATE": "vendor=opaque"}
CONTENT = chat_lines("a", "b", "c")


async def run_step(step: str, bucket: Bucket, variables: dict[str, str], **values: object) -> tuple[int, list[Heard]]:
    """Run a step to its end; gives its exit code and the spans that have come by then."""
    with collecting() as collector:
        process = await start(step, environ(bucket, CONTENT, **values) | collector.environ | variables)
        await process.communicate()
        assert process.returncode is not None
        return process.returncode, collector.spans


@pytest.mark.parametrize("client", HttpClient)
async def test_all_lines_of_a_run_name_its_one_span(bucket: Bucket, model: Model, client: HttpClient) -> None:
    await put_input(bucket, CONTENT)
    given = {"model_url": model.url, "model": "llama", "attempt": 2, "http_client": client.value}
    code, [span] = await run_step("run", bucket, SAMPLED, **given)
    assert code == Exit.DONE
    assert (span.name, span.trace, span.parent, span.span.kind) == ("processor run", TRACE, PHASE, 3)
    assert set(model.stub.traces.values()) == {f"00-{TRACE}-{span.id}-01"}
    assert len(model.stub.traces) == 3
    port = int(model.url.rpartition(":")[2])
    assert span.attributes == {
        "nightshift.batch.id": BATCH_UID,
        "nightshift.attempt": 2,
        "nightshift.shard": 0,
        "gen_ai.request.model": "llama",
        "gen_ai.operation.name": "chat",
        "server.address": "127.0.0.1",
        "server.port": port,
        "process.exit.code": 0,
    }


async def test_a_run_of_a_trace_that_is_not_sampled_passes_that_on(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, CONTENT)
    unsampled = {"TRACEPARENT": f"00-{TRACE}-{PHASE}-00"}
    code, spans = await run_step("run", bucket, unsampled, model_url=model.url)
    assert (code, spans) == (Exit.DONE, [])
    [said] = set(model.stub.traces.values())
    assert said.startswith(f"00-{TRACE}-")
    assert said.endswith("-00")


async def test_a_step_that_fails_is_a_failure_by_its_exit_code(bucket: Bucket) -> None:
    code, [span] = await run_step("inspect", bucket, SAMPLED)
    assert code == Exit.BAD_INPUT
    assert (span.name, span.parent, span.is_failed) == ("processor inspect", PHASE, True)
    assert span.attributes["error.type"] == str(code) == str(span.attributes["process.exit.code"])


async def test_unasked_a_run_says_nothing_of_traces_to_the_model_server(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, CONTENT)
    code, spans = await run_step("run", bucket, SAMPLED | {"OTEL_SDK_DISABLED": "true"}, model_url=model.url)
    assert (code, spans) == (Exit.DONE, [])
    assert set(model.stub.traces.values()) == {""}
