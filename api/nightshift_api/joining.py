"""Equal reads at the same time are one read (design 5), and no asker gets one that began before it asked.

So a batch that a thousand clients poll costs two reads at a time, and what they see never goes back: whoever comes
while a read is under way shares the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Joining(Generic[_T]):
    """Reads of one sort, told apart by a key."""

    def __init__(self) -> None:
        self._next: dict[str, asyncio.Task[_T]] = {}
        self._under_way: dict[str, asyncio.Task[_T]] = {}

    async def read(self, key: str, read: Callable[[], Awaitable[_T]]) -> _T:
        """Give what the next read of a key gives, or raise what it raises."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._run(key, read))
            task.add_done_callback(_seen)
        return await asyncio.shield(task)  # whoever asks no longer takes it from nobody else

    async def _run(self, key: str, read: Callable[[], Awaitable[_T]]) -> _T:
        if before := self._under_way.get(key):
            await asyncio.wait([before])
        self._under_way[key] = self._next.pop(key)
        try:
            return await read()
        finally:
            del self._under_way[key]


def _seen(task: "asyncio.Task[_T]") -> None:
    """Take notice of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
