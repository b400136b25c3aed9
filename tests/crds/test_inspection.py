"""What an inspection finds in a file: what contract 8 can tell without a catalogue, in bounded space."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.inspection import MAX_MODELS, MAX_VERDICT_BYTES, Inspection, Limits, fit_verdict
from nightshift_crds.lines import CHAT, COMPLETIONS, EMBEDDINGS, RERANK, RESPONSES, SCORE
from nightshift_crds.models import MAX_ERRORS, BatchError, EndpointVerdict, Fault, ModelLines, Verdict
from tests.builders import MODEL, a_line, jsonl

ENDPOINTS = (CHAT, EMBEDDINGS)
LIMITS = Limits(max_lines=50, max_line_bytes=2_000)
ROOMY = Limits(max_lines=50_000, max_line_bytes=1 << 20)


def inspect(*chunks: bytes, limits: Limits = ROOMY, endpoints: tuple[str, ...] = (CHAT,)) -> Verdict:
    inspection = Inspection(endpoints, limits)
    for chunk in chunks:
        inspection.feed(chunk)
    assert inspection.size == sum(map(len, chunks))
    return inspection.finish()


def found_in(*chunks: bytes, limits: Limits = ROOMY) -> EndpointVerdict:
    return inspect(*chunks, limits=limits).endpoints[CHAT]


def errors_of(*chunks: bytes, limits: Limits = ROOMY) -> list[tuple[int | None, str, str | None]]:
    return [(error.line, error.code, error.param) for error in found_in(*chunks, limits=limits).errors]


# --- against a naive reading ------------------------------------------------------------------------------------------


@dataclass
class Expected:
    """What a file of known lines should come to, for one endpoint."""

    errors: list[tuple[int, str, str | None]] = field(default_factory=list)
    models: dict[str, list[int]] = field(default_factory=dict)


MODELS = st.sampled_from([MODEL, "m2", "m3"])
LINES = st.one_of(
    st.tuples(st.just("good"), MODELS),
    st.tuples(st.just("embedding"), MODELS),
    st.sampled_from([("blank", ""), ("spaces", ""), ("broken", ""), ("array", ""), ("long", ""), ("no id", "")]),
    st.tuples(st.just("again"), MODELS),
)


def write(kind: str, model: str, number: int) -> bytes:
    line = {
        "good": a_line(f"row-{number}", model=model),
        "embedding": a_line(f"row-{number}", model=model, url=EMBEDDINGS, input=["a", "b"]),
        "again": a_line("the same id in a few lines, and longer than is kept as it is", model=model),
        "no id": {key: value for key, value in a_line().items() if key != "custom_id"},
        "array": ["row"],
    }.get(kind)
    raw = {"long": b"x" * 2_001, "broken": b"{", "spaces": b" \t"}
    return json.dumps(line).encode() if line else raw.get(kind, b"")


def expect(kinds: list[tuple[str, str]], endpoint: str) -> Expected:
    expected = Expected()
    seen_again = False
    for number, (kind, model) in enumerate(kinds, start=1):
        fault: tuple[str, str | None] | None = {
            "broken": ("invalid_json_line", None),
            "array": ("invalid_request", None),
            "long": ("invalid_request", None),
            "no id": ("missing_required_parameter", "custom_id"),
        }.get(kind)
        if kind == "again" and seen_again:
            fault = ("duplicate_custom_id", "custom_id")
        seen_again = seen_again or kind == "again"
        if kind not in {"blank", "spaces"} and fault is None and (kind == "embedding") is not (endpoint == EMBEDDINGS):
            fault = ("invalid_url", "url")
        if fault:
            expected.errors.append((number, *fault))
        elif kind not in {"blank", "spaces"}:
            expected.models.setdefault(model, []).append(number)
    return expected


@given(
    st.lists(LINES, max_size=30),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(min_value=0, max_value=5_000), max_size=8),
)
def test_a_verdict_says_what_each_line_deserves_however_the_file_is_cut(
    kinds: list[tuple[str, str]], newline: bytes, has_mark: bool, is_ended: bool, at: list[int]
) -> None:
    data = newline.join(write(*kind, number) for number, kind in enumerate(kinds, start=1))
    data = b"\xef\xbb\xbf" * has_mark + data + newline * is_ended
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    chunks = [data[start:end] for start, end in pairwise(places)]
    verdict = inspect(*chunks, limits=LIMITS, endpoints=ENDPOINTS)
    requests = [kind for kind, _ in kinds if kind not in {"blank", "spaces"}]
    assert (verdict.lines, verdict.bytes) == (len(requests), len(data))
    assert verdict.crc32c == google_crc32c.value(data)
    assert verdict.embedding_inputs == 2 * requests.count("embedding")
    for endpoint in ENDPOINTS:
        found, expected = verdict.endpoints[endpoint], expect(kinds, endpoint)
        assert [(error.line, error.code, error.param) for error in found.errors] == expected.errors
        assert found.error_count == len(expected.errors)
        assert {model.name: model.lines for model in found.models} == expected.models
        assert [model.name for model in found.models] == list(expected.models)


# --- single rules -----------------------------------------------------------------------------------------------------


def test_an_empty_file_and_one_of_blank_lines_have_no_lines() -> None:
    for data in (b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\t\n"):
        verdict = inspect(data)
        assert (verdict.lines, verdict.endpoints[CHAT].errors) == (0, [])


def test_blank_lines_count_as_physical_lines() -> None:
    assert errors_of(b"\n\r\n" + jsonl(a_line()) + b"  \n{\n") == [(5, "invalid_json_line", None)]


def test_a_byte_order_mark_is_taken_from_the_first_line_alone() -> None:
    assert errors_of(b"\xef\xbb\xbf" + jsonl(a_line("a")) + b"\xef\xbb\xbf" + jsonl(a_line("b"))) == [
        (2, "invalid_json_line", None)
    ]


@pytest.mark.parametrize("length", [1, 32, 33, 512])
def test_an_id_is_the_same_only_if_every_character_is(length: int) -> None:
    ids = ["x" * length, "x" * (length - 1) + "y", "X" * length]
    assert errors_of(jsonl(*map(a_line, ids))) == []
    assert errors_of(jsonl(*map(a_line, [*ids, ids[1]]))) == [(4, "duplicate_custom_id", "custom_id")]


def test_an_id_is_taken_by_a_line_that_is_refused_for_its_content_too() -> None:
    lines = [a_line("a", url="/v1/nothing"), a_line("a")]
    assert errors_of(jsonl(*lines)) == [(1, "invalid_url", "url"), (2, "duplicate_custom_id", "custom_id")]


def test_a_line_is_one_of_its_own_endpoint_alone() -> None:
    bodies: dict[str, dict[str, Any]] = {
        COMPLETIONS: {"prompt": "Once"},
        RESPONSES: {"input": ["alpha", "beta"]},
        RERANK: {"query": "q", "documents": ["a", "b"]},
        SCORE: {"text_1": "q", "text_2": "a"},
        "/v1/classify": {},
    }
    lines = [a_line(url, url=url, **body) for url, body in bodies.items()]
    verdict = inspect(jsonl(*lines), endpoints=tuple(bodies))
    for number, url in enumerate(bodies, start=1):
        found = verdict.endpoints[url]
        assert found.models == [ModelLines(name=MODEL, lines=[number], count=1)]
        assert [error.line for error in found.errors] == [n for n in range(1, len(bodies) + 1) if n != number]
        assert {(error.code, error.param) for error in found.errors} == {("invalid_url", "url")}
    assert verdict.embedding_inputs == 0


def test_a_line_over_the_limit_is_refused_unread() -> None:
    exact = jsonl(a_line("a")).rstrip(b"\n")
    limits = Limits(max_lines=10, max_line_bytes=len(exact))
    too_long = exact + b" " + b"\n"
    assert errors_of(exact + b"\n" + too_long, limits=limits) == [(2, "invalid_request", None)]


def test_a_model_without_a_name_is_refused_and_does_not_break_the_verdict() -> None:
    assert errors_of(jsonl(a_line("a", model=""), a_line("b"))) == [(1, "invalid_request", "body.model")]


def test_inputs_are_counted_on_lines_for_embeddings_only() -> None:
    lines = [
        a_line("a", url=EMBEDDINGS, input=["1", "2", "3"]),
        a_line("b", input=["1", "2"]),
        a_line("c", url=EMBEDDINGS, input=[]),
        a_line("d", url=EMBEDDINGS),
        a_line("e", url=EMBEDDINGS, input="x"),
    ]
    assert inspect(jsonl(*lines)).embedding_inputs == 4


def test_messages_hold_nothing_of_the_line() -> None:
    data = jsonl(a_line("secret-id", model="secret-model", url="/v1/secret"), a_line("secret-id", content="secret"))
    assert "secret" not in inspect(data + b"secret\n").model_dump_json()


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_lines_up_to_the_limit_are_judged_and_one_more_leaves_only_their_number() -> None:
    lines = [a_line(f"row-{n}") for n in range(11)]
    limits = Limits(max_lines=10, max_line_bytes=1_000)
    assert found_in(jsonl(*lines[:10]), limits=limits).models[0].count == 10
    verdict = inspect(jsonl(*lines), b"{\n" * 1_000, limits=limits)
    assert (verdict.lines, verdict.endpoints) == (1_011, {})


def test_ids_beyond_the_limit_are_not_remembered() -> None:
    inspection = Inspection((CHAT,), Limits(max_lines=10, max_line_bytes=1_000))
    inspection.feed(jsonl(*(a_line(f"row-{n}") for n in range(500))))
    assert len(inspection._seen) == 10


def test_the_first_hundred_errors_are_kept_and_all_are_counted() -> None:
    found = found_in(b"{\n" * 250)
    assert [error.line for error in found.errors] == list(range(1, MAX_ERRORS + 1))
    assert found.error_count == 250


def test_of_a_model_the_first_lines_are_kept_and_all_are_counted() -> None:
    (model,) = found_in(jsonl(*(a_line(f"row-{n}") for n in range(250)))).models
    assert (model.name, model.count, model.lines) == (MODEL, 250, list(range(1, MAX_ERRORS + 2)))


def test_models_beyond_the_eighth_are_told_together() -> None:
    models = [f"m{n}" for n in range(12)] + ["m11", "m3"]
    found = found_in(jsonl(*(a_line(f"row-{n}", model=model) for n, model in enumerate(models))))
    assert [model.name for model in found.models] == models[:MAX_MODELS]
    assert found.models[3].lines == [4, 14]
    assert found.other_models == ModelLines(name="m8", lines=[9, 10, 11, 12, 13], count=5)


def test_a_file_of_few_models_has_no_others() -> None:
    assert found_in(jsonl(a_line())).other_models is None


# --- what a status may hold -------------------------------------------------------------------------------------------


def size_of(verdict: Verdict) -> int:
    """Measure a verdict as a status holds it."""
    return len(verdict.model_dump_json(by_alias=True, exclude_none=True).encode())


def a_verdict(**errors_by_endpoint: int) -> Verdict:
    def found(errors: int) -> EndpointVerdict:
        listed = [BatchError(code=f"c{n}", message="é" * 400, line=n + 1) for n in range(errors)]
        return EndpointVerdict(faults=Fault.group(listed), error_count=errors)

    endpoints = {f"/v1/{name}": found(errors) for name, errors in errors_by_endpoint.items()}
    return Verdict(lines=100, bytes=1, crc32c=1, endpoints=endpoints)


def test_a_verdict_that_fits_stays_whole() -> None:
    verdict = a_verdict(a=10, b=20)
    assert fit_verdict(verdict) == verdict


def test_the_largest_endpoints_are_left_out_until_the_rest_fits() -> None:
    verdict = a_verdict(a=30, b=90, c=60, d=0)
    fitted = fit_verdict(verdict)
    assert set(fitted.endpoints) == {"/v1/a", "/v1/d"}
    assert fitted == verdict.model_copy(update={"endpoints": fitted.endpoints})


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=5), st.integers(min_value=0, max_value=100), max_size=6),
    st.integers(min_value=200, max_value=MAX_VERDICT_BYTES),
)
def test_a_fitted_verdict_fits_in_bytes_and_keeps_what_it_has(errors: dict[str, int], max_bytes: int) -> None:
    verdict = a_verdict(**errors)
    fitted = fit_verdict(verdict, max_bytes)
    assert size_of(fitted) <= max_bytes
    assert fitted.endpoints.items() <= verdict.endpoints.items()
    assert (fitted == verdict) is (size_of(verdict) <= max_bytes)


def test_the_largest_verdict_of_two_endpoints_fits() -> None:
    broken = b"{\n" * 200
    lines = [a_line(f"row-{n}", model="模" * 255 + chr(0x4E00 + n % 9)) for n in range(1_800)]
    verdict = inspect(broken, jsonl(*lines), endpoints=ENDPOINTS)
    assert fit_verdict(verdict) == verdict
