"""The work queue, with a clock that the test moves: the contract of client-go's own."""

import asyncio
import time

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule
from hypothesis.strategies import floats, sampled_from

from nightshift_operator.queue import WorkQueue


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def taken(queue: WorkQueue[str]) -> str | None:
    """Take a name if one is there; None if a worker would have to wait."""
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    if taking.done():
        return taking.result()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    return None


async def all_taken(queue: WorkQueue[str]) -> list[str]:
    names = []
    while name := await taken(queue):
        names.append(name)
    return names


async def worked_off(queue: WorkQueue[str]) -> str | None:
    name = await taken(queue)
    if name:
        queue.done(name)
    return name


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock, luck=lambda: 1.0)


async def test_names_come_in_the_order_in_which_they_were_added(queue: WorkQueue[str]) -> None:
    for name in "abc":
        queue.add(name)
    assert await all_taken(queue) == ["a", "b", "c"]


async def test_a_name_that_is_added_many_times_is_queued_once(queue: WorkQueue[str]) -> None:
    for _ in range(3):
        queue.add("a")
    assert await all_taken(queue) == ["a"]


async def test_a_name_that_is_worked_on_is_given_to_nobody_else(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    assert await taken(queue) is None


async def test_a_name_that_is_added_while_it_is_worked_on_runs_once_more_afterwards(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await taken(queue)
    queue.add("a")
    queue.add("a")
    queue.done("a")
    assert await worked_off(queue) == "a"
    assert await worked_off(queue) is None


async def test_a_name_that_is_done_and_was_not_added_again_rests(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await worked_off(queue) == "a"
    assert await taken(queue) is None


async def test_a_delayed_name_comes_when_it_is_due_and_not_before(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    clock.now = 9.9
    assert await taken(queue) is None
    clock.now = 10
    assert await taken(queue) == "a"


@pytest.mark.parametrize("delays", [(10, 30), (30, 10)])
async def test_of_two_delays_the_earlier_one_counts_and_the_later_one_is_forgotten(
    queue: WorkQueue[str], clock: Clock, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add_after("a", delay)
    clock.now = 10
    assert await worked_off(queue) == "a"
    clock.now = 100
    assert await taken(queue) is None


async def test_a_name_that_is_added_at_once_forgets_its_delay(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert await worked_off(queue) == "a"
    clock.now = 100
    assert await taken(queue) is None


async def test_a_delay_for_a_name_that_is_queued_already_is_not_kept(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a")
    queue.add_after("a", 10)
    assert await worked_off(queue) == "a"
    clock.now = 100
    assert await taken(queue) is None


@pytest.mark.parametrize("delay", [0, -1])
async def test_a_delay_that_is_over_already_is_none(queue: WorkQueue[str], delay: float) -> None:
    queue.add_after("a", delay)
    assert await taken(queue) == "a"


async def test_a_name_that_falls_due_while_it_is_worked_on_runs_again_afterwards(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.add("a")
    await taken(queue)
    queue.add_after("a", 5)
    clock.now = 6
    assert await taken(queue) is None
    queue.done("a")
    assert await taken(queue) == "a"


async def test_failures_back_off_by_name_and_double_up_to_a_minute(queue: WorkQueue[str], clock: Clock) -> None:
    for delay in [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0, 60.0]:
        queue.fail("a")
        clock.now += delay - 0.01
        assert await worked_off(queue) is None
        clock.now += 0.02
        assert await worked_off(queue) == "a"


async def test_a_thousand_failures_do_not_overflow(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(2_000):
        queue.fail("a")
    clock.now = 61
    assert await taken(queue) == "a"


async def test_a_success_forgets_the_failures(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(8):
        queue.fail("a")
    clock.now = 1_000.0
    await worked_off(queue)
    queue.succeed("a")
    queue.fail("a")
    clock.now += 0.21
    assert await taken(queue) == "a"


@pytest.mark.parametrize(("again_after_s", "comes"), [(None, None), (5.0, "a"), (0.0, "a")])
async def test_a_success_brings_a_name_again_if_it_is_told_to(
    queue: WorkQueue[str], clock: Clock, again_after_s: float | None, comes: str | None
) -> None:
    queue.succeed("a", again_after_s)
    clock.now = 5
    assert await taken(queue) == comes


async def test_the_failures_of_one_name_do_not_delay_another(queue: WorkQueue[str], clock: Clock) -> None:
    queue.fail("a")
    clock.now = 0.2
    await worked_off(queue)
    queue.fail("a")
    queue.fail("b")
    clock.now = 0.41
    assert await all_taken(queue) == ["b"]


async def test_a_failure_waits_at_least_as_long_as_it_is_told(queue: WorkQueue[str], clock: Clock) -> None:
    queue.fail("a", 30)
    clock.now = 29
    assert await taken(queue) is None
    clock.now = 30
    assert await taken(queue) == "a"


async def test_luck_spreads_failures_over_half_of_their_delay(clock: Clock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock, luck=lambda: 0.0)
    queue.fail("a")
    clock.now = 0.1
    assert await taken(queue) == "a"


async def test_a_waiting_worker_wakes_for_a_name_that_is_added(queue: WorkQueue[str]) -> None:
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add("a")
    assert await taking == "a"


async def test_a_waiting_worker_wakes_for_a_name_that_falls_due() -> None:
    queue: WorkQueue[str] = WorkQueue(time.monotonic)
    queue.add_after("late", 600)
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add_after("soon", 0.01)
    assert await taking == "soon"


async def test_waiting_workers_share_the_names_and_none_is_lost(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for name in "abc":
        queue.add(name)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_a_worker_that_is_cancelled_while_it_waits_takes_no_name_along(queue: WorkQueue[str]) -> None:
    assert await taken(queue) is None
    queue.add("a")
    assert await taken(queue) == "a"


class QueueModel(RuleBasedStateMachine):
    """The queue beside a model of it: a dict of when each name wants to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock)
        self.wanted: dict[str, float] = {}
        self.working: set[str] = set()
        self.loop = asyncio.Runner()

    def teardown(self) -> None:
        self.loop.close()

    @rule(name=sampled_from("abc"))
    def add(self, name: str) -> None:
        self.queue.add(name)
        self.wanted[name] = self.clock.now

    @rule(name=sampled_from("abc"), delay=floats(0.5, 20))
    def add_after(self, name: str, delay: float) -> None:
        self.queue.add_after(name, delay)
        self.wanted[name] = min(self.wanted.get(name, float("inf")), self.clock.now + delay)

    @rule(seconds=floats(0.5, 20))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def take(self) -> None:
        ready = {name for name, due in self.wanted.items() if due <= self.clock.now and name not in self.working}
        name = self.loop.run(taken(self.queue))
        assert name in ready if ready else name is None
        if name:
            del self.wanted[name]
            self.working.add(name)

    @rule()
    def finish(self) -> None:
        while self.working:
            self.queue.done(self.working.pop())


TestQueueModel = QueueModel.TestCase
TestQueueModel.settings = settings(deadline=None, max_examples=50)  # each example opens an event loop


# --- the age of what waits --------------------------------------------------------------------------------------------


async def test_the_oldest_name_is_the_one_that_no_worker_has_taken_for_longest(
    queue: WorkQueue[str], clock: Clock
) -> None:
    queue.add("a")
    clock.now = 5
    queue.add("b")
    queue.add("a")
    assert queue.oldest_s() == 5
    assert await taken(queue) == "a"
    clock.now = 7
    assert queue.oldest_s() == 2


async def test_a_name_that_is_worked_on_or_due_later_has_not_waited(queue: WorkQueue[str], clock: Clock) -> None:
    assert queue.oldest_s() == 0.0
    queue.add("a")
    await taken(queue)
    queue.add_after("b", 10)
    clock.now = 4
    assert queue.oldest_s() == 0.0


async def test_a_name_that_is_due_ages_though_no_worker_is_there_to_see_it(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add_after("a", 10)
    clock.now = 310
    assert queue.oldest_s() == 300


async def test_its_depth_is_what_is_due_and_not_taken(queue: WorkQueue[str], clock: Clock) -> None:
    for name in "abc":
        queue.add(name)
    await taken(queue)
    queue.add_after("later", 10)
    assert queue.depth() == 2
    clock.now = 10
    assert queue.depth() == 3
