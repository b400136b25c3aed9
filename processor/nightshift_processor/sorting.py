"""Sort more keys than shall be held in memory: sorted runs on scratch disk, merged in the end."""

from array import array
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import msgspec

_HELD_BYTES = 1 << 21
_OF_A_TUPLE = 150
"""Bytes that a short key takes in memory besides its own."""
_BLOCK = 64
"""Keys that are read of a run at once: one by one they cost several times as much."""
_SIZE_BYTES = 4
_Block = list[tuple[bytes, int]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Block).decode


class Sorter:
    """Numbers the keys that are added to it from 0, and tells their order; equal ones stay in theirs."""

    def __init__(self, scratch_dir: Path) -> None:
        self._scratch_dir = scratch_dir
        self._held: _Block = []
        self._held_bytes = 0
        self._count = 0
        self._runs: list[BinaryIO] = []

    def add(self, key: bytes) -> None:
        """Take the next key."""
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
        for start in range(0, len(self._held), _BLOCK):
            block = _encode(self._held[start : start + _BLOCK])
            run.write(len(block).to_bytes(_SIZE_BYTES))
            run.write(block)
        self._held, self._held_bytes = [], 0


def _read_run(run: BinaryIO) -> Iterator[tuple[bytes, int]]:
    run.seek(0)
    while size := run.read(_SIZE_BYTES):
        yield from _decode(run.read(int.from_bytes(size)))
