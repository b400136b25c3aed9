"""A bucket in a folder of this machine.

An object is a file. It is written under another name, made durable, and then linked to its own (create-only: the
first link wins) or renamed over the old one, so that a reader sees all of it or nothing. Blocking calls run in a
bounded pool of threads, in blocks large enough that the hop does not matter.

A draft is locked from before its first byte until it is published. Whoever opens the bucket removes drafts that have
bytes and no lock: their writer was killed.
"""

import asyncio
import fcntl
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from google_crc32c import extend

from nightshift_crds.bucket.blocks import BLOCK_BYTES, join_blocks
from nightshift_crds.bucket.port import ObjectInfo, check_key
from nightshift_crds.errors import AlreadyExists, Missing, Unavailable

_T = TypeVar("_T")
_THREADS = 8
_LISTED_AT_ONCE = 1000
_UNFINISHED = ".unfinished"
_UNFINISHED_LIFE_S = 86_400.0
"""After this a draft without a byte is removed too: a younger one may be about to be locked."""


class DirectoryBucket:
    """The `Bucket` port over a folder; see `open_directory`."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._unfinished = self._root / _UNFINISHED
        with _failing_as_unavailable():
            self._unfinished.mkdir(parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="bucket")
        _remove_dead(self._unfinished, time.time() - _UNFINISHED_LIFE_S)

    def close(self) -> None:
        """Finish what runs."""
        self._threads.shutdown()

    @property
    def url(self) -> str:
        """See the port."""
        return f"file://{self._root}"

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        """See the port."""
        draft = self._unfinished / uuid.uuid4().hex
        try:
            with await self._run_open(lambda: _open_draft(draft)) as file:
                await self._write(file, data)
                return await self._run(lambda: _publish(draft, self._path(key), key, create_only=create_only))
        finally:
            with suppress(OSError):  # published, or in a folder that does not answer
                draft.unlink()

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the port."""
        file = await self._run_open(lambda: _open(self._path(key), key, start))
        left = None if end is None else max(end - start, 0)
        try:
            while left is None or left > 0:
                size = BLOCK_BYTES if left is None else min(left, BLOCK_BYTES)
                block = await self._run(lambda: file.read(size))  # noqa: B023 - awaited here
                if block:
                    yield block
                if len(block) < size:  # the file ends here
                    return
                left = None if left is None else left - size
        finally:
            file.close()

    async def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        return await self._run(lambda: _head(self._path(key), key))

    async def checksum(self, key: str) -> int:
        """See the port. The bytes are read for it."""
        return await self._run(lambda: _checksum(self._path(key), key))

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """See the port."""
        infos = (_head(self._path(key), key) for key in _keys(self._root, "", prefix, after))
        while found := await self._run(lambda: list(islice(infos, _LISTED_AT_ONCE))):
            for info in found:
                if info is not None:  # deleted meanwhile
                    yield info

    async def delete(self, key: str) -> None:
        """See the port. Folders that this leaves empty go too."""
        await self._run(lambda: _delete(self._path(key), self._root))

    def _path(self, key: str) -> Path:
        parts = check_key(key).split("/")
        if parts[0] == _UNFINISHED:
            raise ValueError(f"not a key: {key!r}")
        return self._root.joinpath(*parts)

    async def _write(self, file: BinaryIO, data: bytes | AsyncIterator[bytes]) -> None:
        async for block in _blocks(data):
            await self._run(lambda: _write_all(file, block))  # noqa: B023 - awaited here
        await self._run(lambda: os.fsync(file.fileno()))

    async def _run_open(self, call: Callable[[], BinaryIO]) -> BinaryIO:
        """Open a file in a thread; one that nobody waits for any more is closed again."""
        opening = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            with _failing_as_unavailable():
                return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    async def _run(self, call: Callable[[], _T]) -> _T:
        with _failing_as_unavailable():
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _close_opened(opening: "asyncio.Future[BinaryIO]") -> None:
    if opening.exception() is None:
        opening.result().close()


@contextmanager
def _failing_as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # disk full, read-only, gone: all may pass
        raise Unavailable(f"the bucket folder does not answer: {error.strerror}") from error


async def _blocks(data: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    async for block in join_blocks(data):
        yield block


def _open_draft(draft: Path) -> BinaryIO:
    file = draft.open("xb", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)  # at most somebody is just looking whether it is locked
    return file


def _write_all(file: BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _publish(draft: Path, path: Path, key: str, *, create_only: bool) -> ObjectInfo:
    while True:
        _make_folder(path.parent)
        try:
            if create_only:
                os.link(draft, path)
            else:
                draft.replace(path)
        except FileExistsError:
            raise AlreadyExists(key) from None
        except FileNotFoundError:
            if not draft.exists():
                raise
            continue  # pragma: no cover - only by chance: a delete took the folder that had just become empty
        break
    _sync_folder(path.parent)
    info = _head(path, key)
    return info or ObjectInfo(key, 0, datetime.now(UTC))  # deleted already: it was written all the same


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, key: str, start: int) -> BinaryIO:
    try:
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise Missing(key) from None
    if start:
        file.seek(start)
    return file


def _head(path: Path, key: str) -> ObjectInfo | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not path.is_file():
        return None
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _checksum(path: Path, key: str) -> int:
    checksum = 0
    with _open(path, key, 0) as file:
        while block := file.read(BLOCK_BYTES):
            checksum = extend(checksum, block)
    return checksum


def _keys(folder: Path, base: str, prefix: str, after: str) -> Iterator[str]:
    """Walk a folder in the order of keys: a folder sorts as its name with a slash behind."""
    try:
        entries = sorted(e.name + "/" * e.is_dir(follow_symlinks=False) for e in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in entries:
        key = base + name
        if name == _UNFINISHED + "/" and not base:
            continue
        if name.endswith("/"):
            is_wanted = key.startswith(prefix) or prefix.startswith(key)
            if is_wanted and (key > after or after.startswith(key)):
                yield from _keys(folder / name[:-1], key, prefix, after)
        elif key.startswith(prefix) and key > after:
            yield key


def _delete(path: Path, root: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):  # no object
        path.unlink()
    folder = path.parent
    with suppress(OSError):  # not empty, or already gone
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _remove_dead(folder: Path, before: float) -> None:
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError), Path(entry.path).open("rb") as draft:
            if _is_dead(draft, before):
                Path(entry.path).unlink()


def _is_dead(draft: BinaryIO, before: float) -> bool:
    try:
        fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    found = os.fstat(draft.fileno())
    return found.st_size > 0 or found.st_mtime < before


@asynccontextmanager
async def open_directory(root: Path) -> AsyncIterator[DirectoryBucket]:
    """Open a folder as a bucket, made if it is not there, for as long as the context lasts."""
    bucket = DirectoryBucket(root)
    try:
        yield bucket
    finally:
        bucket.close()
