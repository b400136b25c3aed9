"""The keys that lines are sorted by."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_processor.prefix import MAX_KEY_BYTES, prefix_key
from tests.builders import a_line


def a_request(*contents: Any, **body: Any) -> bytes:
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return json.dumps(a_line(messages=messages, **body)).encode()


def groups_of(lines: list[bytes], group: Any) -> list[Any]:
    """Sort lines by their keys, and give the groups in the order in which they are met."""
    found: list[Any] = []
    for line in sorted(lines, key=prefix_key):
        if not found or found[-1] != group(line):
            found.append(group(line))
    return found


def system_of(line: bytes) -> str:
    return str(json.loads(line)["body"]["messages"][0]["content"])


@pytest.mark.parametrize("head", ["", "You are careful. " * 500], ids=["short", "alike-for-8-KB"])
def test_lines_of_equal_system_prompts_come_together_however_long_these_are_alike(head: str) -> None:
    systems = [f"{head}You speak language {n}." for n in range(20)]
    lines = [a_request(systems[n % 20], f"question {n}") for n in range(400)]
    random.Random(1).shuffle(lines)
    assert sorted(groups_of(lines, system_of)) == sorted(systems)


def test_near_matches_are_neighbours() -> None:
    systems = ["Translate to French.", "Translate to Frisian.", "Sum up.", "Translate to German.", "Sum up briefly."]
    lines = [a_request(system, "x") for system in systems]
    assert groups_of(lines, system_of) == sorted(systems)


def test_within_a_system_prompt_what_follows_it_counts() -> None:
    lines = [a_request("s", f"Document {n % 3}: " + "d" * 300 + f" Question {n}") for n in range(12)]
    assert groups_of(lines, lambda line: json.loads(line)["body"]["messages"][1]["content"][:11]) == [
        f"Document {n}:" for n in range(3)
    ]


def test_tools_count_behind_the_system_prompt() -> None:
    lines = [a_request("s", f"q {n}", tools=[{"name": f"tool {n % 2}"}]) for n in range(8)]
    assert len(groups_of(lines, lambda line: json.loads(line)["body"]["tools"][0]["name"])) == 2


@pytest.mark.parametrize("field", ["input", "prompt"])
def test_where_there_are_no_messages_the_input_counts(field: str) -> None:
    lines = [json.dumps({"body": {field: f"{n % 3} alike {n}"}}).encode() for n in range(9)]
    assert groups_of(lines, lambda line: json.loads(line)["body"][field][0]) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"body":7}',
        b'{"body":{}}',
        b'{"body":{"messages":"x"}}',
        b'{"body":{"messages":[7]}}',
        b'{"body":{"messages":[]}}',
        b"[" * 100_000,
        b'{"body":{"messages":[{"role":"user"}]}}',
    ],
)
def test_a_line_without_a_prompt_has_an_empty_key(line: bytes) -> None:
    assert prefix_key(line) == b""


@pytest.mark.parametrize("content", ["x", ["a", {"type": "text"}], None, {"a": 1}, 7])
def test_what_a_message_holds_may_be_of_any_shape(content: Any) -> None:
    assert prefix_key(a_request(content)) != b""


@given(st.lists(st.text(max_size=600), max_size=8), st.text())
def test_a_key_is_short_and_a_function_of_the_prompt_alone(contents: list[str], custom_id: str) -> None:
    line = a_request(*contents)
    key = prefix_key(line)
    other = json.loads(line) | {"custom_id": custom_id}
    other["body"]["temperature"] = 0.5
    assert len(key) <= MAX_KEY_BYTES
    assert prefix_key(json.dumps(other).encode()) == key
