"""Quotas and places, with made-up time: nobody gets more than its share, and nobody less."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_api.quota import Places, Quota
from nightshift_crds.errors import TooMany

T = 1_790_000_000.0
A, B = "team-a", "team-b"
Steps = list[tuple[float, str]]
STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 100.0]), st.sampled_from([A, B])), max_size=80)


def drain(quota: Quota, who: str, at: float) -> int:
    """Take all that there is; gives how much that was."""
    taken = 0
    while not quota.take(who, at):
        taken += 1
    return taken


@pytest.mark.parametrize(("count", "period_s"), [(1, 1), (7, 1), (20, 1), (2_000, 3_600), (9_999, 3_600)])
def test_a_whole_share_may_be_taken_at_once_and_comes_back_whole(count: int, period_s: float) -> None:
    quota = Quota(count, period_s)
    for hour in range(3):
        assert drain(quota, A, T + hour * period_s) == count


def test_what_was_taken_comes_back_evenly() -> None:
    quota = Quota(60, 3_600)
    drain(quota, A, T)
    assert drain(quota, A, T + 59) == 0
    assert drain(quota, A, T + 60) == 1
    assert drain(quota, A, T + 60 + 600) == 10


def test_who_has_nothing_left_is_told_when_there_is_something() -> None:
    quota = Quota(60, 3_600)
    drain(quota, A, T)
    assert quota.take(A, T) == 60
    assert quota.take(A, T + 45) == 15


def test_everybody_has_a_share_of_its_own() -> None:
    quota = Quota(5, 60)
    assert [drain(quota, who, T) for who in (A, B)] == [5, 5]


def test_a_count_of_0_is_no_limit() -> None:
    quota = Quota(0, 60)
    assert not any(quota.take(A, T) for _ in range(10_000))
    quota.give_back(A, T)


def test_what_is_given_back_can_be_taken_again_and_no_more() -> None:
    quota = Quota(3, 60)
    quota.take(A, T)
    quota.give_back(A, T)
    assert drain(quota, A, T) == 3
    quota.give_back(A, T)
    assert drain(quota, A, T) == 1
    for _ in range(9):
        quota.give_back(B, T)
    assert drain(quota, B, T) == 3


def test_a_clock_that_is_set_back_neither_gives_nor_blocks() -> None:
    quota = Quota(10, 10)
    drain(quota, A, T)
    assert drain(quota, A, T - 3_600) == 0
    assert 0 < quota.take(A, T - 3_600) <= 1
    quota.give_back(A, T - 3_600)
    assert drain(quota, A, T - 3_595) == 6


@given(STEPS, st.integers(1, 6), st.sampled_from([0.5, 1.0, 10.0]))
def test_in_no_stretch_of_time_does_anybody_get_more_than_its_share(steps: Steps, count: int, period_s: float) -> None:
    quota, now, taken = Quota(count, period_s), T, {A: list[float](), B: list[float]()}
    for pause_s, who in steps:
        now += pause_s
        if not quota.take(who, now):
            taken[who].append(now)
    for times in taken.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= count + (times[last] - start) * count / period_s + 1e-5


@given(STEPS, st.integers(1, 6), st.sampled_from([0.5, 1.0, 10.0]))
def test_whoever_comes_back_when_it_was_told_gets_one(steps: Steps, count: int, period_s: float) -> None:
    quota, now = Quota(count, period_s), T
    for pause_s, who in steps:
        now += pause_s
        delay_s = quota.take(who, now)
        assert 0 <= delay_s <= period_s
        if delay_s:
            now += delay_s
            assert quota.take(who, now) == 0


def test_only_those_are_remembered_who_took_something_lately() -> None:
    quota = Quota(5, 60)
    for n in range(1_000):
        quota.take(f"team-{n}", T + n)
    assert len(quota._levels) == 60
    assert drain(quota, "team-999", T + 999) == 4


# --- places -----------------------------------------------------------------------------------------------------------


def hold(places: Places, *who: str) -> ExitStack:
    with ExitStack() as stack:
        for one in who:
            stack.enter_context(places.hold(one, "max_of_them", f"too many for {one}"))
        return stack.pop_all()


def test_so_many_places_and_no_more_can_be_held_by_each() -> None:
    places = Places(2)
    with hold(places, A, A, B), pytest.raises(TooMany, match=f"too many for {A}"):
        hold(places, B, A)
    with hold(places, A, A, B, B):
        pass


def test_a_place_is_free_again_however_it_is_left() -> None:
    places = Places(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.hold(A, "max_of_them", "m"):
            raise ZeroDivisionError
    assert places._held == {}


def test_without_a_limit_all_are_let_in() -> None:
    with hold(Places(0), *[A] * 1_000):
        pass
