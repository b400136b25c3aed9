"""Cutting a stream into physical lines: the same whatever the chunks, and never more in memory than one line."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.lines import LineSplitter

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
