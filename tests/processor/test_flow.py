"""How many requests may be in flight, rule by rule, on a clock of the test's own."""

from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nightshift_processor.flow import Flow, Load, Rules

BYTES = 1_000
START = 8


class Workers:
    """Send all that may be sent, at once, over and over."""

    def __init__(self, rules: Rules) -> None:
        self.flow = Flow(rules)
        self.now = 0.0
        self.fill()

    def fill(self) -> int:
        while self.flow.enter(self.now):
            pass
        return self.flow.in_flight

    def turn(self, took_s: float = 1.0, size: int = BYTES) -> float:
        """Have all that is in flight answered; gives the new limit."""
        sent_at, self.now = self.now, self.now + took_s
        for _ in range(self.flow.in_flight):
            self.flow.answer(sent_at, self.now, size)
            self.flow.leave()
            self.fill()
        self.now += 0.01
        self.fill()
        return self.flow.limit

    def refuse(self, retry_after_s: float | None = None, *, is_news: bool = True) -> float:
        """Have all that is in flight refused; gives the new limit."""
        sent_at, self.now = self.now, self.now + 0.01
        for _ in range(self.flow.in_flight):
            self.flow.refuse(sent_at, self.now, retry_after_s, is_news=is_news)
            self.flow.leave()
        self.now += 0.01
        return self.flow.limit

    def see(self, *, others: int = 0, waiting: int = 0, cache_use: float = 0.0) -> float:
        """Have the server say of itself that it has what we sent and what others did; gives the new limit."""
        self.flow.see(Load(self.flow.in_flight + others - waiting, waiting, cache_use), self.now)
        return self.flow.limit


def at_the_limit(limit: int = 64, *, share: float = 1.0) -> Workers:
    """Give workers that have come to their limit; a request takes a second at best."""
    workers = Workers(Rules(limit, share))
    while workers.turn() < max(1, limit * share):
        pass
    return workers


# --- growth -----------------------------------------------------------------------------------------------------------


def test_a_shared_server_is_approached_with_few_requests_which_double_every_round() -> None:
    workers = Workers(Rules(100))
    assert [workers.flow.in_flight, *(workers.turn() for _ in range(5))] == [8, 16, 32, 64, 100, 100]


def test_a_server_of_our_own_gets_at_once_all_that_it_may_get() -> None:
    assert Workers(Rules(100, is_shared=False)).flow.in_flight == 100


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    flow = Flow(Rules(100))
    for now in range(50):
        assert flow.enter(now)
        flow.answer(now, now + 1, BYTES)
        flow.leave()
    assert flow.limit == START


def test_after_the_first_cut_the_limit_grows_by_one_a_round() -> None:
    workers = at_the_limit()
    workers.refuse()
    workers.fill()
    assert [round(workers.turn(), 1) for _ in range(3)] == [33.0, 34.0, 35.0]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_all_refusals_of_a_round_halve_the_limit_once() -> None:
    workers = at_the_limit()
    assert workers.flow.in_flight == 64
    assert workers.refuse() == 32


def test_a_refusal_of_what_was_sent_after_the_cut_halves_it_again() -> None:
    workers = at_the_limit()
    limits = []
    for _ in range(8):
        limits.append(workers.refuse())
        workers.fill()
    assert limits == [32, 16, 8, 4, 2, 1, 1, 1]


def test_what_was_sent_before_a_cut_raises_nothing_after_it() -> None:
    workers = at_the_limit()
    sent_at, workers.now = workers.now, workers.now + 1
    workers.flow.refuse(sent_at, workers.now, None)
    workers.flow.leave()
    for _ in range(workers.flow.in_flight):
        workers.flow.answer(sent_at, workers.now, BYTES)
        workers.flow.leave()
    assert workers.flow.limit == 32


def test_a_server_that_was_not_there_yet_is_approached_as_any_other() -> None:
    workers = Workers(Rules(64))
    for _ in range(8):
        workers.refuse()
        workers.fill()
    assert [workers.turn() for _ in range(7)] == [2, 4, 8, 16, 32, 64, 64]


def test_a_refusal_that_is_a_line_s_own_fault_is_none_of_the_server_but_its_wish_is_heard() -> None:
    workers = at_the_limit()
    assert workers.refuse(5.0, is_news=False) == 64
    assert not workers.flow.enter(workers.now + 4.9)


def test_a_server_that_was_down_is_soon_given_half_of_what_it_could_do() -> None:
    workers = at_the_limit()
    for _ in range(8):
        workers.refuse()
        workers.now += 30
        workers.fill()
    for _ in range(5):
        workers.turn()
    assert workers.flow.limit == 32


@pytest.mark.parametrize(("asked_s", "held_s"), [(5.0, 5.0), (86_400.0, 60.0)])
def test_nothing_is_sent_before_the_server_wants_it_within_reason(asked_s: float, held_s: float) -> None:
    workers = at_the_limit()
    refused_at = workers.now + 0.01
    workers.refuse(asked_s)
    workers.refuse(1.0)
    assert not workers.flow.enter(refused_at + held_s - 0.001)
    assert workers.flow.enter(refused_at + held_s)


# --- latency ----------------------------------------------------------------------------------------------------------


def test_a_latency_within_the_tolerance_changes_nothing() -> None:
    workers = at_the_limit()
    assert [workers.turn(took_s=1.9) for _ in range(3)] == [64] * 3


def test_a_latency_beyond_the_tolerance_cuts_gently() -> None:
    workers = at_the_limit()
    workers.turn(took_s=2.5)  # half of a window was quick
    assert 64 * 0.75 < workers.turn(took_s=2.5) < 64
    assert [workers.turn(took_s=200.0) < 64 * 0.75 for _ in range(3)][-1]


def test_long_answers_do_not_pass_for_slow_ones() -> None:
    workers = at_the_limit()
    assert [workers.turn(took_s=10, size=10 * BYTES) for _ in range(3)] == [64] * 3


def test_errors_have_no_latency() -> None:
    workers = at_the_limit()
    assert [workers.turn(took_s=10, size=0) for _ in range(3)] == [64] * 3


def test_what_is_quick_however_much_quicker_it_was_is_not_slow() -> None:
    workers = at_the_limit()
    for _ in range(10):
        workers.turn(took_s=0.001)
    assert [workers.turn(took_s=0.09) for _ in range(3)] == [64] * 3
    assert [workers.turn(took_s=0.12) < 64 for _ in range(3)][-1]


def test_a_server_that_has_become_slower_for_good_is_used_in_full_again() -> None:
    workers = at_the_limit()
    limits = [workers.turn(took_s=5.0) for _ in range(150)]
    assert min(limits) <= START
    assert limits[-1] == 64


def test_latency_is_no_matter_where_nobody_else_is() -> None:
    workers = at_the_limit()
    workers.see()
    assert [workers.turn(took_s=10) for _ in range(3)] == [64] * 3
    workers.see(others=1)
    assert [workers.turn(took_s=10) < 64 for _ in range(3)][-1]


# --- what the server says of itself -----------------------------------------------------------------------------------


def test_a_queue_that_stays_is_taken_back() -> None:
    workers = at_the_limit()
    assert [workers.see(waiting=10), workers.see(waiting=10)] == [64, 54]


def test_a_queue_that_comes_and_goes_is_none() -> None:
    workers = at_the_limit()
    assert [workers.see(waiting=n) for n in (10, 0, 10, 0)] == [64] * 4


def test_of_a_queue_that_others_share_in_only_our_part_is_taken_back() -> None:
    workers = at_the_limit()
    workers.see(others=64, waiting=32)
    assert workers.see(others=64, waiting=32) == 64 - 32 / 2


def test_a_long_queue_takes_half_at_most() -> None:
    workers = at_the_limit()
    workers.see(waiting=60)
    assert workers.see(waiting=60) == 32


def test_a_queue_is_not_taken_back_twice_before_the_first_cut_shows() -> None:
    workers = at_the_limit()
    assert [workers.see(waiting=10) for _ in range(5)] == [64, 54, 54, 54, 54]


def test_a_queue_of_others_alone_is_not_ours_to_shorten() -> None:
    flow = Flow(Rules(64))
    for now in range(3):
        flow.see(Load(running=10, waiting=10), now)
    assert flow.limit == START


def test_beside_a_full_cache_nothing_grows_until_there_is_room_again() -> None:
    workers = Workers(Rules(64))
    workers.see(cache_use=0.95)
    assert workers.turn() == START
    workers.see(cache_use=0.5)
    assert workers.turn() == 2 * START


# --- the share --------------------------------------------------------------------------------------------------------


def test_where_nobody_knows_who_else_is_there_the_share_is_all_that_there_is() -> None:
    workers = Workers(Rules(64, share=0.5))
    assert [workers.turn() for _ in range(4)] == [16, 32, 32, 32]


def test_alone_all_may_be_used() -> None:
    workers = at_the_limit(share=0.5)
    workers.see()
    assert [workers.turn() for _ in range(2)] == [64, 64]


@pytest.mark.parametrize("others", [1, 100, -40], ids=["one", "many", "as at one server of several"])
def test_once_others_are_seen_the_limit_falls_to_the_share_and_stays_there_for_a_while(others: int) -> None:
    workers = at_the_limit(share=0.5)
    workers.see()
    workers.turn()
    assert workers.see(others=others) == 32
    workers.turn()
    workers.see()
    assert [workers.turn(took_s=10.0, size=10 * BYTES) for _ in range(2)] == [32, 32]
    assert [workers.turn(took_s=10.0, size=10 * BYTES) for _ in range(2)][-1] > 32


def test_a_server_that_says_nothing_any_more_may_have_others_and_room() -> None:
    workers = Workers(Rules(64, share=0.5))
    workers.see(cache_use=1.0)
    workers.flow.go_blind()
    assert [workers.turn() for _ in range(3)] == [16, 32, 32]


def test_a_share_of_next_to_nothing_is_one_request() -> None:
    assert Workers(Rules(4, share=0.01)).flow.in_flight == 1


# --- whatever happens -------------------------------------------------------------------------------------------------


class Happenings(RuleBasedStateMachine):
    """A flow to which anything may happen at any time."""

    @initialize(most=st.integers(1, 200), share=st.floats(0.01, 1), is_shared=st.booleans())
    def begin(self, most: int, share: float, is_shared: bool) -> None:
        self.flow = Flow(Rules(most, share, is_shared=is_shared))
        self.now = 0.0
        self.held_until = -inf
        self.sent: list[float] = []

    @rule(passed_s=st.floats(0, 100))
    def time_passes(self, passed_s: float) -> None:
        self.now += passed_s

    @rule(times=st.integers(1, 300))
    def sends(self, times: int) -> None:
        for _ in range(times):
            if self.flow.enter(self.now):
                self.sent.append(self.now)
                assert self.now >= self.held_until
                assert self.flow.in_flight <= ceil(self.flow.limit)

    @precondition(lambda self: self.sent)
    @rule(size=st.integers(0, 10_000), which=st.integers(0))
    def is_answered(self, size: int, which: int) -> None:
        self.flow.answer(self.sent.pop(which % len(self.sent)), self.now, size)
        self.flow.leave()

    @precondition(lambda self: self.sent)
    @rule(retry_after_s=st.none() | st.floats(0, 1_000), is_news=st.booleans(), which=st.integers(0))
    def is_refused(self, retry_after_s: float | None, is_news: bool, which: int) -> None:
        sent_at = self.sent.pop(which % len(self.sent))
        self.flow.refuse(sent_at, self.now, retry_after_s, is_news=is_news)
        self.flow.leave()
        self.held_until = max(self.held_until, self.now + min(retry_after_s or 0.0, 60.0))

    @rule(running=st.integers(0, 500), waiting=st.integers(0, 500), cache_use=st.floats(0, 1))
    def server_speaks(self, running: int, waiting: int, cache_use: float) -> None:
        self.flow.see(Load(running, waiting, cache_use), self.now)

    @rule()
    def server_falls_silent(self) -> None:
        self.flow.go_blind()

    @invariant()
    def limit_is_within_its_bounds(self) -> None:
        if hasattr(self, "flow"):
            assert 1 <= self.flow.limit <= self.flow.rules.most
            assert self.flow.in_flight == len(self.sent)


TestHappenings = Happenings.TestCase


@given(st.integers(1, 100), st.lists(st.integers(1, 5), max_size=6))
def test_a_server_that_is_free_again_is_used_in_full(most: int, turns: list[int]) -> None:
    workers = Workers(Rules(most))
    for times in turns:
        for _ in range(times):
            workers.turn()
        workers.refuse()
        workers.fill()
    for _ in range(most + 5):
        workers.turn()
    assert workers.flow.limit == most
