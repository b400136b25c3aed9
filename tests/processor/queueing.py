"""A model server with a queue, a batch and people at it, on a clock that costs no time.

`Flow` and `retry` are the real ones. The server works on as many requests as it has slots, each the slower the more
there are (continuous batching), and keeps the others waiting, or refuses them.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import inf, log
from statistics import quantiles

from nightshift_processor.client import Answer
from nightshift_processor.flow import Flow, Load, Rules
from nightshift_processor.retry import Tries, next_delay

Action = Callable[[], None]
Done = Callable[[bool], None]
"""Is called with whether a request was served."""


class Clock:
    """Things that will happen, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Action]] = []
        self._tickets = count()

    def at(self, moment: float, action: Action) -> None:
        heapq.heappush(self._due, (moment, next(self._tickets), action))

    def after(self, delay_s: float, action: Action) -> None:
        self.at(self.now + delay_s, action)

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = until


@dataclass
class Server:
    """Works on requests; `crowding` is how many of them make each take twice as long."""

    clock: Clock
    slots: int
    crowding: float = inf
    queue_limit: float = inf
    _work_done: float = 0.0
    _seen_at: float = 0.0
    _running: list[tuple[float, int, Done]] = field(default_factory=list)
    _queue: deque[tuple[float, Done]] = field(default_factory=deque)
    _tickets: "count[int]" = field(default_factory=count)
    _plan: int = 0

    @property
    def load(self) -> Load:
        return Load(len(self._running), len(self._queue))

    def submit(self, work_s: float, done: Done) -> None:
        if len(self._running) >= self.slots and len(self._queue) >= self.queue_limit:
            self.clock.after(0.01, lambda: done(False))
            return
        self._queue.append((work_s, done))
        self._advance()

    def _advance(self) -> None:
        """Account for the work since the last look, finish what is finished, and start what can be started."""
        passed_s = self.clock.now - self._seen_at
        self._work_done += passed_s / self._slowness
        self._seen_at = self.clock.now
        finished = []
        while self._running and self._running[0][0] <= self._work_done + 1e-9:
            finished.append(heapq.heappop(self._running)[2])
        while self._queue and len(self._running) < self.slots:
            work_s, done = self._queue.popleft()
            heapq.heappush(self._running, (self._work_done + work_s, next(self._tickets), done))
        self._plan += 1
        if self._running:
            plan, wait_s = self._plan, (self._running[0][0] - self._work_done) * self._slowness
            self.clock.after(wait_s, lambda: self._advance() if plan == self._plan else None)
        for done in finished:
            done(True)

    @property
    def _slowness(self) -> float:
        return 1 + len(self._running) / self.crowding


def lengths(luck: random.Random, mean_s: float = 4.0) -> Callable[[], float]:
    """Give work as requests to a model have it: many short, some long."""
    spread = 0.5
    middle = log(mean_s) - spread**2 / 2
    return lambda: luck.lognormvariate(middle, spread)


@dataclass
class Batch:
    """Lines without end, sent by as many workers as a run has."""

    clock: Clock
    server: Server
    rules: Rules
    luck: random.Random
    work_s: Callable[[], float]
    polls_s: float | None = None
    flow: Flow = field(init=False)
    done_at: list[float] = field(default_factory=list)
    _idle: int = field(init=False)

    def __post_init__(self) -> None:
        self.flow = Flow(self.rules)
        self._idle = self.rules.most

    def start(self) -> None:
        if self.polls_s is not None:
            self._poll()
        self._send()

    def _poll(self) -> None:
        assert self.polls_s is not None
        self.flow.see(self.server.load, self.clock.now)
        self._send()
        self.clock.after(self.polls_s, self._poll)

    def _send(self) -> None:
        while self._idle and self.flow.enter(self.clock.now):
            self._idle -= 1
            self._submit(Tries())

    def _submit(self, tries: Tries) -> None:
        sent_at, work_s = self.clock.now, self.work_s()

        def end(is_served: bool) -> None:
            if is_served:
                self.flow.answer(sent_at, self.clock.now, 600 + int(200 * work_s))
                self.done_at.append(self.clock.now)
                self._leave(0.0)
                return
            refusal = Answer(429, b"")
            self.flow.refuse(sent_at, self.clock.now, None, is_news=tries.sent == 0)
            self._leave(next_delay(refusal, tries.after(refusal), 5, self.luck.random()) or 0.0)

        self.server.submit(work_s, end)

    def _leave(self, rest_s: float) -> None:
        self.flow.leave()
        self.clock.after(rest_s, self._return)

    def _return(self) -> None:
        self._idle += 1
        self._send()


@dataclass
class People:
    """Those who wait for an answer: they come when they like, and again a second after they were refused."""

    clock: Clock
    server: Server
    luck: random.Random
    per_s: float
    work_s: Callable[[], float]
    waits: list[tuple[float, float]] = field(default_factory=list)
    """When each came, and how long it took until the answer was there."""

    def start(self) -> None:
        self.clock.after(self.luck.expovariate(self.per_s), self._come)

    def _come(self) -> None:
        self._ask(self.clock.now, self.work_s())
        self.start()

    def _ask(self, came: float, work_s: float) -> None:
        def end(is_served: bool) -> None:
            if is_served:
                self.waits.append((came, self.clock.now - came))
            else:
                self.clock.after(1.0, lambda: self._ask(came, work_s))

        self.server.submit(work_s, end)


@dataclass(frozen=True)
class Scene:
    """A server, how many people come to it, and the batches that go on beside them."""

    slots: int = 32
    crowding: float = inf
    queue_limit: float = inf
    people_per_s: float = 2.4
    batches: tuple[Rules, ...] = ()
    polls_s: float | None = None


@dataclass(frozen=True)
class Figures:
    """What came of a scene: how long people waited, 19 times of 20, and the lines that each batch did per second."""

    p95_s: float
    lines_per_s: tuple[float, ...]


WARM_UP_S = 300.0
LASTS_S = 1_500.0


def play(scene: Scene) -> Figures:
    """Play a scene; the same one always comes to the same figures."""
    clock = Clock()
    server = Server(clock, scene.slots, scene.crowding, scene.queue_limit)
    people_s_luck = random.Random(1)
    people = People(clock, server, people_s_luck, scene.people_per_s, lengths(people_s_luck))
    people.start()
    batches = []
    for number, rules in enumerate(scene.batches):
        luck = random.Random(2 + number)
        batches.append(Batch(clock, server, rules, luck, lengths(luck), scene.polls_s))
        clock.at(number * WARM_UP_S / 3, batches[-1].start)
    clock.run(LASTS_S)
    waits = [wait_s for came, wait_s in people.waits if came > WARM_UP_S]
    done = tuple(sum(at > WARM_UP_S for at in batch.done_at) / (LASTS_S - WARM_UP_S) for batch in batches)
    return Figures(quantiles(waits, n=20, method="inclusive")[-1], done)
