"""Where bytes live: the one interface behind which a cloud bucket or a directory stands.

The comments here are the contract, and `tests/crds/bucket/test_conformance.py` is its proof over every adapter. Keys
are paths with `/` and without a leading one. A write is atomic: until it has returned nothing of it can be seen, and
one that fails leaves nothing behind. `Unavailable` may come from every call.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from nightshift_crds.errors import AlreadyExists, Missing, Unavailable


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object without reading it.

    Attributes:
        size: in bytes.
        written: when it was written, by the storage's own clock.
    """

    key: str
    size: int
    written: datetime


class Bucket(Protocol):
    """The calls that roles make."""

    @property
    def url(self) -> str:
        """The bucket's own URL, without a trailing slash: an object is at `url/key`."""
        ...

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        """Write an object, from a stream with bounded memory. With `create_only` the first writer wins for ever.

        It is durable when this returns. If `data` raises, nothing is written and the error goes on to the caller.
        Raises `AlreadyExists`.
        """
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Stream the bytes from `start` up to, not including, `end`; past the end there are none. Raises `Missing`."""
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None if it is not there."""
        ...

    async def checksum(self, key: str) -> int:
        """Give the CRC-32C of an object's bytes. Raises `Missing`."""
        ...

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """List objects whose keys start with `prefix` and sort behind `after`, in ascending order of key."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        ...


def check_key(key: str) -> str:
    """Give a key back if it is one: a path that can be read in one way only. Pure. Raises ValueError."""
    parts = key.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        raise ValueError(f"not a key: {key!r}")
    return key


async def get(bucket: Bucket, key: str) -> bytes:
    """Read a small object whole. Raises `Missing`."""
    async with aclosing(bucket.read(key)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def put_first(bucket: Bucket, key: str, data: bytes) -> bytes:
    """Write a small object unless somebody has, and give what stands there: of many writers all see the first."""
    try:
        await bucket.put(key, data, create_only=True)
    except AlreadyExists:
        try:
            return await get(bucket, key)
        except Missing:
            raise Unavailable(f"{key} was removed while it was read", delay_s=1) from None
    return data
