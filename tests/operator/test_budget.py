"""The budget of writes that may wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_operator.budget import Budget


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(budget: Budget, tries: int) -> int:
    return sum(budget.take() for _ in range(tries))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_second_s_worth_may_be_taken_at_once_and_no_more(clock: Clock) -> None:
    assert taken(Budget(10, clock), 50) == 10


def test_what_was_taken_comes_back_with_time(clock: Clock) -> None:
    budget = Budget(10, clock)
    taken(budget, 10)
    clock.now += 0.35
    assert taken(budget, 50) == 3


def test_a_long_pause_saves_up_one_second_s_worth_only(clock: Clock) -> None:
    budget = Budget(10, clock)
    clock.now += 3_600
    assert taken(budget, 50) == 10


def test_a_budget_below_one_a_second_still_gives_one_now_and_then(clock: Clock) -> None:
    budget = Budget(0.1, clock)
    assert taken(budget, 5) == 1
    clock.now += 9.9
    assert not budget.take()
    clock.now += 0.2
    assert budget.take()


def steps() -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, 5), max_size=100)


@given(st.floats(0.1, 50), steps())
def test_no_more_is_given_than_a_second_s_worth_and_what_time_brought(per_s: float, pauses: list[float]) -> None:
    clock = Clock()
    budget = Budget(per_s, clock)
    count = 0
    for pause in pauses:
        clock.now += pause
        count += budget.take()
    assert count <= max(per_s, 1) + per_s * sum(pauses) + 1e-6
