"""Result lines as contract 10 writes them: always one line of valid JSON, with what the model server said untouched."""

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from nightshift_crds.lines import (
    ErrorForm,
    LineError,
    Usage,
    compact,
    parse_result_id,
    render_error,
    render_success,
)

TEXTS = st.text(max_size=30) | st.sampled_from(["\n", "\r\n", '"', "\\", "\u2028", "\x00", "😀"])
SCALARS = st.none() | st.booleans() | st.integers() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
NUMBERS = ["0", "-0", "1.10", "1E400", "-1e-999", "1" * 400, "0.1000000000000000055511151231257827", "10e+2", "1.0"]
ERRORS = st.builds(
    LineError,
    code=TEXTS,
    message=TEXTS,
    type=st.none() | TEXTS,
    param=st.none() | TEXTS,
    status_code=st.none() | st.integers(min_value=100, max_value=599),
    request_id=st.none() | TEXTS,
    answer=st.none() | JSON.map(lambda value: Raw(json.dumps(value, indent=2).encode())),
)


def read_line(line: bytes) -> dict[str, object]:
    """Read a line of a result file, which must be one."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    found: dict[str, object] = json.loads(line)
    return found


# --- output lines -----------------------------------------------------------------------------------------------------


@given(TEXTS, TEXTS, JSON)
def test_an_answer_is_one_line_with_the_servers_body_in_it(custom_id: str, request_id: str, body: object) -> None:
    found = read_line(render_success("batch_req_1", custom_id, 200, request_id, json.dumps(body).encode()))
    assert found == {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": {"status_code": 200, "request_id": request_id, "body": body},
        "error": None,
    }


@given(TEXTS, TEXTS, TEXTS)
def test_the_id_of_a_line_is_read_without_its_answer(line_id: str, custom_id: str, request_id: str) -> None:
    line = render_success(line_id, custom_id, 200, request_id, b"[" * 100_000)
    assert parse_result_id(line) == custom_id


@pytest.mark.parametrize("line", [b"", b"{}", b'{"custom_id":"a"}', b'{"id":"a","custom_id":1,"response":null}'])
def test_a_line_that_is_no_result_has_no_id(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a result line"):
        parse_result_id(line)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_answer_goes_in_byte_by_byte(number: str) -> None:
    body = b'{"n" : %b ,"s":"\\u00e9\xc3\xa9"}' % number.encode()
    assert body in render_success("batch_req_1", "a", 200, "req_1", body)


# --- error lines ------------------------------------------------------------------------------------------------------


@given(TEXTS, ERRORS)
def test_a_failure_is_one_line_in_the_guides_form(custom_id: str, error: LineError) -> None:
    found = read_line(render_error("batch_req_1", custom_id, error))
    assert found == {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": None,
        "error": {
            "code": error.code,
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "status_code": error.status_code,
            "request_id": error.request_id,
        },
    }


@given(TEXTS, ERRORS)
def test_a_failure_is_one_line_in_openais_form(custom_id: str, error: LineError) -> None:
    line = render_error("batch_req_1", custom_id, error, ErrorForm.OPENAI)
    if error.status_code is None or error.answer is None:  # no HTTP answer looks the same in both
        assert line == render_error("batch_req_1", custom_id, error)
        return
    assert read_line(line) == {
        "id": "batch_req_1",
        "custom_id": custom_id,
        "response": {
            "status_code": error.status_code,
            "request_id": error.request_id or "",
            "body": json.loads(bytes(error.answer)),
        },
        "error": None,
    }


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
@pytest.mark.parametrize("form", ErrorForm)
def test_a_line_that_never_ran_looks_the_same_in_both_forms(code: str, form: ErrorForm) -> None:
    found = read_line(render_error("batch_req_1", "a", LineError(code, "It did not run."), form))
    assert found["response"] is None
    assert isinstance(found["error"], dict)
    assert found["error"]["code"] == code


def test_an_error_without_a_body_keeps_the_guides_form() -> None:
    error = LineError("server_error", "It broke.", status_code=500)
    assert b'"response":null' in render_error("batch_req_1", "a", error, ErrorForm.OPENAI)
    answered = replace(error, answer=Raw(b"{}"))
    assert b'"error":null' in render_error("batch_req_1", "a", answered, ErrorForm.OPENAI)


# --- compact ----------------------------------------------------------------------------------------------------------


@given(JSON, st.sampled_from(["\n", "\r\n", "\r", "\t\n  "]))
def test_newlines_leave_json_and_its_values_stay(value: object, newline: str) -> None:
    body = f"[{newline}{json.dumps(value, indent=1, ensure_ascii=False)}{newline}]".encode()
    found = compact(body)
    assert b"\n" not in found
    assert b"\r" not in found
    assert json.loads(found) == [value]


@given(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=5))
def test_numbers_keep_their_spelling(numbers: list[str]) -> None:
    body = ("[\n" + ",\r\n ".join(numbers) + "\n]").encode()
    assert compact(body) == f"[{','.join(numbers)}]".encode()


def test_a_body_of_one_line_is_not_touched() -> None:
    body = b'{"a" :  [ 1.10 , 2 ]}'
    assert compact(body) is body


@pytest.mark.parametrize("body", [b"{\n", b"\n", b"[1,\n]", b"1\n2", b"nope\n", b'"a\nb"'])
def test_what_is_no_json_cannot_be_made_a_line(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        compact(body)


# --- usage ------------------------------------------------------------------------------------------------------------

COUNTS = st.integers(min_value=0, max_value=2**40)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    cached_tokens=COUNTS,
    output_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    total_tokens=COUNTS,
)


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up_in_any_order_and_field_by_field(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == a
    summed = msgspec.structs.asdict(a + b)
    assert summed == {key: value + msgspec.structs.asdict(b)[key] for key, value in msgspec.structs.asdict(a).items()}


@given(USAGES)
def test_usage_is_read_back_as_it_was_written(usage: Usage) -> None:
    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage
