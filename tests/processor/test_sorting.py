"""Sorting on scratch disk."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_processor.sorting import Sorter


def sorted_by_it(keys: list[bytes], scratch: Path) -> list[int]:
    sorter = Sorter(scratch)
    for key in keys:
        sorter.add(key)
    return list(sorter.sort())


@given(st.lists(st.binary(max_size=3)), st.sampled_from([1, 20_000]))
def test_numbers_come_in_the_order_of_keys_and_equal_keys_in_that_of_numbers(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], times: int
) -> None:
    keys = [part * times for part in parts]
    wanted = sorted(range(len(keys)), key=lambda n: (keys[n], n))
    assert sorted_by_it(keys, tmp_path_factory.getbasetemp()) == wanted


def test_more_keys_than_are_held_go_to_scratch_disk_and_leave_nothing_there(tmp_path: Path) -> None:
    keys = [b"%04d" % (n * 7919 % 1_000) + b"x" * 60_000 for n in range(200)]
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - links that go meanwhile
    sorter = Sorter(tmp_path)
    for key in keys:
        sorter.add(key)
    assert len(os.listdir("/proc/self/fd")) - open_before == 5  # noqa: PTH208 - as above
    assert list(sorter.sort()) == sorted(range(200), key=lambda n: (keys[n], n))
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208 - as above
