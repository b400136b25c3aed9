"""The work queue: names of what should be looked at, each by one worker at a time.

The same contract as Kubernetes' own client-go queue: a name is queued once; one that is added while it is worked on
runs again afterwards; a name that is due later keeps its earliest time; failures back off per name.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_BASE_S = 0.2
_CAP_S = 60.0


class WorkQueue(Generic[K]):
    """A queue of names; `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float], luck: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._luck = luck
        self._ready: dict[K, float] = {}
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._ticket = 0
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K) -> None:
        """Have a name looked at as soon as a worker is free."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        else:
            self._ready.setdefault(key, self._clock())
        self._changed.set()

    def add_after(self, key: K, delay_s: float) -> None:
        """Have a name looked at after a while, unless it is before."""
        if delay_s <= 0:
            self.add(key)
            return
        due = self._clock() + delay_s
        if due < self._due.get(key, float("inf")) and key not in self._ready:
            self._due[key] = due
            self._ticket += 1
            heapq.heappush(self._heap, (due, self._ticket, key))
            self._changed.set()

    def fail(self, key: K, at_least_s: float = 0.0) -> None:
        """Have a name looked at again after a delay that doubles with each failure."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        backoff_s = min(_CAP_S, _BASE_S * 2.0 ** min(failures - 1, 20))
        self.add_after(key, max(backoff_s * (0.5 + 0.5 * self._luck()), at_least_s))

    def succeed(self, key: K, again_after_s: float | None = None) -> None:
        """Forget a name's failures; have it looked at again after a while, if one is given."""
        self._failures.pop(key, None)
        if again_after_s is not None:
            self.add_after(key, again_after_s)

    async def take(self) -> K:
        """Wait for a name and take it; `done` must follow."""
        while True:
            self._changed.clear()
            wait_s = self._promote()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._working.add(key)
                return key
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Let a name be taken again."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def depth(self) -> int:
        """Count the names that are due and that no worker has taken."""
        now = self._clock()
        return len(self._ready) + sum(due <= now for due in list(self._due.values()))

    def oldest_s(self) -> float:
        """Tell for how long the name has been due that no worker has taken for longest; 0.0 if there is none."""
        now = self._clock()
        since = [*self._ready.values(), *self._due.values()]
        return max(now - min(since, default=now), 0.0)

    def _promote(self) -> float | None:
        """Make what is due ready, and tell how long nothing else will be."""
        now = self._clock()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:  # superseded by an earlier time
                heapq.heappop(self._heap)
            elif due <= now:
                heapq.heappop(self._heap)
                self.add(key)
            else:
                return due - now
        return None
