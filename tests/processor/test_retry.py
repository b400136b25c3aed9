"""Whether a line is sent again, over every status and failure (contract 10.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_processor.client import Answer, Failure, Result
from nightshift_processor.retry import Tries, is_served, is_turn_over, next_delay

FOR_EVER = {429, 503}
A_FEW_TIMES = {408, 425} | (set(range(500, 600)) - {503})
STATUSES = range(200, 600)

UNTIL_THE_DEADLINE: list[Result] = [*(Answer(s, b"") for s in sorted(FOR_EVER)), Failure.NOT_CONNECTED]
SUSPECTS: list[Result] = [
    *(Answer(s, b"") for s in sorted(A_FEW_TIMES)),
    Failure.BROKEN,
    Failure.TIMEOUT,
]
FINAL: list[Result] = [
    *(Answer(status, b"") for status in STATUSES if status not in FOR_EVER | A_FEW_TIMES),
    Failure.TOO_LARGE,
]
lucks = st.floats(0, 1, exclude_max=True)
results = st.sampled_from([*UNTIL_THE_DEADLINE, *SUSPECTS])


def told_to_wait(seconds: float | None, status: int = 429) -> Answer:
    return Answer(status, b"", retry_after_s=seconds)


def test_every_status_and_failure_is_judged_here() -> None:
    assert len(UNTIL_THE_DEADLINE) + len(SUSPECTS) + len(FINAL) == len(STATUSES) + len(Failure)


@pytest.mark.parametrize("result", [*UNTIL_THE_DEADLINE, *SUSPECTS, *FINAL], ids=str)
def test_what_is_served_is_what_nothing_is_wrong_with(result: Result) -> None:
    assert is_served(result) == (isinstance(result, Answer) and result.status < 400)
    assert not is_served(result) or next_delay(result, Tries(), 5, 0.5) is None


def times_sent(result: Result, max_tries: int) -> int:
    """Count how often a line is sent that always gets the same, up to a thousand times."""
    tries = Tries().after(result)
    while tries.sent < 1_000 and next_delay(result, tries, max_tries, 0.5) is not None:
        tries = tries.after(result)
    return tries.sent


def test_what_would_not_change_is_sent_once() -> None:
    assert [result for result in FINAL if times_sent(result, 5) != 1] == []


@pytest.mark.parametrize("max_tries", [1, 2, 5])
def test_what_may_be_the_lines_own_fault_is_sent_a_few_times(max_tries: int) -> None:
    assert [result for result in SUSPECTS if times_sent(result, max_tries) != max_tries] == []


def test_what_nobody_can_serve_now_is_sent_until_the_deadline() -> None:
    assert [result for result in UNTIL_THE_DEADLINE if times_sent(result, 1) < 1_000] == []


@given(st.lists(results, max_size=40), st.integers(1, 6))
def test_a_line_is_given_up_at_its_last_allowed_suspect_failure_whatever_came_between(
    history: list[Result], max_tries: int
) -> None:
    tries, suspects = Tries(), 0
    for result in history:
        tries = tries.after(result)
        suspects += result in SUSPECTS
        goes_on = next_delay(result, tries, max_tries, 0.0) is not None
        assert goes_on is (result in UNTIL_THE_DEADLINE or suspects < max_tries)
        if not goes_on:
            return
    assert tries.sent == len(history)


@given(results, st.integers(1, 2_000), lucks)
def test_a_delay_is_jittered_over_its_whole_range_and_never_long(result: Result, sent: int, luck: float) -> None:
    tries = Tries(sent=sent, suspect=1)
    delay_s = next_delay(result, tries, 5, luck)
    longest_s = next_delay(result, tries, 5, 1.0)
    assert next_delay(result, tries, 5, 0.0) == 0.0
    assert delay_s is not None
    assert longest_s is not None
    assert 0.0 <= delay_s == pytest.approx(luck * longest_s)
    assert longest_s <= 30.0


def test_the_longest_delay_doubles_until_half_a_minute() -> None:
    longest = [next_delay(told_to_wait(None), Tries(sent=sent), 5, 1.0) for sent in range(1, 9)]
    assert longest == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


@given(st.floats(0, 1e9), st.integers(1, 50), lucks, st.sampled_from([429, 503, 500, 408]))
def test_what_the_server_asks_for_is_the_least_delay(asked_s: float, sent: int, luck: float, status: int) -> None:
    tries = Tries(sent=sent, suspect=1)
    delay_s = next_delay(told_to_wait(asked_s, status), tries, 5, luck)
    own_s = next_delay(told_to_wait(None, status), tries, 5, luck)
    assert own_s is not None
    assert delay_s == max(asked_s, own_s)


def test_an_answer_that_stands_stands_even_if_it_asks_for_patience() -> None:
    result = told_to_wait(1.0, 400)
    assert next_delay(result, Tries().after(result), 5, 0.5) is None


def test_a_line_that_is_sent_for_ever_lets_others_go_first_after_every_fifth_failure() -> None:
    assert [sent for sent in range(1, 17) if is_turn_over(Tries(sent=sent))] == [5, 10, 15]


def test_a_server_that_is_down_is_asked_with_long_delays_before_a_turn_is_over() -> None:
    down = Failure.NOT_CONNECTED
    longest = [next_delay(down, Tries(sent=sent), 5, 1.0) or 0.0 for sent in range(1, 6)]
    assert sum(longest) == 31.0
