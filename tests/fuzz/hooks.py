"""What Schemathesis is told besides `/openapi.json`: ids of objects that there are, and files that are files.

Loaded by Schemathesis in its own process (`test_description` starts it); it stands beside .venv, not in it.
"""

import json
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.builders import a_line, jsonl

_KEPT = 300
_OF_THE_WORLD = {
    ("invalid_purpose", "input_file_id"): "it is a result file",
    ("upload_not_pending", "upload_id"): "it has ended",
    ("invalid_value", "part_ids"): "they are another upload's, or not as long as was announced",
    ("invalid_value", "md5"): "it is of other bytes",
    ("invalid_value", "after"): "it has the form of an id and tells no time",
    ("invalid_file_format", "file"): "its name has an extension",
    ("invalid_file_format", "filename"): "it has an extension",
}
"""Refusals, by code and param, of requests that are as described: why, in words that no schema has."""
_FILE = st.lists(st.text(max_size=20), min_size=1, max_size=3).map(
    lambda prompts: jsonl(*(a_line(f"row-{n}", text=prompt) for n, prompt in enumerate(prompts)))
)
schemathesis.openapi.format("binary", _FILE | st.binary(min_size=1, max_size=2_000))


class Known:
    """Ids of objects that were made, the newest of each kind; not all of them are still there."""

    def __init__(self, prepared: dict[str, list[str]]) -> None:
        self._ids: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_KEPT))
        for ids in prepared.values():
            self.remember(ids)

    def remember(self, ids: Iterable[str]) -> None:
        for found in ids:
            self._ids[found.partition("_")[0]].append(found)

    def swap(self, value: Any) -> Any:
        """Put an id that was made in place of three of four that have its form; what has none stays as it is."""
        kind, _, rest = value.partition("_") if isinstance(value, str) else ("", "", "")
        there = self._ids.get(kind)
        drawn = int(rest[-4:], 16) if there and re.fullmatch("[0-9a-f-]{36}", rest) else 0
        return there[drawn // 4 % len(there)] if there and drawn % 4 else value


_CALLS = count()
_PREPARED = json.loads(Path(os.environ["FUZZ_IDS"]).read_text())
WHOLE: list[tuple[str, list[str]]] = sorted(_PREPARED.pop("whole").items())
"""Uploads whose parts make the file that was announced, with those parts."""
KNOWN = Known(_PREPARED)


def _swapped(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _swapped(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_swapped(value) for value in values]
    return KNOWN.swap(values)


@schemathesis.hook
def map_path_parameters(_: Any, path_parameters: Any) -> Any:
    return _swapped(path_parameters)


@schemathesis.hook
def map_query(_: Any, query: Any) -> Any:
    return _swapped(query)


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    return _swapped(body)


@schemathesis.hook
def map_headers(_: Any, headers: Any) -> Any:
    """Make half of the idempotency keys fresh: with one that was used there is little that a request can do."""
    number = next(_CALLS)
    key = headers.get("Idempotency-Key") if headers else None
    return headers | {"Idempotency-Key": f"{key}-{number}"} if key and len(key) < 200 and number % 2 else headers


@schemathesis.hook
def map_case(_: Any, case: Any) -> Any:
    """Let half of the requests that complete an upload name one that can be completed; asked again, it stays so.

    One that is wrong on purpose stays wrong.
    """
    if case.path.endswith("/complete") and _is_as_described(case) and next(_CALLS) % 2:
        upload_id, part_ids = WHOLE[next(_CALLS) % len(WHOLE)]
        case.path_parameters["upload_id"], case.body["part_ids"] = upload_id, part_ids
    return case


def _is_as_described(case: Any) -> bool:
    part_ids = case.body.get("part_ids") if isinstance(case.body, dict) else None
    if not isinstance(part_ids, list) or not part_ids or not all(_is_id("part", found) for found in part_ids):
        return False
    return len(set(part_ids)) == len(part_ids) and _is_id("upload", case.path_parameters.get("upload_id"))


def _is_id(kind: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(f"{kind}_[0-9a-f-]{{36}}", value) is not None


@schemathesis.hook
def after_call(_: Any, case: Any, response: Any) -> None:
    if case.method == "POST" and response.status_code == 200:
        made = response.json()
        KNOWN.remember([made["id"]])


@schemathesis.hook
def filter_failure(_: Any, failure: Any, __: Any, response: Any) -> bool:
    """Tell whether a failure is one."""
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    error = response.json()["error"]
    return (error["code"], error["param"]) not in _OF_THE_WORLD
