"""What an answer of the API server means, and when it is asked again: with a clock that stands until it is moved."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.cluster import is_kubernetes, open_cluster, parse_namespaces
from nightshift_crds.cluster.apiserver import RateLimit, Reply, delay_s, seconds_ahead
from nightshift_crds.cluster.kube import holds
from nightshift_crds.errors import (
    AlreadyExists,
    Denied,
    Missing,
    NightshiftError,
    Refused,
    Rejected,
    Stale,
    Unavailable,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# --- the rate ---------------------------------------------------------------------------------------------------------


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    limit = RateLimit(10, Clock())
    waits = [limit.reserve() for _ in range(25)]
    assert waits[:20] == [0] * 20
    assert waits[20:] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_what_was_not_used_is_saved_up_to_a_burst() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    for _ in range(20):
        limit.reserve()
    clock.now += 3_600
    assert [limit.reserve() for _ in range(20)] == [0] * 20
    assert limit.reserve() == pytest.approx(0.1)


def pace(limit: RateLimit) -> float:
    """Say how far apart two requests are once the burst is used up."""
    waits = [limit.reserve() for _ in range(200)]
    return min(later - earlier for earlier, later in pairwise(waits) if earlier > 0)


def test_a_server_that_says_too_much_is_asked_half_as_often() -> None:
    limit = RateLimit(10, Clock())
    limit.slow_down()
    assert pace(limit) == pytest.approx(0.2)


def test_many_answers_of_one_bad_moment_slow_down_once() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    for _ in range(100):
        limit.slow_down()
    assert pace(limit) == pytest.approx(0.2)
    clock.now += 1
    limit.slow_down()
    assert pace(limit) == pytest.approx(0.4, rel=0.05)


def test_the_rate_never_falls_below_one_request_a_second() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    for _ in range(100):
        clock.now += 1
        limit.slow_down()
    assert pace(limit) == pytest.approx(1, rel=0.05)


def test_the_rate_recovers_within_minutes_and_not_beyond() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    limit.slow_down()
    for _ in range(120):
        clock.now += 1
        limit.reserve()
    assert pace(limit) == pytest.approx(0.1)


# --- when to ask again ------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_with_jitter_up_to_a_cap(attempt: int, luck: float) -> None:
    full_s = min(5.0, 0.1 * 2**attempt)
    assert full_s / 2 <= delay_s(attempt, None, luck) <= full_s


@pytest.mark.parametrize(
    ("asked", "expected_s"), [("3", 3), ("0", 0.2), ("3600", 10), ("-1", 0.2), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.2)]
)
def test_the_pause_that_a_server_asks_for_is_kept_if_it_is_in_reason(asked: str, expected_s: float) -> None:
    assert delay_s(1, asked, 1) == pytest.approx(expected_s)


# --- what an answer means ---------------------------------------------------------------------------------------------


def a_status(reason: str = "", **details: str) -> dict[str, Any]:
    return {"kind": "Status", "message": "said the server", "reason": reason, "details": details}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, a_status("BadRequest"), Refused),
        (403, a_status("Forbidden", name="one"), Denied),
        (404, a_status("NotFound", name="one"), Missing),
        (404, a_status("NotFound"), Unavailable),
        (404, {}, Unavailable),
        (409, a_status("AlreadyExists", name="one"), AlreadyExists),
        (409, a_status("Conflict", name="one"), Stale),
        (410, a_status("Expired"), Stale),
        (413, {}, Refused),
        (422, a_status("Invalid", name="one"), Refused),
    ],
)
def test_each_refusal_has_its_meaning(status: int, body: dict[str, Any], error: type[NightshiftError]) -> None:
    with pytest.raises(error, match="said the server" if body else str(status)):
        Reply(status, body).accepted()


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        ({}, {"a": None, "b": [], "c": {}, "d": "", "e": {"f": None}}, True),
        ({"a": 1}, {"a": None}, False),
        ({"a": [{"b": 1, "default": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [1]}, {"a": {"0": 1}}, False),
        ({"a": {"b": 1}}, {"a": [1]}, False),
    ],
)
def test_an_object_holds_what_was_asked_whatever_the_server_adds(found: Any, asked: Any, expected: bool) -> None:
    assert holds(found, asked) is expected


# --- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, "", "apiVersion: v1\nkind: Config\n"])
async def test_without_a_kubernetes_to_talk_to_there_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if content is not None:
        kubeconfig.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(Rejected, match="no Kubernetes to talk to"):
        async with open_cluster("kubernetes://"):
            pass


@pytest.mark.parametrize("rate", ["0", "10001", "many", "nan"])
def test_a_rate_that_makes_no_sense_is_refused(rate: str) -> None:
    with pytest.raises(Rejected, match="requests_per_s"):
        open_cluster(f"kubernetes://?requests_per_s={rate}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kubernetes://", (True, ())),
        ("kubernetes://team-a", (True, ("team-a",))),
        ("kubernetes://team-a,team-b?requests_per_s=10", (True, ("team-a", "team-b"))),
        ("sqlite:///var/lib/cluster.db", (False, ())),
    ],
)
def test_a_url_says_whether_it_is_a_kubernetes_and_which_namespaces_are_served(
    url: str, expected: tuple[bool, tuple[str, ...]]
) -> None:
    assert (is_kubernetes(url), parse_namespaces(url)) == expected


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Tue, 24 Nov 2026 07:00:00 GMT", 7.0),
        ("Tue, 24 Nov 2026 07:00:20 GMT", -13.0),
        ("", 0.0),
        ("yesterday", 0.0),
        ("Tue, 24 Nov 2026 07:00:00", 0.0),
    ],
)
def test_a_server_tells_how_far_our_clock_is_ahead(date: str, ahead_s: float) -> None:
    assert seconds_ahead(date, datetime(2026, 11, 24, 7, 0, 7, tzinfo=UTC)) == ahead_s
