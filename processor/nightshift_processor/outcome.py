"""What an answer means: a line of the output file with its tokens, or a line of the error file (contract 10, 12).

Pure. The answer's body is looked at for `usage` only and goes into its line as it came.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from nightshift_crds.lines import ErrorForm, LineError, Usage, compact, render_error, render_success
from nightshift_processor.client import Answer, Failure, Result


class Outcome(Struct, frozen=True, gc=False):
    """The result of a line; `usage` is None for an error."""

    line: bytes
    usage: Usage | None


_MAX_TOKENS = 1 << 40
"""More than any line can have; so large a number is nonsense, and sums of it would overflow in the end."""
_Tokens = Annotated[int, Meta(ge=0, le=_MAX_TOKENS)] | None


class _InputDetails(Struct):
    cached_tokens: _Tokens = None


class _OutputDetails(Struct):
    reasoning_tokens: _Tokens = None


class _Usage(Struct):
    """Tokens by the names of chat and completions, and by those of responses, which are also ours."""

    prompt_tokens: _Tokens = None
    completion_tokens: _Tokens = None
    total_tokens: _Tokens = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: _Tokens = None
    output_tokens: _Tokens = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Body(Struct):
    usage: _Usage | None = None


class _Object(Struct):
    """Any JSON object."""


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_object = msgspec.json.Decoder(_Object).decode

_CODE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request",
    401: "upstream_auth_error",
    403: "upstream_auth_error",
    404: "model_not_found",
    408: "request_timeout",
    413: "request_too_large",
    422: "invalid_request",
    429: "rate_limit_exceeded",
    504: "request_timeout",
}
_FAILURES: Mapping[Failure, tuple[str, str]] = {
    Failure.NOT_CONNECTED: ("connection_error", "The model server could not be reached."),
    Failure.BROKEN: ("connection_error", "The connection to the model server broke before it had answered."),
    Failure.TIMEOUT: ("request_timeout", "The model server did not answer in time."),
    Failure.TOO_LARGE: ("invalid_response", "The model server's answer is larger than is accepted."),
}


def conclude(line_id: str, custom_id: str, result: Result, form: ErrorForm) -> Outcome:
    """Turn the last result of a line into its outcome."""
    if isinstance(result, Failure):
        code, message = _FAILURES[result]
        return Outcome(render_error(line_id, custom_id, LineError(code, message)), None)
    request_id = result.request_id or f"req_{line_id.removeprefix('batch_req_')}"
    if 200 <= result.status < 300:
        return _conclude_success(line_id, custom_id, result, request_id)
    return Outcome(render_error(line_id, custom_id, _explain(result, request_id), form), None)


def _conclude_success(line_id: str, custom_id: str, answer: Answer, request_id: str) -> Outcome:
    try:
        usage = _read_usage(answer.body)
        body = compact(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = LineError(
            "invalid_response",
            "The model server's answer is not a JSON object.",
            status_code=answer.status,
            request_id=request_id,
        )
        return Outcome(render_error(line_id, custom_id, error), None)
    return Outcome(render_success(line_id, custom_id, answer.status, request_id, body), usage)


def _read_usage(body: bytes) -> Usage:
    """Read the tokens of an answer; also proves that it is a JSON object in UTF-8."""
    if not body.isascii():
        body.decode()
    try:
        found = _decode_body(body).usage
    except msgspec.ValidationError:  # tokens of another shape than OpenAI's count nothing
        _decode_object(body)
        found = None
    return _to_usage(found) if found else Usage()


def _to_usage(found: _Usage) -> Usage:
    sent = found.input_tokens if found.prompt_tokens is None else found.prompt_tokens
    received = (found.output_tokens if found.completion_tokens is None else found.completion_tokens) or 0
    if sent is None:  # a reranker may tell the total alone, and writes nothing
        sent = max((found.total_tokens or 0) - received, 0)
    input_details = found.prompt_tokens_details or found.input_tokens_details
    output_details = found.completion_tokens_details or found.output_tokens_details
    return Usage(
        input_tokens=sent,
        cached_tokens=(input_details.cached_tokens or 0) if input_details else 0,
        output_tokens=received,
        reasoning_tokens=(output_details.reasoning_tokens or 0) if output_details else 0,
        total_tokens=sent + received if found.total_tokens is None else found.total_tokens,
    )


def _explain(answer: Answer, request_id: str) -> LineError:
    body, raw = _decode_loosely(answer.body)
    nested = body.get("error") if isinstance(body, dict) else None
    said: dict[str, Any] = nested if isinstance(nested, dict) else body if isinstance(body, dict) else {}
    return LineError(
        code=_text(said.get("code")) or _code_of(answer.status),
        message=_message(said, nested) or f"The model server answered with status {answer.status}.",
        type=_text(said.get("type")),
        param=_text(said.get("param")),
        status_code=answer.status,
        request_id=request_id,
        answer=Raw(raw),
    )


def _decode_loosely(body: bytes) -> tuple[object, bytes]:
    """Read an error's body, and write it so that it can stand in a line; one that is no JSON becomes a string."""
    try:
        return msgspec.json.decode(body), compact(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode(errors="replace")
        return text, msgspec.json.encode(text)


def _message(said: dict[str, Any], nested: object) -> str | None:
    """Find words for people: OpenAI's `error.message`, vLLM's old `message`, FastAPI's `detail`, a bare `error`."""
    return _text(said.get("message")) or _text(said.get("detail")) or _text(nested)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _code_of(status: int) -> str:
    if status in _CODE_OF_STATUS:
        return _CODE_OF_STATUS[status]
    return "server_error" if status >= 500 else "invalid_response" if status < 400 else "invalid_request"
