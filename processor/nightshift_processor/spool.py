"""The input on scratch disk: fetched once, checked against what was validated, read line by line by number.

Numbers are those of the file, in every order: logs, ids and ledgers have them. Every pod of a batch fetches all of the
input, whichever slices it will work on, and computes the same order of it.
"""

import os
from array import array
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from google_crc32c import extend

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.errors import NightshiftError
from nightshift_crds.lines import LineOrder, LineSplitter, request_of
from nightshift_processor.prefix import prefix_key
from nightshift_processor.sorting import Sorter

_AHEAD_BYTES = 64 << 10
_ANY_LENGTH = 1 << 62
"""Lines were measured when they were validated."""


class InputChanged(NightshiftError):
    """The bytes in the bucket are not those that were validated."""


class Spool:
    """Request lines by number, in the order of the file; blank lines have none.

    `order` names their numbers in the order in which they are sent, once the file is whole.
    """

    def __init__(self, file: BinaryIO, sorter: Sorter | None = None) -> None:
        self._file = file
        self._sorter = sorter
        self.order: Sequence[int] = ()
        self._size = 0
        self._starts = array("Q")
        self._lengths = array("I")
        self._block, self._block_start = b"", 0

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, item: int) -> bytes:
        """Read a line; the file must be whole.

        In the order of the file what stands behind it is read with it. In another one that would be for nothing.
        """
        start = self._starts[item]
        end = start + self._lengths[item]
        if self._sorter:
            return os.pread(self._file.fileno(), end - start, start)
        if not self._block_start <= start <= end <= self._block_start + len(self._block):
            self._block = os.pread(self._file.fileno(), max(end - start, _AHEAD_BYTES), start)
            self._block_start = start
        return self._block[start - self._block_start : end - self._block_start]

    def finish(self) -> None:
        """Make what was written readable, and put it in order."""
        self._file.flush()
        self.order = self._sorter.sort() if self._sorter else range(len(self))

    def close(self) -> None:
        """Let go of the scratch files, which vanish."""
        self._file.close()
        if self._sorter:
            self._sorter.close()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        self._file.write(chunk)

    def add(self, line: bytes) -> None:
        """Note where the next physical line stands, and what is asked in it."""
        start = self._size
        self._size += len(line) + 1
        request = request_of(line, is_first=start == 0)
        if not request:
            return
        self._starts.append(start + len(line) - len(request))
        self._lengths.append(len(request))
        if self._sorter:
            self._sorter.add(prefix_key(request))


def open_spool(scratch_dir: Path, order: LineOrder = LineOrder.FILE) -> Spool:
    """Open an empty spool on scratch disk."""
    scratch_dir.mkdir(parents=True, exist_ok=True)
    return Spool(TemporaryFile(dir=scratch_dir), Sorter(scratch_dir) if order is LineOrder.PREFIX else None)


async def fill_spool(
    bucket: Bucket, key: str, crc32c: int, scratch_dir: Path, order: LineOrder = LineOrder.FILE
) -> Spool:
    """Fetch an input.

    Raises:
        Missing: it is not in the bucket.
        InputChanged: its checksum is another one.
    """
    spool = open_spool(scratch_dir, order)
    try:
        await _fetch(bucket, key, crc32c, spool)
    except BaseException:
        spool.close()
        raise
    return spool


async def _fetch(bucket: Bucket, key: str, crc32c: int, spool: Spool) -> None:
    splitter = LineSplitter(_ANY_LENGTH)
    found = 0
    async with aclosing(bucket.read(key)) as chunks:
        async for chunk in chunks:
            found = extend(found, chunk)
            spool.write(chunk)
            for line in splitter.feed(chunk):
                assert line is not None
                spool.add(line)
    for line in splitter.finish():
        assert line is not None
        spool.add(line)
    spool.finish()
    if found != crc32c:
        raise InputChanged(f"{key} is not what was validated")
