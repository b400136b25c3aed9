"""The tree of errors: by whose fault, and with what a client must be told."""

import pytest

from nightshift_crds.errors import (
    AlreadyExists,
    Conflict,
    Missing,
    NightshiftError,
    NotFound,
    Refused,
    Rejected,
    Stale,
    TooMany,
)
from nightshift_crds.errors import Unavailable as NotNow
from nightshift_crds.exits import NEVER_RETRY, Exit


@pytest.mark.parametrize(("error", "status"), [(Rejected("x"), 400), (NotFound("x"), 404), (Conflict("x"), 409)])
def test_what_the_caller_must_mend_carries_its_answer(error: Rejected, status: int) -> None:
    assert (error.status, error.message, str(error), error.code, error.param) == (status, "x", "x", None, None)


@pytest.mark.parametrize("kind", [Rejected, NotFound, Conflict])
def test_code_and_param_are_those_that_were_given(kind: type[Rejected]) -> None:
    error = kind("x", code="c", param="p.q")
    assert (error.code, error.param) == ("c", "p.q")


@pytest.mark.parametrize("kind", [NotNow, TooMany])
def test_what_may_succeed_later_says_when(kind: type[NotNow | TooMany]) -> None:
    assert kind("x").delay_s > 0
    assert kind("x", delay_s=30).delay_s == 30
    assert str(kind("x")) == "x"


def test_who_asks_for_too_much_is_told_of_what() -> None:
    assert TooMany("x").message == "x"


def test_nobody_who_answers_the_caller_catches_what_is_not_the_callers_fault() -> None:
    others: list[type[NightshiftError]] = [NotNow, TooMany, Missing, AlreadyExists, Stale, Refused]
    assert not any(issubclass(other, Rejected) for other in others)
    assert all(issubclass(other, NightshiftError) for other in others)


def test_a_final_exit_is_never_tried_again_and_an_interrupted_one_is() -> None:
    final = {Exit.BAD_INPUT, Exit.BAD_SETTINGS, Exit.DEADLINE, Exit.CONFLICT}
    assert {code for code in Exit if code in NEVER_RETRY} == final
    assert [code for code in Exit if int(code) == 0] == [Exit.DONE]
