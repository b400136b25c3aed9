"""Sort more keys than shall be held in memory: sorted runs on scratch disk, merged in the end."""

import struct
from array import array
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

_HELD_BYTES = 1 << 21
_OF_A_TUPLE = 150
"""Bytes that a short key takes in memory besides its own."""
_HEAD = struct.Struct("<HQ")


class Sorter:
    """Numbers the keys that are added to it from 0, and tells their order; equal ones stay in theirs."""

    def __init__(self, scratch_dir: Path) -> None:
        self._scratch_dir = scratch_dir
        self._held: list[tuple[bytes, int]] = []
        self._held_bytes = 0
        self._count = 0
        self._runs: list[BinaryIO] = []

    def add(self, key: bytes) -> None:
        """Take the next key, of 64 KiB at most."""
        self._held.append((key, self._count))
        self._held_bytes += len(key) + _OF_A_TUPLE
        self._count += 1
        if self._held_bytes >= _HELD_BYTES:
            self._write_run()

    def sort(self) -> "array[int]":
        """Give the numbers in the order of their keys; nothing is left on scratch disk."""
        self._held.sort()
        order = array("I", (number for _, number in merge(self._held, *map(_read_run, self._runs))))
        self.close()
        return order

    def close(self) -> None:
        """Let go of what was added."""
        for run in self._runs:
            run.close()
        self._runs, self._held = [], []

    def _write_run(self) -> None:
        self._held.sort()
        run = TemporaryFile(dir=self._scratch_dir)  # noqa: SIM115 - read once all keys have come
        self._runs.append(run)
        for key, number in self._held:
            run.write(_HEAD.pack(len(key), number))
            run.write(key)
        self._held, self._held_bytes = [], 0


def _read_run(run: BinaryIO) -> Iterator[tuple[bytes, int]]:
    run.seek(0)
    while head := run.read(_HEAD.size):
        length, number = _HEAD.unpack(head)
        yield run.read(length), number
