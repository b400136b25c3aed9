"""The table of phases: what contract 5 says of it, and that whatever is drawn from it says the same."""

import re
from itertools import product

import pytest

from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, Phase, Sealing, can_move, is_terminal, render_diagram
from nightshift_crds.models import BatchJobStatus

# Contract 5, row by row; the API shows a phase in lower case.
CONTRACT = {
    "validating": "failed in_progress cancelling expired",
    "in_progress": "finalizing cancelling expired failed",
    "finalizing": "completed cancelling failed",
    "cancelling": "cancelled",
}
PAIRS = list(product(Phase, Phase))


def reachable_from(phase: Phase) -> set[Phase]:
    """Find every phase that a batch may come to by at least one move."""
    found: set[Phase] = set()
    queue = [phase]
    for here in queue:
        for there in Phase:
            if there is not here and can_move(here, there) and there not in found:
                found.add(there)
                queue.append(there)
    return found


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_move_is_legal_exactly_if_the_contract_lists_it_or_nothing_moves(before: Phase, after: Phase) -> None:
    listed = CONTRACT.get(before.lower(), "").split()
    assert can_move(before, after) is (before is after or after.lower() in listed)


@pytest.mark.parametrize("after", Phase)
def test_a_batch_that_nobody_has_seen_moves_like_one_that_is_validating(after: Phase) -> None:
    assert can_move(None, after) is can_move(Phase.VALIDATING, after)


@pytest.mark.parametrize("phase", Phase)
def test_no_phase_comes_twice(phase: Phase) -> None:
    assert phase not in reachable_from(phase)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_ends_and_every_end_is_terminal(phase: Phase) -> None:
    assert is_terminal(phase) is (reachable_from(phase) == set())
    assert is_terminal(phase) or reachable_from(phase) & TERMINAL


def test_every_phase_can_be_reached() -> None:
    assert {Phase.VALIDATING, *reachable_from(Phase.VALIDATING)} == set(Phase)


def test_a_cancel_that_was_accepted_ends_cancelled_and_in_nothing_else() -> None:
    assert reachable_from(Phase.CANCELLING) == {Phase.CANCELLED}


def test_a_batch_without_a_phase_has_not_ended() -> None:
    assert not is_terminal(None)


def test_every_phase_but_the_first_has_a_time_of_its_own_that_the_status_holds() -> None:
    assert set(TIMESTAMPS) == set(Phase) - {Phase.VALIDATING}
    assert len(set(TIMESTAMPS.values())) == len(TIMESTAMPS)
    assert set(TIMESTAMPS.values()) <= set(BatchJobStatus.model_fields)


def test_every_reason_to_seal_is_a_way_to_end() -> None:
    assert {sealing.upper() for sealing in Sealing} == set(TERMINAL)


def test_the_diagram_shows_every_legal_move_and_no_other() -> None:
    drawn = re.findall(r"^    (\S+) --> (\S+)$", render_diagram(), re.MULTILINE)
    moves = {(str(a), str(b)) for a, b in PAIRS if a is not b and can_move(a, b)}
    ends = {(str(phase), "[*]") for phase in TERMINAL}
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {("[*]", "VALIDATING"), *moves, *ends}
