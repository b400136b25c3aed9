"""How a batch and a file are shown, over all that their resources can be (contract 3.1, 4.1)."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from nightshift_api.details import Live
from nightshift_api.rendering import has_content, is_live, render_batch, render_file
from nightshift_api.wire import BatchObject
from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, Phase
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJob, FilePhase
from nightshift_crds.names import ResultKind
from nightshift_crds.records import State
from tests.api.given import WAYS
from tests.builders import T0, a_batch, a_file, timestamp

WINDOW_S = 86_400
OUTPUT, ERROR = (a_batch().result_file_id(kind) for kind in ResultKind)
CREATED_AT = int(T0.timestamp())
COUNTS = st.integers(0, 50)


def show(batch: BatchJob, state: State | None = None) -> dict[str, Any]:
    return render_batch(batch, Live(state, 0.0, T0) if state else None, WINDOW_S).model_dump()


def status_in(phase: Phase, **status: Any) -> dict[str, Any]:
    """Write the status of a batch that came to a phase one second a step, half a second late."""
    stamps = {
        to_camel(TIMESTAMPS[passed]): timestamp(T0 + timedelta(seconds=step, milliseconds=500))
        for step, passed in enumerate(WAYS[phase], start=1)
    }
    return {"phase": phase} | stamps | status


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_is_a_status_in_lower_case_and_its_times_are_seconds(phase: Phase) -> None:
    shown = show(a_batch(status=status_in(phase)))
    assert shown["status"] == phase.lower()
    expected = dict.fromkeys(TIMESTAMPS.values())
    expected |= {TIMESTAMPS[passed]: CREATED_AT + step for step, passed in enumerate(WAYS[phase], start=1)}
    assert {field: shown[field] for field in expected} == expected
    assert (shown["created_at"], shown["expires_at"]) == (CREATED_AT, CREATED_AT + WINDOW_S)


@pytest.mark.parametrize("phase", Phase)
def test_every_field_is_there_in_every_phase(phase: Phase) -> None:
    assert show(a_batch(status=status_in(phase))).keys() == BatchObject.model_fields.keys()


def test_a_batch_that_the_operator_has_not_seen_is_validating() -> None:
    assert show(a_batch())["status"] == "validating"


def test_the_deadline_of_a_batch_is_when_it_expires_whatever_the_window_is_now() -> None:
    deadline = timestamp(T0 + timedelta(seconds=60))
    assert show(a_batch(status={"deadline": deadline}))["expires_at"] == CREATED_AT + 60


@pytest.mark.parametrize("phase", Phase)
def test_a_cancel_is_visible_from_the_patch_that_asks_for_it(phase: Phase) -> None:
    spec = {"cancelRequested": True, "cancelRequestedAt": timestamp(T0 + timedelta(seconds=9))}
    batch = a_batch(spec=spec, status=status_in(phase))
    has_time = phase in {Phase.CANCELLING, Phase.CANCELLED}
    assert batch.visible_phase is (phase if phase in TERMINAL else Phase.CANCELLING)
    told = CREATED_AT + 2 if has_time else None if phase in TERMINAL else CREATED_AT + 9
    assert show(batch)["cancelling_at"] == told


def test_a_cancel_without_a_time_shows_none_until_the_operator_gives_it_one() -> None:
    assert show(a_batch(spec={"cancelRequested": True}))["cancelling_at"] is None


@pytest.mark.parametrize("phase", Phase)
def test_errors_are_shown_of_a_failed_batch_only(phase: Phase) -> None:
    errors = [{"code": "empty_file", "message": "m"}, {"code": "c", "message": "m", "param": "url", "line": 3}]
    shown = show(a_batch(status=status_in(phase, errors=errors)))["errors"]
    if phase is not Phase.FAILED:
        assert shown is None
        return
    assert shown == {
        "object": "list",
        "data": [
            {"code": "empty_file", "message": "m", "param": None, "line": None},
            {"code": "c", "message": "m", "param": "url", "line": 3},
        ],
    }


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "output", "error"),
    [
        (None, None, None),
        (State(), None, None),
        (State(completed=1, output_bytes=9), OUTPUT, None),
        (State(failed=1, error_bytes=9), None, ERROR),
        (State(completed=1, failed=1, output_bytes=9, error_bytes=9), OUTPUT, ERROR),
    ],
)
def test_a_result_file_has_an_id_from_its_first_durable_line_on(
    state: State | None, output: str | None, error: str | None
) -> None:
    shown = show(a_batch(status=status_in(Phase.IN_PROGRESS)), state)
    assert (shown["output_file_id"], shown["error_file_id"]) == (output, error)


@given(st.builds(State, output_bytes=COUNTS, error_bytes=COUNTS) | st.none())
def test_a_file_id_that_the_status_has_is_never_taken_back(state: State | None) -> None:
    shown = show(a_batch(status=status_in(Phase.IN_PROGRESS, outputFileId=OUTPUT, errorFileId=ERROR)), state)
    assert (shown["output_file_id"], shown["error_file_id"]) == (OUTPUT, ERROR)


states = st.builds(
    State, completed=COUNTS, failed=COUNTS, usage=st.builds(Usage, input_tokens=COUNTS, total_tokens=COUNTS)
)


def status_of(state: State) -> dict[str, Any]:
    counts = {"total": 100, "completed": state.completed, "failed": state.failed}
    tokens = {"inputTokens": state.usage.input_tokens, "totalTokens": state.usage.total_tokens}
    return status_in(Phase.IN_PROGRESS, counts=counts, usage=tokens)


@given(states, states)
def test_of_status_and_progress_the_larger_is_shown(in_status: State, in_bucket: State) -> None:
    shown = show(a_batch(status=status_of(in_status)), in_bucket)
    both = (in_status, in_bucket)
    assert shown["request_counts"] == {
        "total": 100,
        "completed": max(state.completed for state in both),
        "failed": max(state.failed for state in both),
    }
    known = [state for state in both if state is in_status or state.completed + state.failed]
    assert shown["usage"]["total_tokens"] == max(state.usage.total_tokens for state in known)


@given(states, st.lists(st.booleans(), max_size=8))
def test_counts_never_fall_while_the_operator_copies_them(end: State, copies: list[bool]) -> None:
    """A walk of the processor from nothing to `end`; the operator copies what there is now and then."""
    copied, shown = State(), []
    for step, is_copied in enumerate(copies, start=1):
        now = State(
            completed=end.completed * step // len(copies),
            failed=end.failed * step // len(copies),
            usage=Usage(total_tokens=end.usage.total_tokens * step // len(copies)),
        )
        counts = show(a_batch(status=status_of(copied)), now)
        shown.append((counts["request_counts"]["completed"], counts["request_counts"]["failed"]))
        copied = now if is_copied else copied
    assert all(before[0] <= after[0] and before[1] <= after[1] for before, after in pairwise(shown))


def test_usage_has_the_details_that_sdks_read() -> None:
    tokens = {"inputTokens": 5, "cachedTokens": 1, "outputTokens": 4, "reasoningTokens": 2, "totalTokens": 9}
    assert show(a_batch(status=status_in(Phase.COMPLETED, usage=tokens)))["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 9,
    }


@pytest.mark.parametrize(("state", "is_null"), [(None, True), (State(), True), (State(failed=1), False)])
def test_usage_is_null_until_the_first_line_is_durable(state: State | None, is_null: bool) -> None:
    assert (show(a_batch(status=status_in(Phase.IN_PROGRESS)), state)["usage"] is None) is is_null


def test_metadata_is_an_echo() -> None:
    assert show(a_batch(spec={"metadata": {"a": "b"}}))["metadata"] == {"a": "b"}
    assert show(a_batch(spec={"metadata": {}}))["metadata"] == {}
    assert show(a_batch())["metadata"] is None


@pytest.mark.parametrize(
    ("source", "shown"), [({"fileId": OUTPUT}, OUTPUT), ({"uri": "gs://b/k"}, "gs://b/k"), ({"rerunOf": "batch-x"}, "")]
)
def test_the_input_is_shown_whatever_it_is(source: dict[str, str], shown: str) -> None:
    assert show(a_batch(spec={"input": source}))["input_file_id"] == shown


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "status"), [(FilePhase.READY, "processed"), (FilePhase.WRITING, "uploaded")])
def test_a_file_is_processed_once_its_bytes_are_whole(phase: FilePhase, status: str) -> None:
    shown = render_file(a_file(status={"phase": phase, "bytes": 3}), 3)
    assert (shown.status, shown.bytes, shown.status_details) == (status, 3, None)


@pytest.mark.parametrize(
    ("status", "live", "content"),
    [
        ({}, False, False),
        ({"phase": "Ready"}, True, True),
        ({"phase": "Writing"}, True, False),
        ({"phase": "Writing", "bytes": 1}, True, True),
        ({"phase": "Ready", "expiresAt": timestamp(T0 + timedelta(seconds=1))}, True, True),
        ({"phase": "Ready", "expiresAt": timestamp(T0)}, False, True),
    ],
)
def test_a_file_lives_from_its_status_to_its_expiry(status: dict[str, Any], live: bool, content: bool) -> None:
    assert (is_live(a_file(status=status), T0), has_content(a_file(status=status))) == (live, content)
