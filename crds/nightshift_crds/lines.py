"""One line of a batch file, in and out: bytes of an upload to a typed line, an outcome to bytes of a result file.

Pure. What is passed through is never decoded: `body` stays the bytes that the user wrote, so that numbers keep
their spelling, and a model's answer is spliced into its output line (performance.md, 3 and d). Sources of the
rules: contract 8, 9 and 10. Messages say what was expected, never what stood there: they reach etcd and logs.
"""

import re
from codecs import utf_8_decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

MAX_CUSTOM_ID_CHARS = 512
MAX_MODEL_CHARS = 256
MAX_DEPTH = 500
"""Brackets within brackets in a line. The decoder shares Python's limit of 1,000 with the calls that lead to it, so
that without a limit of ours who reads a line would decide whether it can be read."""
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
RESPONSES = "/v1/responses"
SCORE = "/v1/score"
DEFAULT_ENDPOINTS = (CHAT, EMBEDDINGS)
"""What batches may be on where nobody says otherwise (contract 15, row 11)."""

REQUIRED_OF_BODY: Mapping[str, tuple[tuple[str, ...], ...]] = {
    CHAT: (("messages",),),
    COMPLETIONS: (("prompt",), ("prompt_embeds",)),
    EMBEDDINGS: (("input",),),
    RERANK: (("query", "documents"),),
    RESPONSES: (("input",),),
    SCORE: (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")),
}
"""The fields besides `model` without which no server can answer, per endpoint; where vLLM takes several spellings, all
of one are enough."""


class ErrorForm(StrEnum):
    """How a line that the model server refused is written (contract 15, row 9)."""

    SEED = "seed"
    """`response` null, `error` filled."""
    OPENAI = "openai"
    """`response` filled with what the server said, `error` null."""


class LineOrder(StrEnum):
    """In which order the lines of a batch are sent; its slices are runs of that order, so it never changes.

    Another way to sort is another value: pods of two versions may follow each other on one batch.
    """

    FILE = "file"
    """As they stand in the file."""
    PREFIX = "prefix"
    """By what their prompts begin with, so that a model server's prefix cache finds it."""


class LineFault(Exception):
    """Why a line cannot be part of a batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class Body(Struct):
    """What is looked at of a request body; the rest is skipped."""

    model: str | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    prompt_embeds: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    query: Raw | UnsetType = UNSET
    queries: Raw | UnsetType = UNSET
    documents: Raw | UnsetType = UNSET
    items: Raw | UnsetType = UNSET
    text_1: Raw | UnsetType = UNSET
    text_2: Raw | UnsetType = UNSET
    data_1: Raw | UnsetType = UNSET
    data_2: Raw | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET
    background: Raw | UnsetType = UNSET


class Line(Struct):
    """A request line that is sound in itself; whether it fits a batch is `check_body`'s to say, and its `url`'s."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CUSTOM_ID_CHARS)]
    method: Literal["POST"]
    url: str
    body: Body


class Item(Struct):
    """A line as the processor sends it: `body` is the user's bytes."""

    custom_id: str
    body: Raw


_decode_line = msgspec.json.Decoder(Line).decode
_decode_lines = msgspec.json.Decoder(Line).decode_lines
_decode_item = msgspec.json.Decoder(Item).decode
_decode_anything = msgspec.json.Decoder(Raw).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_parts = msgspec.json.Decoder(list[Raw]).decode
_LF, _CR = b"\n\r"
_BOM = b"\xef\xbb\xbf"
_KEYS = ("custom_id", "method", "url", "body")
_PASSED_THROUGH = frozenset(Body.__struct_fields__) - {"model"}
_STRING = re.compile(rb'"[^"]*+"?')
_RESULT_IDS = re.compile(rb'\{"id":"(?:[^"\\]|\\.)*+","custom_id":("(?:[^"\\]|\\.)*+"),')
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_OPENING = ord("[")
_PASSES = 3
_LOOK = MAX_DEPTH // 4
_PIECE_BYTES = 64 * 1024


def parse_item(raw: bytes) -> Item:
    """Read what the processor needs of a line that validation has accepted."""
    try:
        return _decode_item(raw)
    except msgspec.ValidationError:  # a key stands twice: the last one counts, the first may be of any type
        fields = _decode_object(raw)
        return Item(_string_of(fields["custom_id"], "custom_id"), fields["body"])


def parse_line(raw: bytes) -> Line:
    """Read a line as a user wrote it.

    Raises:
        LineFault: the line is no JSON object, or lacks one of the four keys, or one is not as contract 9 wants it.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:  # most lines need no closer look
        _refuse_deep(raw)
    try:
        if not raw.isascii():
            raw.decode()
        return _decode_line(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _explain(raw)


def parse_lines(block: bytes, start: int, end: int) -> list[Line] | None:
    """Read the whole lines of a part of a block, as `parse_line` would each; None if one is blank or is not sound.

    Each ends with a newline. It copies nothing, which is half of what reading line by line costs.
    """
    if _may_be_deep(block, b"{", start, end) or _may_be_deep(block, b"[", start, end):
        return None
    try:
        whole = memoryview(block)[start:end]
        if not block.isascii():
            _check_utf8(whole)
        lines = _decode_lines(whole)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return lines if len(lines) == _count_newlines(block, start, end) else None  # a request over two lines is none


def _check_utf8(whole: memoryview) -> None:
    """Raise UnicodeDecodeError for what is no UTF-8. In pieces: a large string costs more pages than it has characters.

    Whole lines end with a newline, so that no character can be cut off at the end.
    """
    start = 0
    while start < len(whole):
        _, taken = utf_8_decode(whole[start : start + _PIECE_BYTES], "strict", False)  # noqa: FBT003 - codecs' own
        start += taken


def _count_newlines(block: bytes, start: int, end: int) -> int:
    """Count as `bytes.count` does, in a quarter of its time: lines are long."""
    find = block.find
    count, at = 0, find(b"\n", start, end)
    while at >= 0:
        count += 1
        at = find(b"\n", at + 1, end)
    return count


def _may_be_deep(block: bytes, bracket: bytes, start: int, end: int) -> bool:
    """Tell whether a line may have half of the brackets that are too many: then two looks in a row are at one line."""
    find = block.find
    last, left, at = start, _LOOK, find(bracket, start, end)
    while at >= 0:
        left -= 1
        if not left:
            if find(b"\n", last, at) < 0:
                return True
            last, left = at, _LOOK
        at = find(bracket, at + 1, end)
    return False


def _refuse_deep(raw: bytes) -> None:
    """Refuse what nests deeper than allowed, in time that grows with the line and not with its depth.

    Up to its first fault a line is read as the decoder reads it, so that one that would be too deep is found here.
    """
    depth = _PASSES  # each pass has taken the innermost brackets away, and by that one level
    for bracket in _brackets_of(raw):
        depth += 1 if bracket == _OPENING else -1
        if depth > MAX_DEPTH:
            raise LineFault("invalid_json_line", f"Expected this line to nest at most {MAX_DEPTH} brackets.")


def _brackets_of(raw: bytes) -> bytes:
    """Give the brackets of a line that stand in no string, one kind for all, without the innermost."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = unescaped.translate(_ONE_KIND, _NO_MARKS).replace(b'""', b"")  # two quotes side by side change nothing
    brackets = _STRING.sub(b"", marks)
    for _ in range(_PASSES):
        brackets = brackets.replace(b"[]", b"")
    return brackets


def _explain(raw: bytes) -> Line:
    """Find the first fault of a line that did not decode, key by key; a body without a model name is none yet."""
    fields = _decode_fields(raw)
    for key in _KEYS:
        if key not in fields:
            raise LineFault("missing_required_parameter", f"Expected a '{key}' key in this line.", key)
    return Line(
        custom_id=_explain_custom_id(fields["custom_id"]),
        method=_explain_method(fields["method"]),
        url=_string_of(fields["url"], "url"),
        body=_explain_body(fields["body"]),
    )


def _decode_fields(raw: bytes) -> dict[str, Raw]:
    try:
        raw.decode()
        _decode_anything(raw)  # a value of the wrong type is refused before what follows it is read
        return _decode_object(raw)
    except msgspec.ValidationError:
        raise LineFault("invalid_request", "Expected this line to be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LineFault("invalid_json_line", "Expected this line to be valid JSON in UTF-8.") from None


def _string_of(raw: Raw, param: str) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError:
        raise LineFault("invalid_request", f"Expected '{param}' to be a string.", param) from None


def _explain_custom_id(raw: Raw) -> str:
    custom_id = _string_of(raw, "custom_id")
    if not 1 <= len(custom_id) <= MAX_CUSTOM_ID_CHARS:
        message = f"Expected 'custom_id' to have 1 to {MAX_CUSTOM_ID_CHARS} characters."
        raise LineFault("invalid_request", message, "custom_id")
    return custom_id


def _explain_method(raw: Raw) -> Literal["POST"]:
    if _string_of(raw, "method") != "POST":
        raise LineFault("invalid_request", "Expected 'method' to be 'POST'.", "method")
    return "POST"


def _explain_body(raw: Raw) -> Body:
    try:
        fields = _decode_object(raw)
    except msgspec.ValidationError:
        raise LineFault("invalid_request", "Expected 'body' to be an object.", "body") from None
    try:
        model: str | UnsetType = msgspec.json.decode(fields["model"], type=str)
    except (KeyError, msgspec.ValidationError):
        model = UNSET
    return Body(model, **{name: fields[name] for name in _PASSED_THROUGH & fields.keys()})


@lru_cache(maxsize=64)
def wrong_url(endpoint: str) -> LineFault:
    """Say that a line is for another endpoint."""
    return LineFault("invalid_url", f"Expected 'url' to be the batch's endpoint, '{endpoint}'.", "url")


def check_body(body: Body, endpoint: str) -> LineFault | None:
    """Find the first reason why an endpoint cannot take a body in a batch, if there is one."""
    model = body.model
    if not isinstance(model, str) or not model:
        return LineFault("invalid_request", "Expected 'body.model' to be a string, not an empty one.", "body.model")
    if len(model) > MAX_MODEL_CHARS:
        message = f"Expected 'body.model' to have at most {MAX_MODEL_CHARS} characters."
        return LineFault("invalid_request", message, "body.model")
    missing = _find_missing(body, endpoint)
    if missing:
        return LineFault("invalid_request", f"Expected a '{missing}' key in 'body'.", f"body.{missing}")
    if body.stream is not UNSET and bytes(body.stream) == b"true":
        message = "Expected 'body.stream' to be false or absent: a batch returns whole answers."
        return LineFault("streaming_unsupported", message, "body.stream")
    if endpoint == RESPONSES and body.background is not UNSET and bytes(body.background) == b"true":
        message = "Expected 'body.background' to be false or absent: a batch returns whole answers."
        return LineFault("invalid_request", message, "body.background")
    return None


def _find_missing(body: Body, endpoint: str) -> str | None:
    """Name a field that an endpoint needs and a body lacks, by the spelling that it comes nearest to."""
    spellings = REQUIRED_OF_BODY.get(endpoint)
    if not spellings:
        return None
    for spelling in spellings:  # plain loops: every line comes by here
        for field in spelling:
            if getattr(body, field) is UNSET:
                break
        else:
            return None
    lacking = ([field for field in spelling if getattr(body, field) is UNSET] for spelling in spellings)
    return min(lacking, key=len)[0]


def count_embedding_inputs(value: Raw) -> int:
    """Count what a model server will embed: a string or an array of integers is 1, any other array its length."""
    if _first_byte(value) != b"[":
        return 1
    parts = _decode_parts(value)
    is_tokens = bool(parts) and _first_byte(parts[0]) not in {b'"', b"["}
    return 1 if is_tokens else len(parts)


def _first_byte(value: Raw) -> bytes:
    return bytes(memoryview(value)[:1])


def request_of(line: bytes, *, is_first: bool) -> bytes:
    """Give the request that a physical line holds, without the byte-order mark of a file; blank lines hold none."""
    content = line.removeprefix(_BOM) if is_first else line
    return b"" if content.isspace() else content


class LineSplitter:
    """Cut a stream of chunks into physical lines, holding one line at most.

    A line over `max_bytes` comes out as None, so that nobody can make us hold a whole file as one line.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """Take a chunk and give the lines that it ends, without their newline."""
        start, end = 0, chunk.find(b"\n")  # `split` looks at byte after byte
        while end >= 0:
            if self._held:
                self._hold(chunk[start:end])
                yield self._release()
            else:
                yield chunk[start:end] if end - start <= self._max_bytes else None
            start = end + 1
            end = chunk.find(b"\n", start)
        self._hold(chunk[start:])

    def finish(self) -> Iterator[bytes | None]:
        """Give the last line, if the stream did not end with a newline."""
        if self._held:
            yield self._release()

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held <= self._max_bytes:
            self._pieces.append(piece)

    def _release(self) -> bytes | None:
        line = b"".join(self._pieces) if self._held <= self._max_bytes else None
        self._pieces, self._held = [], 0
        return line


class Usage(Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens of the successful lines, in OpenAI's sense (contract 12)."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


@dataclass(frozen=True)
class LineError:
    """Why a request has no result, as the `error` of its line says it (contract 10.2).

    Attributes:
        status_code: the model server's, or None when there was no HTTP answer.
        answer: the JSON body that the server sent with it, for `ErrorForm.OPENAI`; None if there was none.
    """

    code: str
    message: str
    type: str | None = None
    param: str | None = None
    status_code: int | None = None
    request_id: str | None = None
    answer: Raw | None = None


def render_success(line_id: str, custom_id: str, status_code: int, request_id: str, body: bytes) -> bytes:
    """Write the output line of an answer; `body` is JSON without newlines and goes in as it is."""
    return (b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":null}\n') % (
        _json(line_id),
        _json(custom_id),
        status_code,
        _json(request_id),
        body,
    )


def parse_result_id(line: bytes) -> str:
    """Read the custom_id of a line that `render_success` has written; the answer, however deep it nests, is not read.

    Raises ValueError for any other line.
    """
    found = _RESULT_IDS.match(line)
    if found is None:
        raise ValueError("not a result line")
    return msgspec.json.decode(found[1], type=str)


def render_error(line_id: str, custom_id: str, error: LineError, form: ErrorForm = ErrorForm.SEED) -> bytes:
    """Write the error line of a request, in the guide's form or, for an HTTP failure, in OpenAI's."""
    if form is ErrorForm.OPENAI and error.status_code is not None and error.answer is not None:
        body = compact(bytes(error.answer))
        return render_success(line_id, custom_id, error.status_code, error.request_id or "", body)
    fields = {
        "code": error.code,
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "status_code": error.status_code,
        "request_id": error.request_id,
    }
    return b'{"id":%b,"custom_id":%b,"response":null,"error":%b}\n' % (_json(line_id), _json(custom_id), _json(fields))


def compact(body: bytes) -> bytes:
    """Take newlines out of JSON without touching its values, so that it can stand in a line.

    Raises:
        msgspec.DecodeError: it is no JSON.
    """
    has_breaks = _LF in body or _CR in body  # as numbers: `in` looks for bytes in several times the time
    return msgspec.json.format(body, indent=-1) if has_breaks else body


_json = msgspec.json.Encoder().encode
