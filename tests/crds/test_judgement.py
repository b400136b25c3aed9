"""Whether an input can be run: every limit, every model that cannot, and the cap on what is said (contract 8)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.judgement import Limits, batchable_names, find_errors, find_model, is_judged
from nightshift_crds.lines import CHAT, EMBEDDINGS
from nightshift_crds.models import MAX_ERRORS, BatchError, Fault, HostedModel, ModelLines, Verdict
from tests.builders import MODEL, a_model, a_verdict

LIMITS = Limits(max_file_bytes=1_000, max_lines=20, max_embedding_inputs=30)
OTHER = "other:1b"


def bad_line(number: int, code: str = "invalid_json_line") -> BatchError:
    return BatchError(code=code, message="Expected JSON.", line=number)


def errors_of(
    verdict: Verdict, *models: HostedModel, endpoint: str = CHAT, limits: Limits = LIMITS
) -> list[tuple[str, int | None]]:
    found = find_errors(verdict, endpoint, batchable_names(models or (a_model(),), endpoint), limits)
    return [(error.code, error.line) for error in found]


def test_an_input_of_a_known_model_within_every_limit_has_no_error() -> None:
    assert errors_of(a_verdict()) == []


@pytest.mark.parametrize(
    ("verdict", "endpoint", "code"),
    [
        (a_verdict(bytes=1_001), CHAT, "file_too_large"),
        (a_verdict(lines=0), CHAT, "empty_file"),
        (a_verdict(lines=21), CHAT, "too_many_tasks"),
        (a_verdict(endpoint=EMBEDDINGS, embedding_inputs=31), EMBEDDINGS, "too_many_embedding_inputs"),
    ],
)
def test_an_input_over_a_limit_gets_one_error_without_a_line(verdict: Verdict, endpoint: str, code: str) -> None:
    assert errors_of(verdict, endpoint=endpoint) == [(code, None)]
    unread = verdict.model_copy(update={"endpoints": {}})
    assert is_judged(unread, endpoint, LIMITS)


@pytest.mark.parametrize(
    ("verdict", "endpoint"),
    [
        (a_verdict(bytes=1_000, lines=20), CHAT),
        (a_verdict(endpoint=EMBEDDINGS, embedding_inputs=30), EMBEDDINGS),
        (a_verdict(embedding_inputs=31), CHAT),
    ],
)
def test_an_input_at_a_limit_or_with_another_endpoints_limit_is_accepted(verdict: Verdict, endpoint: str) -> None:
    assert errors_of(verdict, endpoint=endpoint) == []


def test_a_verdict_without_the_endpoint_is_not_enough_to_decide_on() -> None:
    assert not is_judged(a_verdict(), EMBEDDINGS, LIMITS)
    assert is_judged(a_verdict(), CHAT, LIMITS)


@pytest.mark.parametrize(
    "model",
    [
        a_model(OTHER),
        a_model(MODEL, endpoints=[EMBEDDINGS]),
    ],
    ids=["another name", "another endpoint"],
)
def test_every_line_of_a_model_that_cannot_be_batched_is_named(model: HostedModel) -> None:
    assert errors_of(a_verdict(lines=3), model) == [("model_not_found", n) for n in (1, 2, 3)]


def test_a_model_whose_server_is_started_for_the_batch_is_one_like_any_other() -> None:
    assert errors_of(a_verdict(), a_model(service=None, server={"image": "vllm:1"})) == []


def test_a_second_model_in_a_file_is_refused_by_line_even_if_it_is_known() -> None:
    verdict = a_verdict(lines=4, models=(MODEL, OTHER))
    assert errors_of(verdict, a_model(), a_model(OTHER)) == [("mismatched_model", 2), ("mismatched_model", 4)]


def test_a_model_that_is_both_second_and_unknown_is_told_to_be_unknown() -> None:
    assert errors_of(a_verdict(lines=2, models=(MODEL, OTHER))) == [("model_not_found", 2)]


def test_models_past_the_eighth_are_refused_together() -> None:
    others = ModelLines(name="ninth", lines=[9, 10], count=2)
    assert errors_of(a_verdict(found={"other_models": others})) == [("mismatched_model", 9), ("mismatched_model", 10)]


def test_errors_of_lines_and_of_models_come_in_order_of_lines() -> None:
    verdict = a_verdict(
        lines=6, models=(MODEL, OTHER), found={"faults": Fault.group([bad_line(3), bad_line(5)]), "error_count": 2}
    )
    assert [line for _, line in errors_of(verdict, a_model(), a_model(OTHER))] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(("count", "text"), [(101, "1 more line has an error"), (250, "150 more lines have errors")])
def test_more_errors_than_are_kept_end_with_how_many_were_left_out(count: int, text: str) -> None:
    found = {"faults": Fault.group(bad_line(n + 1) for n in range(MAX_ERRORS)), "error_count": count}
    errors = find_errors(a_verdict(found=found), CHAT, {MODEL}, LIMITS)
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1].line is None
    assert errors[-1].message.startswith(text)


def verdict_of(kinds: list[str]) -> Verdict:
    """Sum up a file whose lines are bad, name a model, or name one past the eighth, as the inspection would."""
    numbers = {kind: [n + 1 for n, k in enumerate(kinds) if k == kind] for kind in dict.fromkeys(kinds)}
    tallies = {k: ModelLines(name=k, lines=v[: MAX_ERRORS + 1], count=len(v)) for k, v in numbers.items()}
    bad = numbers.get("bad", [])
    found: dict[str, Any] = {
        "faults": Fault.group(bad_line(n) for n in bad[:MAX_ERRORS]),
        "error_count": len(bad),
        "models": [tally for name, tally in tallies.items() if name not in {"bad", "rest"}],
        "other_models": tallies.get("rest"),
    }
    return a_verdict(lines=len(kinds), found=found)


@given(st.lists(st.sampled_from(["bad", MODEL, OTHER, "unknown", "rest"]), min_size=1, max_size=300))
def test_every_line_that_cannot_run_is_listed_once_in_order_or_counted(kinds: list[str]) -> None:
    roomy = Limits(max_file_bytes=1_000, max_lines=1_000, max_embedding_inputs=1)
    errors = find_errors(verdict_of(kinds), CHAT, {MODEL, OTHER}, roomy)
    first = next((kind for kind in kinds if kind in {MODEL, OTHER, "unknown"}), None)
    bad = [n + 1 for n, kind in enumerate(kinds) if kind != first or first == "unknown"]
    assert [error.line for error in errors if error.line] == bad[:MAX_ERRORS]
    assert (len(bad) > MAX_ERRORS) == any(error.code == "too_many_errors" for error in errors)


def test_of_two_models_of_one_name_the_one_that_serves_the_endpoint_is_found() -> None:
    chat, embeddings = a_model(MODEL, endpoints=[CHAT], shards=2), a_model(MODEL, endpoints=[EMBEDDINGS])
    assert find_model([embeddings, chat], MODEL, CHAT) is chat
    assert find_model([embeddings], MODEL, CHAT) is None
