"""How much each of many may have of something: so many in a period (`Quota`), so many at once (`Places`).

Pure: the time is an argument. `admission` says of what, and what is told to whoever asks for more. A count of 0 is no
limit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nightshift_crds.errors import TooMany

_ONE = 1 - 1e-6
"""Sums of fractions are not exact: whoever comes back when it was told must find one."""


@dataclass(frozen=True)
class _Level:
    """What somebody had left, and when."""

    left: float
    at: float


class Quota:
    """A bucket for each: `count` at once at most, and what was taken comes back evenly within `period_s`."""

    def __init__(self, count: int, period_s: float) -> None:
        self._count = count
        self._period_s = period_s
        self._levels: dict[str, _Level] = {}
        """Whoever took last stands last; who is not here has all of it."""

    def take(self, who: str, now: float) -> float:
        """Take one, and give 0; or take nothing, and give the seconds until there is one."""
        if not self._count:
            return 0
        self._forget(now)
        left = self._left(who, now)
        if left < _ONE:
            return (1 - left) * self._period_s / self._count
        self._set(who, left - 1, now)
        return 0

    def give_back(self, who: str, now: float) -> None:
        """Undo a `take`."""
        if self._count:
            self._set(who, min(self._left(who, now) + 1, self._count), now)

    def _left(self, who: str, now: float) -> float:
        """A clock that was set back gives nothing, and takes nothing away."""
        level = self._levels.get(who)
        if level is None:
            return self._count
        return min(level.left + max(now - level.at, 0) * self._count / self._period_s, self._count)

    def _set(self, who: str, left: float, now: float) -> None:
        self._levels.pop(who, None)
        self._levels[who] = _Level(left, now)

    def _forget(self, now: float) -> None:
        """Drop those who have all of it again, so that only those are held who took one lately."""
        while self._levels:
            first = next(iter(self._levels))
            if self._levels[first].at + self._period_s > now:
                return
            del self._levels[first]


class Places:
    """So many at once for each."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: dict[str, int] = {}

    @contextmanager
    def hold(self, who: str, limit: str, message: str) -> Iterator[None]:
        """Hold a place. Raises `TooMany` if all are taken."""
        held = self._held.get(who, 0)
        if self._count and held >= self._count:
            raise TooMany(message, limit=limit)
        self._held[who] = held + 1
        try:
            yield
        finally:
            self._leave(who)

    def _leave(self, who: str) -> None:
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
