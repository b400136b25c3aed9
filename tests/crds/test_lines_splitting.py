"""Cutting a stream into physical lines: the same whatever the chunks, and never more in memory than one line."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.lines import LineSplitter, parse_line, parse_lines
from tests.builders import a_line, jsonl

# Few different bytes, so that newlines, carriage returns and runs of both are common.
DATA = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bcd", b"\xff", b" "]), max_size=40).map(b"".join)
MAX_BYTES = st.integers(min_value=0, max_value=12)


def split(chunks: list[bytes], max_bytes: int) -> list[bytes | None]:
    splitter = LineSplitter(max_bytes)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut bytes at some places; the same place twice gives an empty chunk."""
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(DATA, st.lists(st.integers(min_value=0, max_value=200), max_size=10), MAX_BYTES)
def test_lines_are_what_lies_between_newlines_however_the_stream_is_cut(
    data: bytes, at: list[int], max_bytes: int
) -> None:
    *ended, last = data.split(b"\n")
    whole = [*ended, last] if last else ended
    assert split(cut(data, at), max_bytes) == [line if len(line) <= max_bytes else None for line in whole]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1_000])
def test_a_line_without_an_end_is_not_held(chunk_bytes: int) -> None:
    splitter = LineSplitter(100)
    for _ in range(1_000):
        assert list(splitter.feed(b"x" * chunk_bytes)) == []
        assert sum(map(len, splitter._pieces)) <= 100
    assert list(splitter.feed(b"\nnext")) == [None]
    assert list(splitter.finish()) == [b"next"]


def test_an_empty_stream_has_no_line() -> None:
    assert split([], 10) == []
    assert split([b"", b""], 10) == []


def test_the_stream_may_be_finished_once_and_go_on_as_a_new_one() -> None:
    splitter = LineSplitter(10)
    assert [*splitter.feed(b"a\nb"), *splitter.finish()] == [b"a", b"b"]
    assert list(splitter.finish()) == []
    assert [*splitter.feed(b"c\n"), *splitter.finish()] == [b"c"]


# --- whole lines at once ----------------------------------------------------------------------------------------------


SOUND = jsonl(a_line("a"))
ODD = {
    "a blank line": b"\n",
    "spaces": b" \n",
    "broken": b"{\n",
    "a request over two lines": SOUND[:20] + b"\n" + SOUND[20:],
    "two requests on a line": SOUND.rstrip() + SOUND,
    "an array over two lines": b"[" + SOUND.rstrip() + b",\n" + SOUND.rstrip() + b"]\n",
    "no UTF-8": SOUND.replace(b"Say", b"\xff"),
    "deep": b"[" * 5_000 + b"\n",
    "many brackets": b"[]" * 300 + b"\n",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_lines_of_which_one_is_odd_are_left_to_who_goes_line_by_line(odd: bytes) -> None:
    block = jsonl(a_line("1")) + odd + jsonl(a_line("2"))
    assert parse_lines(block, 0, len(block)) is None


@pytest.mark.parametrize("text", ["plain", "ä, 模 and 🙂"])
def test_sound_lines_are_read_at_once_as_they_are_one_by_one(text: str) -> None:
    lines = [json.dumps(a_line(f"row-{n}", content=text), ensure_ascii=False).encode() for n in range(3)]
    block = b"cut off\n" + b"\r\n".join(lines) + b"\ncut"
    assert parse_lines(block, 8, len(block) - 3) == [parse_line(line) for line in lines]
    assert parse_lines(block, 8, 8) == []
