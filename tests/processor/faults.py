"""A bucket that fails on demand: refuses a call, loses the answer of a write, or holds it up."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from enum import Enum, auto

from nightshift_crds.bucket.port import Bucket, ObjectInfo
from nightshift_crds.errors import Unavailable


class Fault(Enum):
    """What happens to a call."""

    NONE = auto()
    REFUSE = auto()
    """It is not done."""
    LOSE = auto()
    """It is done, and its caller does not learn of it."""
    HOLD = auto()
    """It is done once `release` is set; `held` tells that it waits."""


class FaultyBucket:
    """The `Bucket` port over another bucket."""

    def __init__(self, inner: Bucket) -> None:
        self.inner = inner
        self.writes: Counter[str] = Counter()
        self.held = asyncio.Event()
        self.release = asyncio.Event()
        self._on_put: dict[str, deque[Fault]] = {}
        self._on_read: dict[str, deque[Fault]] = {}

    def fail_put(self, part: str, *faults: Fault) -> None:
        """Let the next writes of keys that have `part` in them fail, one after the other."""
        self._on_put[part] = deque(faults)

    def fail_read(self, part: str, *faults: Fault) -> None:
        """Let the next reads of keys that have `part` in them fail."""
        self._on_read[part] = deque(faults)

    @property
    def url(self) -> str:
        return self.inner.url

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        self.writes[key] += 1
        fault = _next(self._on_put, key)
        if fault is Fault.REFUSE:
            raise Unavailable("refused")
        if fault is Fault.HOLD:
            self.held.set()
            await self.release.wait()
        info = await self.inner.put(key, data, create_only=create_only)
        if fault is Fault.LOSE:
            raise Unavailable("lost")
        return info

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        fault = _next(self._on_read, key)
        if fault is Fault.REFUSE:
            raise Unavailable("refused")
        if fault is Fault.HOLD:
            self.held.set()
            await self.release.wait()
        async with aclosing(self.inner.read(key, start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def head(self, key: str) -> ObjectInfo | None:
        return await self.inner.head(key)

    async def checksum(self, key: str) -> int:
        return await self.inner.checksum(key)

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[ObjectInfo, None]:
        return self.inner.list(prefix, after=after)

    async def delete(self, key: str) -> None:
        await self.inner.delete(key)


class Crash(BaseException):
    """The process is killed here."""


class MortalBucket(FaultyBucket):
    """Kills whoever makes its nth write, before it took effect or after; the dead write no more."""

    def __init__(self, inner: Bucket, at: int, *, takes_effect: bool) -> None:
        super().__init__(inner)
        self._at = at
        self._takes_effect = takes_effect
        self.is_dead = False

    async def put(self, key: str, data: bytes | AsyncIterator[bytes], *, create_only: bool) -> ObjectInfo:
        dies = self.writes.total() + 1 == self._at
        if self.is_dead or (dies and not self._takes_effect):
            self.is_dead = True
            raise Crash
        try:
            return await super().put(key, data, create_only=create_only)
        finally:
            if dies:  # whatever it would have learned
                self.is_dead = True
                raise Crash


def _next(faults: dict[str, deque[Fault]], key: str) -> Fault:
    for part, queue in faults.items():
        if part in key and queue:
            return queue.popleft()
    return Fault.NONE
