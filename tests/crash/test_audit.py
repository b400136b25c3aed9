"""The audits can fail: each says what is wrong with what was tampered with."""

import json
from typing import Any

import pytest

from tests.crash.audit import Ended, find_unexplained, find_wrong_asks, find_wrong_batch

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def a_result(row: str, **more: Any) -> dict[str, Any]:
    body = {"usage": USAGE}
    return {"id": f"id of {row}", "custom_id": row, "response": {"body": body}, "error": None} | more


def a_failure(row: str, code: str = "http_400") -> dict[str, Any]:
    return a_result(row, response=None, error={"code": code})


def a_file(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def a_batch(status: str = "completed", *, total: int = 2, completed: int = 1, failed: int = 1, **more: Any) -> Any:
    counts = {"total": total, "completed": completed, "failed": failed}
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    return {"status": status, "request_counts": counts, "usage": usage, "output_file_id": "o"} | more


GOOD = Ended([a_batch()], ["a", "b"], a_file(a_result("a")), a_file(a_failure("b")))


def test_a_good_batch_has_nothing_wrong() -> None:
    assert find_wrong_batch(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"output": a_file(a_result("a"), a_result("a"))}, "a stands 2 times in the files"),
        ({"error": a_file(a_failure("a"))}, "a stands 2 times in the files"),
        ({"error": b""}, "b is in no file"),
        ({"custom_ids": ["a"]}, "b was never asked for"),
        ({"error": a_file(a_failure("b") | {"id": "id of a"})}, "two lines have one id"),
        ({"output": a_file(a_result("a"))[:-1]}, "the output file is torn"),
        ({"shown": [a_batch(total=3)]}, "the total is 3"),
        ({"shown": [a_batch(total=0)]}, "it is complete without a line"),
        ({"shown": [a_batch(completed=2, failed=0)]}, "counts are"),
        ({"shown": [a_batch(usage=None)]}, "usage is"),
        ({"shown": [a_batch("finalizing"), a_batch("in_progress"), a_batch()]}, "status went from finalizing"),
        ({"shown": [a_batch("failed"), a_batch()]}, "status went from failed"),
        ({"shown": [a_batch("in_progress", completed=2), a_batch()]}, "count completed fell"),
        ({"shown": [a_batch("in_progress", output_file_id="x"), a_batch()]}, "output_file_id changed"),
    ],
)
def test_what_was_tampered_with_is_told(changes: dict[str, Any], wrong: str) -> None:
    ended = Ended(**{name: changes.get(name, getattr(GOOD, name)) for name in vars(GOOD)})
    assert any(said.startswith(wrong) for said in find_wrong_batch(ended))


def test_a_batch_that_never_began_has_no_rows() -> None:
    nothing = a_batch("cancelled", total=0, completed=0, failed=0, usage=None)
    assert find_wrong_batch(Ended([nothing], ["a", "b"], b"", b"")) == []


def test_rows_that_never_ran_are_no_failures_of_a_cancelled_batch() -> None:
    error = a_file(a_failure("b", "batch_cancelled"))
    assert find_wrong_batch(Ended([a_batch("cancelled", failed=0)], ["a", "b"], GOOD.output, error)) == []


# --- what the model was asked -----------------------------------------------------------------------------------------


def posted(row: str, moment: str, life: str = "one") -> dict[str, Any]:
    return {"life": life, "effect": "run model.send", "moment": moment, "about": [row]}


def recorded(moment: str, *rows: str, life: str = "one") -> dict[str, Any]:
    return {"life": life, "effect": "run bucket.put record part", "moment": moment, "about": list(rows)}


def ended(code: int, life: str = "one") -> dict[str, Any]:
    return {"life": life, "effect": "run exit", "moment": "exit", "about": [str(code)]}


ANSWERED = [posted("a", "before"), posted("a", "after")]
DURABLE = [*ANSWERED, recorded("before", "a"), recorded("after", "a")]
AGAIN = [posted("a", "before", "two"), posted("a", "after", "two")]


@pytest.mark.parametrize(
    "trace",
    [
        DURABLE,
        [*ANSWERED[:1], *AGAIN],  # in flight at the kill
        [*ANSWERED, *AGAIN],  # answered since the last record
        [*ANSWERED, recorded("before", "a"), *AGAIN],  # the record was not made
        [*ANSWERED[:1], ended(75), *AGAIN],  # in flight at the SIGTERM
    ],
)
def test_what_a_kill_excuses_is_not_wrong(trace: list[dict[str, Any]]) -> None:
    assert find_wrong_asks(trace, 1) == []


@pytest.mark.parametrize(
    ("trace", "wrong"),
    [
        ([*DURABLE, *AGAIN], "a is durable and was asked again"),
        ([*ANSWERED, *ANSWERED], "a was asked twice by one process"),
        ([*ANSWERED, recorded("before"), *AGAIN], "a was answered before a record was begun, and is not in it"),
        ([*ANSWERED, ended(75), *AGAIN], "a was answered and is lost, though its run ended gently"),
        ([*DURABLE, recorded("after", "a", life="two")], "a is twice in the log"),
        ([posted("a", "before"), posted("b", "before")], "2 requests were in flight"),
    ],
)
def test_what_no_kill_excuses_is_told(trace: list[dict[str, Any]], wrong: str) -> None:
    assert find_wrong_asks(trace, 1) == [wrong]


def test_a_fenced_writer_may_lose_what_it_has() -> None:
    assert find_wrong_asks([*ANSWERED, ended(75)], 1, fenced=True) == []


def test_requests_that_no_run_tells_of_are_told() -> None:
    assert find_unexplained(ANSWERED, {"a": 1}) == []
    assert find_unexplained(ANSWERED, {"a": 2}) == ["a was asked 2 times, sent 1"]
