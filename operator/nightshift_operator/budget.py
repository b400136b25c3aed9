"""A global budget of writes that may wait: copying progress must never crowd out a change of phase."""

from collections.abc import Callable


class Budget:
    """A token bucket: `per_s` writes a second, one second's worth at once."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._held = max(per_s, 1.0)
        self._since = clock()

    def take(self) -> bool:
        """Take one write out of the budget, if there is one."""
        now = self._clock()
        self._held = min(max(self._per_s, 1.0), self._held + (now - self._since) * self._per_s)
        self._since = now
        if self._held < 1:
            return False
        self._held -= 1
        return True
