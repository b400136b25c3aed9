"""The tokens of an answer (contract 12), whatever a server makes of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.lines import ErrorForm, Usage
from nightshift_processor.client import Answer
from nightshift_processor.outcome import conclude

NOTHING = Usage()


def count(body: Any) -> Usage:
    """Count the tokens of a body, which stands in its line as it is whatever they are."""
    outcome = conclude("batch_req_1", "c", Answer(200, json.dumps(body).encode()), ErrorForm.SEED)
    assert json.loads(outcome.line)["response"]["body"] == body
    assert outcome.usage is not None
    return outcome.usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
            Usage(input_tokens=9, output_tokens=4, total_tokens=13),
        ),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(input_tokens=9, total_tokens=9)),
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(input_tokens=9, output_tokens=4, total_tokens=13)),
        ({"prompt_tokens": 9}, Usage(input_tokens=9, total_tokens=9)),
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": None}, Usage(input_tokens=9, total_tokens=9)),
        ({"prompt_tokens": 9, "total_tokens": 20}, Usage(input_tokens=9, total_tokens=20)),
        ({"prompt_tokens": 9, "total_tokens": 0}, Usage(input_tokens=9, total_tokens=0)),
        ({"total_tokens": 5}, Usage(input_tokens=5, total_tokens=5)),
        ({"prompt_tokens": None, "total_tokens": 5}, Usage(input_tokens=5, total_tokens=5)),
        ({"completion_tokens": 2, "total_tokens": 5}, Usage(input_tokens=3, output_tokens=2, total_tokens=5)),
        ({"completion_tokens": 7, "total_tokens": 5}, Usage(output_tokens=7, total_tokens=5)),
        ({"completion_tokens": 7}, Usage(output_tokens=7, total_tokens=7)),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 8},
                "output_tokens": 4,
                "output_tokens_details": {"reasoning_tokens": 3, "tool_output_tokens": 0},
                "total_tokens": 13,
            },
            Usage(input_tokens=9, cached_tokens=8, output_tokens=4, reasoning_tokens=3, total_tokens=13),
        ),
        ({"input_tokens": 9, "output_tokens": 4}, Usage(input_tokens=9, output_tokens=4, total_tokens=13)),
        (
            {"prompt_tokens": 9, "input_tokens": 1, "completion_tokens": 4, "output_tokens": 1},
            Usage(input_tokens=9, output_tokens=4, total_tokens=13),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "total_tokens": 13,
                "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3, "accepted_prediction_tokens": 0},
            },
            Usage(input_tokens=9, cached_tokens=8, output_tokens=4, reasoning_tokens=3, total_tokens=13),
        ),
        (
            {"prompt_tokens": 1, "prompt_tokens_details": None, "completion_tokens_details": None},
            Usage(input_tokens=1, total_tokens=1),
        ),
        (
            {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": {}},
            Usage(input_tokens=1, total_tokens=1),
        ),
        ({}, NOTHING),
        (None, NOTHING),
    ],
)  # fmt: skip
def test_tokens_are_read_by_the_names_of_every_endpoint(usage: Any, expected: Usage) -> None:
    assert count({"object": "chat.completion", "usage": usage}) == expected


def test_an_answer_without_usage_counts_nothing() -> None:
    assert count({}) == NOTHING


@pytest.mark.parametrize(
    "usage",
    [
        7,
        "many",
        [],
        True,
        {"prompt_tokens": "9"},
        {"prompt_tokens": 9.5},
        {"prompt_tokens": True},
        {"prompt_tokens": [], "total_tokens": 4},
        {"prompt_tokens": 9, "prompt_tokens_details": []},
        {"prompt_tokens": -1},
        {"prompt_tokens": 1, "completion_tokens": -5},
        {"prompt_tokens": 1, "total_tokens": -5},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": -5}},
        {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -5}},
        {"input_tokens": "9", "output_tokens": 4},
        {"input_tokens": 1, "output_tokens_details": {"reasoning_tokens": -5}},
        {"prompt_tokens": 10**18},
        {"prompt_tokens": 10**30},
    ],
)
def test_tokens_of_another_shape_count_nothing_and_the_answer_is_kept(usage: Any) -> None:
    assert count({"usage": usage}) == NOTHING


NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"]


@given(st.dictionaries(st.sampled_from(NAMES), st.integers()))
def test_no_answer_makes_a_sum_fall_or_overflow(usage: dict[str, int]) -> None:
    counted = count({"usage": usage})
    total = sum((counted,) * 50_000, Usage())
    assert 0 <= total.input_tokens < 2**63
    assert 0 <= total.output_tokens < 2**63
    assert 0 <= total.total_tokens < 2**63
