"""What a run counts, and the page that shows it."""

import pytest

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.lines import Usage
from nightshift_crds.metrics import UNKNOWN
from nightshift_processor.client import Answer, Failure
from nightshift_processor.flow import Flow, Rules
from nightshift_processor.metrics import RunPage
from nightshift_processor.tally import LATENCIES_S, Tally, name_of
from tests.processor.given import run_settings

MODEL = "llama:8b"


def counted(page: RunPage, name: str) -> dict[tuple[str, ...], float]:
    found = [s for f in page.registry.collect() for s in f.samples if s.name == f"nightshift_processor_{name}"]
    assert all(sample.labels["model"] == MODEL for sample in found)
    return {tuple(v for k, v in sample.labels.items() if k != "model"): sample.value for sample in found}


@pytest.fixture
def tally() -> Tally:
    return Tally(born=10)


@pytest.fixture
def page(bucket: Bucket, tally: Tally) -> RunPage:
    return RunPage(tally, run_settings(bucket, model=MODEL, max_concurrency=7))


def test_results_are_named_by_what_they_mean_to_a_run() -> None:
    named = [name_of(status) for status in (200, 307, 404, 429, 500, 503)]
    assert named == ["2xx", "3xx", "4xx", "429", "5xx", "503"]
    assert [name_of(failure) for failure in Failure] == ["not_connected", "broken", "timeout", "too_large"]


def test_requests_are_counted_by_their_end_and_those_that_have_none_are_none(tally: Tally, page: RunPage) -> None:
    for status in (200, 201, 429, 503, 500):
        tally.answer(status, 0.07)
    tally.fail(Failure.TIMEOUT)
    requests = counted(page, "requests_total")
    assert {key: n for key, n in requests.items() if n} == {
        ("2xx",): 2,
        ("429",): 1,
        ("503",): 1,
        ("5xx",): 1,
        ("timeout",): 1,
    }
    assert requests["not_connected",] == 0


def test_latencies_are_told_apart_by_their_bounds(tally: Tally, page: RunPage) -> None:
    for took_s in (0.05, 0.06, 3, 1_000):
        tally.answer(200, took_s)
    buckets = counted(page, "request_seconds_bucket")
    assert [buckets[le,] for le in ("0.05", "0.1", "2.5", "5.0", "600.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert counted(page, "request_seconds_sum") == {(): 1003.11}
    assert len(LATENCIES_S) + 1 == len(buckets)


def test_lines_that_are_sent_again_are_counted_by_what_came_before(tally: Tally, page: RunPage) -> None:
    tally.retry(Answer(429, b""))
    tally.retry(Failure.BROKEN)
    assert {key: n for key, n in counted(page, "retries_total").items() if n} == {("429",): 1, ("broken",): 1}


def test_the_first_request_is_timed_once(tally: Tally, page: RunPage) -> None:
    assert counted(page, "first_request_seconds") == {}
    tally.send(12.5)
    tally.send(20)
    assert counted(page, "first_request_seconds") == {(): 2.5}


def test_what_is_durable_is_counted_with_its_records(tally: Tally, page: RunPage) -> None:
    usage = Usage(input_tokens=5, cached_tokens=1, output_tokens=3, reasoning_tokens=2, total_tokens=8)
    tally.flush(2, 1, usage, 100)
    tally.flush(1, 0, usage, 50)
    assert counted(page, "rows_total") == {("completed",): 3, ("failed",): 1}
    tokens = {("input",): 10, ("cached",): 2, ("output",): 6, ("reasoning",): 4}
    assert counted(page, "tokens_total") == tokens
    assert (counted(page, "flushes_total"), counted(page, "record_bytes_total")) == ({(): 2}, {(): 150})


def test_the_flow_is_shown_once_there_is_one(tally: Tally, page: RunPage) -> None:
    assert (counted(page, "requests_in_flight"), counted(page, "requests_limit")) == ({(): 0}, {})
    tally.flow = Flow(Rules(most=7, is_shared=False))
    tally.flow.enter(0)
    assert (counted(page, "requests_in_flight"), counted(page, "requests_limit")) == ({(): 1}, {(): 7})
    assert counted(page, "requests_most") == {(): 7}


def test_a_run_that_was_not_told_its_model_says_so(bucket: Bucket, tally: Tally) -> None:
    page = RunPage(tally, run_settings(bucket))
    (sample, *_) = [s for f in page.registry.collect() for s in f.samples]
    assert sample.labels["model"] == UNKNOWN
