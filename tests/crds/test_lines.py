"""A line as users write it: what is accepted, and which fault of contract 8 is told of all else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from nightshift_crds import lines
from nightshift_crds.inspection import Inspection, Limits
from nightshift_crds.lines import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MAX_MODEL_CHARS,
    REQUIRED_OF_BODY,
    RERANK,
    RESPONSES,
    SCORE,
    LineFault,
    count_embedding_inputs,
    parse_item,
    parse_line,
    request_of,
)
from tests.builders import MODEL, a_line
from tests.crds.reading import CUSTOM_IDS, JSON, RAW_LINES, damaged, fault_by_the_contract, read_strictly, spelt


def fault_of(raw: bytes) -> tuple[str, str | None] | None:
    try:
        parse_line(raw)
    except LineFault as fault:
        return fault.code, fault.param
    return None


@given(RAW_LINES | damaged() | st.binary(max_size=40))
@example(b'{"custom_id":"a","method":"POST","url":"u","body":{"model":5}}')
def test_a_line_has_the_fault_that_the_contract_names_or_none(raw: bytes) -> None:
    assert fault_of(raw) == fault_by_the_contract(raw)


@given(RAW_LINES | damaged())
def test_what_is_accepted_at_once_is_accepted_key_by_key_as_the_same_line(raw: bytes) -> None:
    try:
        at_once = lines._decode_line(raw)
        raw.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert parse_line(raw) == at_once
    assert lines._explain(raw) == at_once


@given(RAW_LINES | damaged())
@example(b'{"custom_id":5,"method":"POST","url":"u","body":{},"custom_id":"a"}')
@example(b'{"custom_id":"a","method":"POST","url":"u","body":[],"body":{"n":1.10}}')
def test_what_validation_accepts_the_processor_can_read(raw: bytes) -> None:
    if fault_of(raw) is None:
        item = parse_item(raw)
        assert item.custom_id == parse_line(raw).custom_id
        assert read_strictly(bytes(item.body)) == read_strictly(raw)["body"]


@given(CUSTOM_IDS, JSON)
def test_the_body_is_passed_on_byte_by_byte(custom_id: str, value: object) -> None:
    body = b'{ "model":"m",\t"n":[1.10, 1E400, -0, 10000000000000000000000000000000000000001], "x":%b}' % spelt(value)
    raw = b'{"body": %b ,"custom_id":%b,"method":"POST","url":"/v1/x"}' % (body, spelt(custom_id))
    assert fault_of(raw) is None
    item = parse_item(raw)
    assert (item.custom_id, bytes(item.body)) == (custom_id, body)


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    raw = b'{"custom_id":"a","custom_id":"b","method":"GET","method":"POST","url":"u","body":{"model":1,"model":"m"}}'
    line = parse_line(raw)
    assert (line.custom_id, line.method, line.body.model) == ("b", "POST", "m")


@pytest.mark.parametrize(
    "wrong",
    [
        {"custom_id": "private" * 99},
        {"custom_id": ["private"]},
        {"method": "private"},
        {"url": {"private": "private"}},
        {"body": "private"},
    ],
)
def test_a_message_says_what_was_expected_and_nothing_of_what_stood_there(wrong: dict[str, Any]) -> None:
    with pytest.raises(LineFault) as caught:
        parse_line(json.dumps(a_line("private", content="private") | wrong).encode())
    assert [caught.value.param] == list(wrong)
    assert "private" not in caught.value.message
    assert str(caught.value) == caught.value.message


# --- whether it fits a batch ------------------------------------------------------------------------------------------


def check(line: dict[str, Any], endpoint: str = CHAT) -> tuple[str, str | None] | None:
    inspection = Inspection((endpoint,), Limits(max_lines=1, max_line_bytes=1 << 20))
    inspection.feed(json.dumps(line).encode())
    errors = inspection.finish().endpoints[endpoint].errors
    return (errors[0].code, errors[0].param) if errors else None


def a_request(endpoint: str, **body: Any) -> dict[str, Any]:
    """A line with a model, and what is told besides."""
    return a_line(url=endpoint) | {"body": {"model": MODEL} | body}


def without(line: dict[str, Any], key: str) -> dict[str, Any]:
    return line | {"body": {k: v for k, v in line["body"].items() if k != key}}


def test_a_line_for_the_batchs_endpoint_fits() -> None:
    assert check(a_line()) is None
    assert check(a_line(url=EMBEDDINGS, input="alpha"), EMBEDDINGS) is None


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (COMPLETIONS, {"prompt": "Once"}),
        (COMPLETIONS, {"prompt_embeds": "AAAA"}),
        (RESPONSES, {"input": "alpha"}),
        (RESPONSES, {"input": "alpha", "background": False, "stream": False}),
        (RESPONSES, {"input": "alpha", "background": None}),
        (RERANK, {"query": "q", "documents": ["a", "b"]}),
        (SCORE, {"text_1": "q", "text_2": ["a", "b"]}),
        (SCORE, {"queries": "q", "documents": ["a"]}),
        (SCORE, {"queries": "q", "items": ["a"]}),
        (SCORE, {"data_1": "q", "data_2": ["a"]}),
    ],
)
def test_a_body_has_what_its_endpoint_needs_in_any_spelling_of_it(endpoint: str, body: dict[str, Any]) -> None:
    assert check(a_request(endpoint, **body), endpoint) is None


@pytest.mark.parametrize(
    ("endpoint", "body", "param"),
    [
        (COMPLETIONS, {"messages": []}, "prompt"),
        (RESPONSES, {"prompt": "alpha"}, "input"),
        (RERANK, {}, "query"),
        (RERANK, {"query": "q"}, "documents"),
        (RERANK, {"documents": ["a"]}, "query"),
        (SCORE, {}, "text_1"),
        (SCORE, {"text_1": "q"}, "text_2"),
        (SCORE, {"text_1": "q", "documents": ["a"]}, "text_2"),
        (SCORE, {"documents": ["a"]}, "queries"),
        (SCORE, {"data_2": ["a"]}, "data_1"),
    ],
)
def test_what_a_body_lacks_is_named_by_the_spelling_that_it_comes_nearest_to(
    endpoint: str, body: dict[str, Any], param: str
) -> None:
    assert check(a_request(endpoint, **body), endpoint) == ("invalid_request", f"body.{param}")


@pytest.mark.parametrize("endpoint", REQUIRED_OF_BODY)
def test_no_endpoint_streams(endpoint: str) -> None:
    body = dict.fromkeys(REQUIRED_OF_BODY[endpoint][0], "text")
    assert check(a_request(endpoint, **body, stream=True), endpoint) == ("streaming_unsupported", "body.stream")


def test_a_response_in_the_background_would_come_back_before_it_is_there() -> None:
    line = a_request(RESPONSES, input="alpha", background=True)
    assert check(line, RESPONSES) == ("invalid_request", "body.background")
    assert check(a_line(background=True)) is None


def test_an_endpoint_that_is_not_known_wants_a_model_and_nothing_else() -> None:
    line = a_request("/v1/classify")
    assert check(line, "/v1/classify") is None
    assert check(without(line, "model"), "/v1/classify") == ("invalid_request", "body.model")


@pytest.mark.parametrize(
    ("line", "endpoint", "code", "param"),
    [
        (a_line(url=EMBEDDINGS), CHAT, "invalid_url", "url"),
        (a_line(url="/openai/v1/chat/completions"), CHAT, "invalid_url", "url"),
        (a_line(url=f"{CHAT}/"), CHAT, "invalid_url", "url"),
        (without(a_line(), "model"), CHAT, "invalid_request", "body.model"),
        (a_line(model=None), CHAT, "invalid_request", "body.model"),  # type: ignore[arg-type]
        (a_line(model=["m"]), CHAT, "invalid_request", "body.model"),  # type: ignore[arg-type]
        (a_line(model=""), CHAT, "invalid_request", "body.model"),
        (a_line(model="m" * (MAX_MODEL_CHARS + 1)), CHAT, "invalid_request", "body.model"),
        (without(a_line(), "messages"), CHAT, "invalid_request", "body.messages"),
        (a_line(url=EMBEDDINGS), EMBEDDINGS, "invalid_request", "body.input"),
        (a_line(stream=True), CHAT, "streaming_unsupported", "body.stream"),
    ],
)
def test_a_line_that_does_not_fit_has_the_fault_that_the_contract_names(
    line: dict[str, Any], endpoint: str, code: str, param: str
) -> None:
    assert check(line, endpoint) == (code, param)


@pytest.mark.parametrize("value", [False, None, "true", 1])
def test_only_true_asks_for_a_stream(value: object) -> None:
    assert check(a_line(stream=value)) is None


def test_the_longest_model_name_fits_in_characters_not_bytes() -> None:
    assert check(a_line(model="模" * MAX_MODEL_CHARS)) is None


def test_a_line_with_several_faults_tells_one() -> None:
    line = without(a_line(url=EMBEDDINGS, stream=True), "messages")
    assert check(line) == ("invalid_url", "url")
    assert check(line | {"url": CHAT}) == ("invalid_request", "body.messages")


# --- embedding inputs -------------------------------------------------------------------------------------------------

TOKENS = st.lists(st.integers(), min_size=1, max_size=5)


@pytest.mark.parametrize("style", range(4))
@given(
    value_and_count=st.one_of(
        st.text(max_size=9).map(lambda text: (text, 1)),
        TOKENS.map(lambda tokens: (tokens, 1)),
        st.lists(st.text(max_size=9), max_size=5).map(lambda texts: (texts, len(texts))),
        st.lists(TOKENS, max_size=5).map(lambda arrays: (arrays, len(arrays))),
    )
)
def test_embedding_inputs_are_counted_as_the_model_server_takes_them(
    style: int, value_and_count: tuple[object, int]
) -> None:
    value, count = value_and_count
    line = parse_line(spelt(a_line(input=value), style))
    assert isinstance(line.body.input, Raw)
    assert count_embedding_inputs(line.body.input) == count


@pytest.mark.parametrize("value", [b"null", b"{}", b"7", b"true"])
def test_an_input_of_no_known_shape_is_one(value: bytes) -> None:
    assert count_embedding_inputs(Raw(value)) == 1


# --- physical lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "is_first", "request_"),
    [
        (b'{"a":1}', False, b'{"a":1}'),
        (b'{"a":1}\r', False, b'{"a":1}\r'),
        (b'\xef\xbb\xbf{"a":1}', True, b'{"a":1}'),
        (b'\xef\xbb\xbf{"a":1}', False, b'\xef\xbb\xbf{"a":1}'),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}', True, b'\xef\xbb\xbf{"a":1}'),
        (b"", False, b""),
        (b"\r", False, b""),
        (b" \t \r", False, b""),
        (b"\xef\xbb\xbf\r", True, b""),
        (b"\xef\xbb\xbf", False, b"\xef\xbb\xbf"),
    ],
)
def test_a_blank_line_holds_no_request_and_a_file_may_begin_with_a_mark(
    line: bytes, is_first: bool, request_: bytes
) -> None:
    assert request_of(line, is_first=is_first) == request_
