"""A bucket of Google Cloud Storage, or of an emulator that `STORAGE_EMULATOR_HOST` names.

The client library is synchronous: its calls run in a bounded pool of threads, in blocks large enough that the hop does
not matter. Small objects go up in one request, streams as resumable uploads, which exist only once their last chunk is
in; one that was given up the storage forgets within a week. Create-only is `ifGenerationMatch=0`: of two writers the
storage refuses one. A bucket that is not there is `Unavailable`: nobody shall take all of its objects for gone.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

import requests
from google.api_core.exceptions import (
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    RetryError,
)
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.fileio import BlobWriter
from google_crc32c import extend
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from nightshift_crds.bucket.blocks import join_blocks
from nightshift_crds.bucket.port import ObjectInfo, check_key
from nightshift_crds.errors import AlreadyExists, Missing, Unavailable

_T = TypeVar("_T")
_MIB = 1 << 20
_READ_BYTES = 4 * _MIB
_CHUNK_BYTES = 8 * _MIB
_THREADS = 16
_LISTED_AT_ONCE = 1000
_TIMEOUT_S = (5.0, 20.0)
"""To connect, and without a byte; short enough that a try which hangs is followed by another."""
_GIVE_UP_S = 60.0
_FIELDS = "items(name,size,timeCreated),nextPageToken"
_PRECONDITION_FAILED = 412
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_NO_BUCKET = "bucket does not exist"
_BROKEN = (requests.RequestException, HTTPError, ConnectionError)
"""Of three layers: what breaks while a body is read comes from below `requests`."""


class GcsBucket:
    """The `Bucket` port over a cloud bucket; see `open_gcs`."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self._bucket = bucket
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="bucket")

    def close(self) -> None:
        """Finish what runs."""
        self._threads.shutdown()

    @property
    def url(self) -> str:
        """See the port."""
        return f"gs://{self._bucket.name}"

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        """See the port."""
        write = _Write(self._blob(key), create_only=create_only)
        if isinstance(data, bytes):
            return await self._run(lambda: write.send(data), of_object=False)
        return await self._stream(write, data)

    async def _stream(self, write: "_Write", data: AsyncIterator[bytes]) -> ObjectInfo:
        stream = write.open()
        async for block in join_blocks(data):
            write.note(block)
            await self._run(lambda: stream.write(block), of_object=False)  # noqa: B023 - awaited here
        return await self._run(lambda: write.finish(stream), of_object=False)

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """See the port. Each block is a request for a range of the generation that the first one found."""
        blob = self._blob(key)
        while end is None or start < end:
            last = start + _READ_BYTES if end is None else min(start + _READ_BYTES, end)
            block = await self._run(lambda: _read_block(blob, start, last))  # noqa: B023 - awaited here
            if block:
                yield block
            if len(block) < last - start:
                return
            start = last

    async def head(self, key: str) -> ObjectInfo | None:
        """See the port."""
        try:
            return _info(await self._look(key))
        except Missing:
            return None

    async def checksum(self, key: str) -> int:
        """See the port. The storage keeps it with the object."""
        return _crc32c(await self._look(key))

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket.blob(check_key(key))

    async def _look(self, key: str) -> storage.Blob:
        blob = self._blob(key)
        await self._run(lambda: blob.reload(timeout=_TIMEOUT_S, retry=_retry()))
        return blob

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """See the port."""
        found = iter(
            self._bucket.list_blobs(
                prefix=prefix,
                start_offset=after or None,
                fields=_FIELDS,
                page_size=_LISTED_AT_ONCE,
                timeout=_TIMEOUT_S,
                retry=_retry(),
            )
        )
        while blobs := await self._run(lambda: list(islice(found, _LISTED_AT_ONCE)), of_object=False):
            for blob in blobs:
                if blob.name > after:
                    yield _info(blob)

    async def delete(self, key: str) -> None:
        """See the port."""
        blob = self._blob(key)
        try:
            await self._run(lambda: blob.delete(timeout=_TIMEOUT_S, retry=_retry()))
        except Missing:
            return

    async def _run(self, call: Callable[[], _T], *, of_object: bool = True) -> _T:
        """Run a call in a thread; `of_object` if "not found" means an object that was to be there."""
        with _failing_as_our_own(of_object=of_object):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class _Stream(BlobWriter):  # type: ignore[misc]  # untyped
    """A stream on its way up, which becomes an object by `finish` alone.

    The library's own writer makes one of what has come so far when it is closed, and garbage is closed too.
    """

    def finish(self) -> None:
        """Send the last chunk."""
        super().close()

    def close(self) -> None:
        """Let go of a stream that was given up."""


class _Write:
    """One object on its way up, with what is needed to know it again when the answer is lost."""

    def __init__(self, blob: storage.Blob, *, create_only: bool) -> None:
        self._blob = blob
        self._match = 0 if create_only else None
        self._size = 0
        self._crc32c = 0
        self._was_repeated = False

    def note(self, chunk: bytes) -> None:
        """Count what goes up."""
        self._size += len(chunk)
        self._crc32c = extend(self._crc32c, chunk)

    def send(self, data: bytes) -> ObjectInfo:
        """Write a small object in one request."""
        self.note(data)
        with self._knowing_itself():
            self._blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=self._match,
                checksum="crc32c",
                timeout=_TIMEOUT_S,
                retry=_retry(self._on_retry),
            )
        return self._found()

    def open(self) -> _Stream:
        """Begin a stream; nothing of it can be seen until it is finished."""
        return _Stream(
            self._blob,
            chunk_size=_CHUNK_BYTES,
            if_generation_match=self._match,
            checksum="crc32c",
            content_type="application/octet-stream",
            timeout=_TIMEOUT_S,
            retry=_retry(self._on_retry),
        )

    def finish(self, stream: _Stream) -> ObjectInfo:
        """Send the last chunk, and with it make the object."""
        with self._knowing_itself():
            stream.finish()
        with suppress(NotFound):  # deleted already: it was written all the same
            self._blob.reload(timeout=_TIMEOUT_S, retry=_retry())
        return self._found()

    def _on_retry(self, _: Exception) -> None:
        self._was_repeated = True

    @contextmanager
    def _knowing_itself(self) -> Iterator[None]:
        """Take "already there" for success if it is what an earlier try of this very write has made."""
        try:
            yield
        except (PreconditionFailed, InvalidResponse) as error:
            is_refused = _status_of(error) == _PRECONDITION_FAILED
            if not (is_refused and self._was_repeated and self._is_there()):
                raise

    def _is_there(self) -> bool:
        self._blob.reload(timeout=_TIMEOUT_S, retry=_retry())
        return (self._blob.size, _crc32c(self._blob)) == (self._size, self._crc32c)

    def _found(self) -> ObjectInfo:
        created = self._blob.time_created or datetime.now(UTC)
        return ObjectInfo(self._blob.name, self._size, created)


def _read_block(blob: storage.Blob, start: int, end: int) -> bytes:
    try:
        block: bytes = blob.download_as_bytes(
            start=start, end=end - 1, raw_download=True, checksum=None, timeout=_TIMEOUT_S, retry=_retry()
        )
    except RequestRangeNotSatisfiable:  # the object ends before
        return b""
    return block


def _info(blob: storage.Blob) -> ObjectInfo:
    return ObjectInfo(blob.name, int(blob.size), blob.time_created)


def _crc32c(blob: storage.Blob) -> int:
    return int.from_bytes(base64.b64decode(blob.crc32c), "big")


# --- failures ---------------------------------------------------------------------------------------------------------


def _retry(on_error: Callable[[Exception], None] | None = None) -> Retry:
    return Retry(predicate=_may_pass, initial=0.2, maximum=5.0, multiplier=2.0, timeout=_GIVE_UP_S, on_error=on_error)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, _BROKEN) or _status_of(error) in _AGAIN


def _status_of(error: Exception) -> int | None:
    if isinstance(error, GoogleAPICallError):
        return int(error.code) if error.code else None
    return int(error.response.status_code) if isinstance(error, InvalidResponse) else None


@contextmanager
def _failing_as_our_own(*, of_object: bool) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        is_object = of_object and _NO_BUCKET not in error.message
        raise (Missing if is_object else Unavailable)(error.message) from error
    except (GoogleAPICallError, InvalidResponse) as error:
        if _status_of(error) == _PRECONDITION_FAILED:
            raise AlreadyExists("the object is there already") from error
        raise Unavailable(f"the bucket answers {_status_of(error)}") from error
    except RetryError as error:
        raise Unavailable(f"the bucket does not answer: {_status_of(error.cause) or error.cause!r}") from error
    except (GoogleAuthError, DataCorruption, *_BROKEN) as error:
        raise Unavailable(f"the bucket does not answer: {type(error).__name__}") from error


def _read_refusal(response: requests.Response, **_kwargs: object) -> None:
    """Free the connection of an answer that the library drops unread."""
    if not response.ok:
        _ = response.content


@asynccontextmanager
async def open_gcs(name: str) -> AsyncIterator[GcsBucket]:
    """Open a bucket with the credentials that this process runs under, for as long as the context lasts."""
    client = storage.Client()
    session = client._http  # noqa: SLF001 - the client takes one of ours only with credentials that we would have to find
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_THREADS))  # else threads wait for 10 connections
    session.hooks["response"].append(_read_refusal)
    bucket = GcsBucket(client.bucket(name))
    try:
        yield bucket
    finally:
        bucket.close()
        client.close()
