"""What an answer means: one line of the output or of the error file (contract 10.1 to 10.3)."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightshift_crds.lines import ErrorForm
from nightshift_processor.client import Answer, Failure
from nightshift_processor.outcome import Outcome, conclude

ASKED = ("batch_req_7f3a", "row-17")
FORMS = list(ErrorForm)


def seed(status: int, body: bytes, request_id: str | None = "req-up") -> Outcome:
    return conclude(*ASKED, Answer(status, body, request_id), ErrorForm.SEED)


def openai(status: int, body: bytes, request_id: str | None = "req-up") -> Outcome:
    return conclude(*ASKED, Answer(status, body, request_id), ErrorForm.OPENAI)


def parse(outcome: Outcome) -> dict[str, Any]:
    """Read a line, and prove that it is one: a JSON object in UTF-8 that ends with the only newline."""
    assert outcome.line.endswith(b"\n")
    assert outcome.line.count(b"\n") == 1
    assert b"\r" not in outcome.line
    line: dict[str, Any] = json.loads(outcome.line.decode(), parse_constant=pytest.fail, parse_int=str)
    assert set(line) == {"id", "custom_id", "response", "error"}
    assert (line["id"], line["custom_id"]) == ("batch_req_7f3a", "row-17")
    return line


def error_of(outcome: Outcome) -> dict[str, Any]:
    line = parse(outcome)
    assert outcome.usage is None
    assert line["response"] is None
    error: dict[str, Any] = line["error"]
    assert set(error) == {"code", "message", "type", "param", "status_code", "request_id"}
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert error["code"]
    assert error["message"]
    return error


# --- success ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [200, 201, 299])
def test_an_answer_goes_into_the_output_file_as_the_server_wrote_it(status: int, form: ErrorForm) -> None:
    body = b'{ "object":"list" , "x": 1.10, "y":[1E5,-0.0], "z":"\xc3\xa9\\u00e9\xe2\x80\xa8" }'
    outcome = conclude(*ASKED, Answer(status, body, "req-up"), form)
    assert outcome.usage is not None
    assert body in outcome.line
    line = parse(outcome)
    assert line["error"] is None
    assert line["response"] == {"status_code": str(status), "request_id": "req-up", "body": line["response"]["body"]}


def test_a_server_without_request_ids_gets_one() -> None:
    assert parse(seed(200, b"{}", None))["response"]["request_id"] == "req_7f3a"
    assert error_of(seed(400, b"{}", None))["request_id"] == "req_7f3a"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_a_body_over_many_lines_becomes_one_and_its_numbers_stay(newline: bytes) -> None:
    digits = b"9" * 400
    body = b'{%b  "a": 1.10,%b "b": [%b1e400, %b],%b "c": "x\\ny"%b}%b' % (
        *(newline,) * 3,
        digits,
        *(newline,) * 3,
    )
    line = seed(200, body).line
    assert b'"a":1.10' in line
    assert b"1e400" in line
    assert digits in line
    assert rb'"x\ny"' in line
    parse(seed(200, body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'"text"',
        b"null",
        b"7",
        b'{"a":',
        b"{} {}",
        b'{"a": NaN}',
        b'{"a": 01}',
        b'{"a":"\xff"}',
        b"\xff",
        b'{"a":"\n"}',
        b'{"usage":{"prompt_tokens":"\xff"}}',
        b'{"usage":7,"a":}',
        b"\x00",
        b'{"a":' * 100_000,
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", FORMS)
def test_a_success_that_is_no_json_object_is_an_error_with_its_status(body: bytes, form: ErrorForm) -> None:
    error = error_of(conclude(*ASKED, Answer(200, body, "req-up"), form))
    assert (error["code"], error["status_code"], error["request_id"]) == ("invalid_response", "200", "req-up")


# --- failure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure.NOT_CONNECTED, "connection_error"),
        (Failure.BROKEN, "connection_error"),
        (Failure.TIMEOUT, "request_timeout"),
        (Failure.TOO_LARGE, "invalid_response"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_answer_is_an_error_without_a_status_in_both_forms(failure: Failure, code: str, form: ErrorForm) -> None:
    error = error_of(conclude(*ASKED, failure, form))
    assert (error["code"], error["status_code"], error["request_id"]) == (code, None, None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (401, "upstream_auth_error"),
        (403, "upstream_auth_error"),
        (404, "model_not_found"),
        (408, "request_timeout"),
        (413, "request_too_large"),
        (418, "invalid_request"),
        (422, "invalid_request"),
        (429, "rate_limit_exceeded"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (504, "request_timeout"),
        (599, "server_error"),
        (301, "invalid_response"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":{"code":null,"message":""}}', b'{"error":{"code":400}}'])
def test_an_error_without_a_code_of_its_own_gets_that_of_its_status(status: int, code: str, body: bytes) -> None:
    error = error_of(seed(status, body))
    assert (error["code"], error["status_code"]) == (code, str(status))


OPENAI_BODY = {
    "error": {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "context_length"}
}
VLLM_OLD_BODY = {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": None, "code": 400}
VLLM_NEW_BODY = {"error": {"message": "Too long.", "type": "BadRequestError", "param": None, "code": 400}}
FASTAPI_BODY = {"detail": "Too long."}
FASTAPI_422_BODY = {"detail": [{"loc": ["body", "n"], "msg": "x", "type": "y"}]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (OPENAI_BODY, ("context_length", "Too long.", "invalid_request_error", "messages")),
        (VLLM_OLD_BODY, ("invalid_request", "Too long.", "BadRequestError", None)),
        (VLLM_NEW_BODY, ("invalid_request", "Too long.", "BadRequestError", None)),
        (FASTAPI_BODY, ("invalid_request", "Too long.", None, None)),
        (FASTAPI_422_BODY, ("invalid_request", None, None, None)),
        ({"error": "Too long."}, ("invalid_request", "Too long.", None, None)),
        ({"error": ["x"]}, ("invalid_request", None, None, None)),
        ({"error": {"message": {"a": 1}, "type": 7, "param": [], "code": ""}}, ("invalid_request", None, None, None)),
        ([1], ("invalid_request", None, None, None)),
        ("Too long.", ("invalid_request", None, None, None)),
        (None, ("invalid_request", None, None, None)),
    ],
)
def test_what_the_server_said_is_found_in_every_form(
    body: object, expected: tuple[str, str | None, str | None, str | None]
) -> None:
    code, message, kind, param = expected
    error = error_of(seed(400, json.dumps(body, indent=1).encode()))
    assert (error["code"], error["type"], error["param"]) == (code, kind, param)
    assert error["message"] == (message or "The model server answered with status 400.")


@pytest.mark.parametrize("body", [b"Bad Gateway\r\n", b"\xff\xfe\x00", b'{"error":{"message":"\xff"}}', b"[" * 100_000])
def test_an_error_body_that_is_no_json_is_an_error_all_the_same(body: bytes) -> None:
    error = error_of(seed(502, body))
    assert (error["code"], error["message"]) == ("server_error", "The model server answered with status 502.")
    assert parse(openai(502, body))["response"]["body"] == body.decode(errors="replace")


@pytest.mark.parametrize("body", [OPENAI_BODY, VLLM_OLD_BODY, FASTAPI_BODY, [1, 2], "text", 7, None])
def test_in_openais_form_an_http_error_stands_in_the_response(body: object) -> None:
    outcome = openai(400, json.dumps(body, indent=2).encode())
    assert outcome.usage is None
    line = parse(outcome)
    assert line["error"] is None
    assert line["response"]["status_code"] == "400"
    assert line["response"]["request_id"] == "req-up"
    assert json.loads(outcome.line)["response"]["body"] == body


# --- any answer -------------------------------------------------------------------------------------------------------

json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace"))
bodies = st.binary(max_size=60) | json_texts | st.tuples(json_texts, st.binary(max_size=3)).map(b"".join)


@given(st.integers(100, 999), bodies, st.none() | st.text(max_size=20), st.sampled_from(FORMS), st.text(min_size=1))
@example(400, b'{"error":"\xff"}', None, ErrorForm.SEED, "c")
@example(400, b'{"message":\n"\xed\xa0\x80"}', None, ErrorForm.OPENAI, "c")
@example(200, b'{"usage":{"prompt_tokens":' + b"9" * 5_000 + b"}}", None, ErrorForm.SEED, "c")
def test_any_bytes_give_exactly_one_valid_line(
    status: int, body: bytes, request_id: str | None, form: ErrorForm, custom_id: str
) -> None:
    custom_id = custom_id.encode("utf-8", "replace").decode()
    request_id = request_id.encode("utf-8", "replace").decode() if request_id else None
    outcome = conclude("batch_req_1", custom_id, Answer(status, body, request_id), form)
    assert outcome.line.index(b"\n") == len(outcome.line) - 1
    line = json.loads(outcome.line.decode(), parse_constant=pytest.fail, parse_int=str)
    assert line["custom_id"] == custom_id
    assert (line["response"] is None) is (line["error"] is not None)
    assert outcome.usage is None or 200 <= status < 300
