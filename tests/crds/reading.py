"""Lines of every kind, and a slow reading of them: contract 8 by the json module, apart from ours."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NoReturn

from hypothesis import strategies as st

from nightshift_crds.inspection import Limits
from nightshift_crds.lines import CHAT, EMBEDDINGS, MAX_CUSTOM_ID_CHARS, REQUIRED_OF_BODY
from tests.builders import MODEL

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=9), children, max_size=4),
    max_leaves=8,
)
CUSTOM_IDS = st.text(min_size=1, max_size=20) | st.just("x" * MAX_CUSTOM_ID_CHARS) | st.just("日" * MAX_CUSTOM_ID_CHARS)
FIELDS = [*dict.fromkeys(chain(*chain(*REQUIRED_OF_BODY.values()))), "stream", "background", "temperature"]
BODIES = st.fixed_dictionaries({}, optional={"model": st.just(MODEL) | JSON} | dict.fromkeys(FIELDS, JSON))
NEAR_LINES = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": CUSTOM_IDS | JSON | st.just("x" * (MAX_CUSTOM_ID_CHARS + 1)),
        "method": st.sampled_from(["POST", "post", "GET", ""]) | JSON,
        "url": st.just(CHAT) | JSON,
        "body": BODIES | JSON,
        "note": JSON,
    },
)


def spelt(value: object, style: int = 0) -> bytes:
    """Write JSON in one of several ways that mean the same."""
    separators = (",", ":") if style & 1 else (" ,\t", " :  ")
    return json.dumps(value, ensure_ascii=bool(style & 2), separators=separators).encode()


RAW_LINES = st.builds(spelt, NEAR_LINES | JSON, st.integers(min_value=0, max_value=3))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line with a few bytes put in place of others."""
    raw = draw(RAW_LINES)
    at = draw(st.integers(min_value=0, max_value=len(raw)))
    return raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(min_value=0, max_value=3)) :]


def read_strictly(raw: bytes) -> Any:
    """Read JSON by RFC 8259 with the standard library; raises ValueError."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    value = json.loads(raw.decode(), parse_constant=refuse, parse_int=lambda _: 0, parse_float=lambda _: 0.0)
    json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    return value


def fault_by_the_contract(raw: bytes) -> tuple[str, str | None] | None:
    """Say what contract 8 says of a line, by other means than ours."""
    try:
        line = read_strictly(raw)
    except ValueError:
        return "invalid_json_line", None
    if not isinstance(line, dict):
        return "invalid_request", None
    for key in ("custom_id", "method", "url", "body"):
        if key not in line:
            return "missing_required_parameter", key
    custom_id = line["custom_id"]
    is_right = {
        "custom_id": isinstance(custom_id, str) and 1 <= len(custom_id) <= 512,
        "method": line["method"] == "POST",
        "url": isinstance(line["url"], str),
        "body": isinstance(line["body"], dict),
    }
    return next((("invalid_request", key) for key, right in is_right.items() if not right), None)


# --- a whole file -----------------------------------------------------------------------------------------------------


@dataclass
class Reading:
    """What there is to say of a file: its request lines, and per endpoint each line's fault or model."""

    lines: int = 0
    embedding_inputs: int = 0
    faults: dict[str, list[tuple[int, str, str | None]]] = field(default_factory=lambda: {CHAT: [], EMBEDDINGS: []})
    models: dict[str, dict[str, list[int]]] = field(default_factory=lambda: {CHAT: {}, EMBEDDINGS: {}})


def requests_in(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Give number, physical line and request of every line that is not blank."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        content = line[3:] if number == 1 and line.startswith(b"\xef\xbb\xbf") else line
        if content.strip():
            yield number, line, content


def read_slowly(data: bytes, limits: Limits) -> Reading:
    """Read a file by the table of contract 8."""
    reading, seen = Reading(), set[str]()
    for number, line, content in requests_in(data):
        reading.lines += 1
        is_long = len(line) > limits.max_line_bytes
        fault = ("invalid_request", None) if is_long else fault_by_the_contract(content)
        parsed: Any = None if fault else read_strictly(content)
        if parsed and parsed["custom_id"] in seen:
            fault = ("duplicate_custom_id", "custom_id")
        elif parsed:
            seen.add(parsed["custom_id"])
            reading.embedding_inputs += _count_inputs(parsed) if parsed["url"] == EMBEDDINGS else 0
        for endpoint in (CHAT, EMBEDDINGS):
            found = fault or _fault_on(endpoint, parsed)
            if found:
                reading.faults[endpoint].append((number, *found))
            else:
                reading.models[endpoint].setdefault(parsed["body"]["model"], []).append(number)
    return reading


def _fault_on(endpoint: str, line: Any) -> tuple[str, str] | None:
    body, needed = line["body"], {CHAT: "messages", EMBEDDINGS: "input"}[endpoint]
    if line["url"] != endpoint:
        return "invalid_url", "url"
    if not isinstance(body.get("model"), str) or not 1 <= len(body["model"]) <= 256:
        return "invalid_request", "body.model"
    if needed not in body:
        return "invalid_request", f"body.{needed}"
    return ("streaming_unsupported", "body.stream") if body.get("stream") is True else None


def _count_inputs(line: Any) -> int:
    value = line["body"].get("input", "" if "input" in line["body"] else [])
    if not isinstance(value, list):
        return 1
    return len(value) if not value or isinstance(value[0], str | list) else 1
