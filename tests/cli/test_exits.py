"""Exit codes that scripts can rely on."""

import pytest

from nightshift_cli.exits import ENDS, Exit, of_error, of_statuses
from nightshift_crds.errors import (
    Conflict,
    NightshiftError,
    NotFound,
    Rejected,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from nightshift_crds.lifecycle import TERMINAL


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("x"), 2),
        (Rejected("x", status=413), 2),
        (NotFound("x"), 3),
        (Rejected("x", status=401), 4),
        (Rejected("x", status=403), 4),
        (Unavailable("x"), 5),
        (Unauthenticated("x"), 5),
        (TooMany("x"), 5),
        (Conflict("x"), 6),
    ],
)
def test_an_error_has_the_code_of_what_to_do_about_it(error: NightshiftError, code: int) -> None:
    assert of_error(error) == code


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["completed"], 0),
        (["completed", "completed"], 0),
        (["completed", "failed"], 10),
        (["cancelled", "expired"], 11),
        (["cancelled"], 12),
        ([], 0),
    ],
)
def test_batches_that_were_waited_for_have_the_first_code_that_is_not_completed(statuses: list[str], code: int) -> None:
    assert of_statuses(statuses) == code


def test_every_end_of_the_lifecycle_has_a_code_of_its_own() -> None:
    assert set(ENDS) == {phase.lower() for phase in TERMINAL}
    assert len(set(ENDS.values())) == len(ENDS)


def test_no_code_is_one_that_a_shell_uses_itself() -> None:
    assert all(code < 126 or code is Exit.INTERRUPTED for code in Exit)
