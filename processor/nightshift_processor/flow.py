"""How many requests may be in flight: more while the model server copes, fewer at the first sign that it does not.

Pure: times are seconds of a clock that never goes back, and arguments. Growth is additive and cuts are multiplicative,
so several processors at one server come to equal parts. `pacing` asks and tells; why it is so is decision 16.
"""

from dataclasses import dataclass, field
from math import inf

_START = 8.0
"""Requests in flight at first. So few are hardly felt, and their latency is the one to compare with."""
_HOLD_CAP_S = 60.0
"""Beyond this a Retry-After binds only the line that got it: one answer must not stop a batch for a day."""
_OTHERS_STAY_S = 30.0
"""For so long others count as there after they were last seen: between two questions of a chat nothing is seen."""
_WINDOW = 16
"""Answers that a latency is taken from, at least."""
_BRISK_S = 0.1
"""Latency that is nobody's trouble, however much better it was."""
_GENTLY = 0.75
"""What a slow window leaves of the limit, at least: latency is a weaker sign than a refusal."""
_RELEARN = 0.25
"""How far the best latency follows a worse one, where few requests are in flight and the reason is not us."""
_NEARLY_FULL = 0.9
"""Use of the KV cache beyond which nothing is added: a full one makes a server throw work away."""


@dataclass(frozen=True)
class Rules:
    """What a flow must keep to.

    Attributes:
        most: requests that may ever be in flight.
        share: the part of them that may be while others use the server too.
        tolerance: how many times its best a latency may be while others use the server too.
        is_shared: whether there may be others at all; without, only refusals count.
    """

    most: int
    share: float = 1.0
    tolerance: float = 2.0
    is_shared: bool = True


@dataclass(frozen=True)
class Load:
    """What a model server says of itself: requests that it works on and that wait, the part of its KV cache in use."""

    running: int
    waiting: int
    cache_use: float = 0.0


@dataclass(slots=True)
class _Window:
    """Answers that are timed together; `limit` is what it was at the first of them."""

    limit: float
    answers: int = 0
    took_s: float = 0.0
    size: int = 0


@dataclass(slots=True)
class Flow:
    """The limit, and what it follows from.

    Attributes:
        limit: requests that may be in flight; a part of one counts as one.
        held_until: when the next one may be sent, whatever the limit.
        answers: requests that were not refused.
    """

    rules: Rules
    limit: float = field(init=False)
    in_flight: int = field(init=False, default=0)
    held_until: float = field(init=False, default=-inf)
    answers: int = field(init=False, default=0)
    _threshold: float = field(init=False, default=inf)
    """Up to here the limit doubles per round."""
    _cut_at: float = field(init=False, default=-inf)
    _answers_at_cut: int = field(init=False, default=0)
    _best: float = field(init=False, default=inf)
    _window: _Window = field(init=False)
    _others_until: float = field(init=False, default=inf)
    _was_waiting: bool = field(init=False, default=False)
    _is_nearly_full: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.limit = min(_START, self._cap(0.0)) if self.rules.is_shared else float(self.rules.most)
        self._window = _Window(self.limit)

    def enter(self, now: float) -> bool:
        """Count one more in flight, if it may be; `leave` must follow."""
        if self.in_flight >= self.limit or now < self.held_until:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Count one less in flight."""
        self.in_flight -= 1

    def answer(self, sent_at: float, now: float, size: int) -> None:
        """Take note of an answer before it leaves; `size` is its length in bytes, 0 if it was an error."""
        self.answers += 1
        if sent_at <= self._cut_at:
            return
        if self.limit < self.rules.most and not self._is_nearly_full and self.in_flight >= int(self.limit):
            step = 1.0 if self.limit < self._threshold else 1.0 / self.limit
            self.limit = min(self.limit + step, self._cap(now))
        if size and self.rules.is_shared:
            self._time(now - sent_at, now, size)

    def refuse(self, sent_at: float, now: float, retry_after_s: float | None, *, is_news: bool = True) -> None:
        """Take note that a request was not served; it is no news if that was its own fault."""
        if retry_after_s:
            self.held_until = max(self.held_until, now + min(retry_after_s, _HOLD_CAP_S))
        if is_news and sent_at > self._cut_at:  # what was sent before the last cut has been answered by it
            self._cut(self.limit / 2, now)

    def see(self, load: Load, now: float) -> None:
        """Take note of what the server says of itself."""
        seen, ours = load.running + load.waiting, self.in_flight
        if seen > ours or seen < ours / 2:  # fewer than ours: one server of several, which says nothing of the others
            self._others_until = now + _OTHERS_STAY_S
        elif self._others_until == inf:
            self._others_until = now
        self.limit = min(self.limit, self._cap(now))
        self._is_nearly_full = load.cache_use > _NEARLY_FULL
        is_waiting = load.waiting > 0
        if is_waiting and self._was_waiting and 0 < ours <= self.limit + 1:  # the last cut has come into effect
            self._cut(max(self.limit / 2, self.limit - load.waiting * min(1.0, ours / seen)), now)
        self._was_waiting = is_waiting

    def go_blind(self) -> None:
        """Forget what the server has said of itself: it says nothing any more."""
        self._others_until = inf
        self._was_waiting = self._is_nearly_full = False

    def _cap(self, now: float) -> float:
        """The limit of the limit."""
        most = float(self.rules.most)
        return max(1.0, most * self.rules.share) if now < self._others_until else most

    def _cut(self, limit: float, now: float) -> None:
        self.limit = max(1.0, limit)
        if self.answers != self._answers_at_cut:  # else it is down, and will come back as it was
            self._threshold = self.limit
        self._cut_at, self._answers_at_cut = now, self.answers
        self._window = _Window(self.limit)

    def _time(self, took_s: float, now: float, size: int) -> None:
        """Add to the window; once it is full, compare it with the best and start another.

        Time is taken per byte of the answers, so that long ones do not pass for slow ones.
        """
        window = self._window
        window.answers += 1
        window.took_s += took_s
        window.size += size
        if window.answers < max(_WINDOW, window.limit):
            return
        self._window = _Window(self.limit)
        is_felt = now < self._others_until and window.took_s > _BRISK_S * window.answers
        cost, bearable = window.took_s / window.size, self.rules.tolerance * self._best
        is_low = window.limit <= _START and cost > self._best
        self._best = self._best + _RELEARN * (cost - self._best) if is_low else min(self._best, cost)
        if is_felt and cost > bearable:
            self._cut(self.limit * max(_GENTLY, bearable / cost), now)
