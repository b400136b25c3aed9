"""`x_details`: what of a batch has no field in OpenAI's object (contract 15)."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from nightshift_api.details import Live
from nightshift_api.rendering import render_batch
from nightshift_crds.lifecycle import TERMINAL, TIMESTAMPS, Phase
from nightshift_crds.lines import Usage
from nightshift_crds.records import State
from tests.api.given import WAYS, SliceLog, a_batch_in
from tests.api.harness import Api
from tests.builders import BATCH_UUID, NAMESPACE, T0, a_batch, timestamp

NAMES = {
    "name", "resource", "suspended", "conditions", "gpu_type", "instance_type", "attempt", "failed_attempts",
    "started_at", "duration_s", "remaining", "rate", "eta_s", "gpu_seconds", "cost", "rerun_of", "reused",
}  # fmt: skip
RUNNING = sorted({Phase.IN_PROGRESS, Phase.FINALIZING, Phase.CANCELLING})
WORKS = {"type": "Scheduled", "status": "True", "reason": "Running", "message": "m"}
PRICING = {"currency": "EUR", "perMillionInputTokens": 2, "perMillionOutputTokens": 8, "perGpuHour": 3.6}
COST = {"currency": "EUR", "total": "0.000020"}
TOKENS = {"inputTokens": 6, "outputTokens": 1, "totalTokens": 7}


def condition(**changes: Any) -> dict[str, Any]:
    return WORKS | {"lastTransitionTime": timestamp(T0 + timedelta(seconds=2))} | changes


def in_phase(phase: Phase, **status: Any) -> dict[str, Any]:
    """Write the status of a batch that came to a phase ten seconds a step."""
    stamps = {
        to_camel(TIMESTAMPS[passed]): timestamp(T0 + timedelta(seconds=10 * step))
        for step, passed in enumerate(WAYS[phase], start=1)
    }
    return {"phase": phase, "conditions": [condition()]} | stamps | status


def live(*, rate: float = 0.0, after_s: int = 60, **state: Any) -> Live:
    return Live(State(**state), rate, T0 + timedelta(seconds=after_s))


def details(now: Live | None = None, *, spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    shown: dict[str, Any] = render_batch(a_batch(spec=spec, status=status), now, 86_400).model_dump()["x_details"]
    return shown


def test_a_batch_that_the_operator_has_not_seen_has_all_keys_and_no_values() -> None:
    assert details() == {
        **dict.fromkeys(NAMES),
        "resource": {"namespace": NAMESPACE, "name": f"batch-{BATCH_UUID}"},
        "suspended": False,
        "conditions": [],
        **dict.fromkeys(("attempt", "failed_attempts", "remaining", "reused"), 0),
    }


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        (None, None),
        ({"team": "blue"}, None),
        ({"batch-name": "nightly"}, "nightly"),
        ({"batch-name": "b", "cast.ai/batch-name": "a"}, "a"),
    ],
)
def test_a_batch_has_the_name_that_its_metadata_gives_it(metadata: dict[str, str] | None, name: str | None) -> None:
    assert details(spec={"metadata": metadata} if metadata else None)["name"] == name


def test_what_the_status_says_is_shown_as_it_is() -> None:
    run = {"gpuType": "nvidia-l4", "instanceType": "g2-standard-8", "attempt": 3, "failedAttempts": 1}
    shown = details(spec={"suspend": True}, **in_phase(Phase.IN_PROGRESS, **run))
    assert (shown["suspended"], shown["attempt"], shown["failed_attempts"]) == (True, 3, 1)
    assert (shown["gpu_type"], shown["instance_type"]) == ("nvidia-l4", "g2-standard-8")
    assert shown["conditions"] == [WORKS | {"last_transition_time": int(T0.timestamp()) + 2}]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ({"fileId": f"file_{BATCH_UUID}"}, None),
        ({"rerunOf": f"batch-{BATCH_UUID}"}, f"batch_{BATCH_UUID}"),
        ({"rerunOf": "nightly"}, None),
    ],
)
def test_a_rerun_names_the_batch_that_it_reruns_by_its_id(source: dict[str, str], shown: str | None) -> None:
    assert details(spec={"input": source})["rerun_of"] == shown


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_an_ended_batch_lasted_from_its_start_to_its_end_whenever_it_is_asked(phase: Phase) -> None:
    has_run = Phase.IN_PROGRESS in WAYS[phase]
    shown = details(None, **in_phase(phase))
    assert shown["started_at"] == (int(T0.timestamp()) + 10 if has_run else None)
    lasted = 10 * (len(WAYS[phase]) - 1)
    assert shown["duration_s"] == (lasted if phase in TERMINAL and has_run else None)


@pytest.mark.parametrize("phase", RUNNING)
def test_a_running_batch_has_lasted_until_now(phase: Phase) -> None:
    assert details(live(after_s=75), **in_phase(phase))["duration_s"] == 65


def test_a_clock_that_is_behind_makes_no_negative_duration() -> None:
    assert details(live(after_s=0), **in_phase(Phase.IN_PROGRESS))["duration_s"] == 0


# --- progress ---------------------------------------------------------------------------------------------------------


def test_the_rest_takes_as_long_as_the_rate_says() -> None:
    shown = details(live(rate=2.5, completed=30, failed=4), **in_phase(Phase.IN_PROGRESS), counts={"total": 100})
    assert (shown["remaining"], shown["rate"], shown["eta_s"]) == (66, 2.5, 27)


def test_at_a_standstill_nobody_knows_how_long_it_takes() -> None:
    shown = details(live(), **in_phase(Phase.IN_PROGRESS), counts={"total": 100})
    assert (shown["remaining"], shown["rate"], shown["eta_s"]) == (100, 0.0, None)


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({}, in_phase(Phase.FINALIZING)),
        ({}, in_phase(Phase.CANCELLING)),
        ({"cancelRequested": True}, in_phase(Phase.IN_PROGRESS)),
        ({}, in_phase(Phase.IN_PROGRESS, conditions=[condition(status="False")])),
        ({}, in_phase(Phase.IN_PROGRESS, conditions=[condition(type="Progressing")])),
        ({}, in_phase(Phase.IN_PROGRESS, conditions=[])),
    ],
)
def test_without_a_processor_there_is_no_rate(spec: dict[str, Any], status: dict[str, Any]) -> None:
    shown = details(live(rate=2.5), spec=spec, **status, counts={"total": 100})
    assert (shown["rate"], shown["eta_s"]) == (None, None)


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_an_ended_batch_has_the_cost_that_its_status_has(phase: Phase) -> None:
    shown = details(None, **in_phase(phase), usage=TOKENS, pricing=PRICING, cost=COST, gpuSeconds=40)
    assert shown["cost"] == {"currency": "EUR", "total": 0.00002, "per_million_tokens": 2.857143}
    assert shown["gpu_seconds"] == 40


def test_a_batch_whose_model_had_no_pricing_has_no_cost() -> None:
    assert details(live(), **in_phase(Phase.IN_PROGRESS), usage=TOKENS, gpuSeconds=40)["cost"] is None


@pytest.mark.parametrize("phase", RUNNING)
def test_the_cost_of_a_running_batch_is_that_of_the_usage_that_is_shown(phase: Phase) -> None:
    status = in_phase(phase, usage=TOKENS, pricing=PRICING, cost=COST, gpuSeconds=10)
    fresh = live(completed=1, usage=Usage(input_tokens=500_000, output_tokens=250_000, total_tokens=750_000))
    shown = details(fresh, **status)["cost"]
    assert shown == {"currency": "EUR", "total": 1.0 + 2.0 + 0.01, "per_million_tokens": 4.013333}
    known = details(live(), **status)["cost"]
    assert known == {"currency": "EUR", "total": 0.01002, "per_million_tokens": 1431.428571}


def test_before_its_first_token_a_batch_may_cost_gpus() -> None:
    shown = details(live(), **in_phase(Phase.IN_PROGRESS), pricing=PRICING, gpuSeconds=1_000)["cost"]
    assert shown == {"currency": "EUR", "total": 1.0, "per_million_tokens": None}


def test_a_cost_never_falls_while_the_operator_copies_the_usage() -> None:
    shown = []
    for tokens in range(0, 4_000, 500):
        usage = {"inputTokens": tokens // 1_000 * 1_000, "totalTokens": tokens // 1_000 * 1_000}
        now = live(completed=1, usage=Usage(input_tokens=tokens, total_tokens=tokens))
        cost = details(now, **in_phase(Phase.IN_PROGRESS), pricing=PRICING, usage=usage)["cost"]
        shown.append(cost["total"])
    assert all(before <= after for before, after in pairwise(shown))
    assert shown[-1] == 0.007


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_the_rate_of_a_batch_is_that_of_all_its_slices(api: Api) -> None:
    status = {"slices": 2, "counts": {"total": 100}, "conditions": [condition()]}
    batch = await a_batch_in(api, Phase.IN_PROGRESS, **status)
    for slice_no in range(2):
        log = SliceLog(api.bucket, batch.metadata.uid, slice_no, rate=1.3)
        await log.append([b"{}\n"])
    shown = (await api.get(f"batches/{batch.id}"))["x_details"]
    assert (shown["remaining"], shown["rate"], shown["eta_s"]) == (98, 2.6, 38)


async def test_a_list_shows_what_the_status_has(api: Api) -> None:
    batch = await a_batch_in(api, Phase.IN_PROGRESS, counts={"total": 9}, pricing=PRICING, cost=COST, usage=TOKENS)
    await SliceLog(api.bucket, batch.metadata.uid, rate=1.0).append([b"{}\n"], tokens=1_000_000)
    [listed] = (await api.get("batches"))["data"]
    assert listed["x_details"]["cost"]["total"] == 0.00002
    assert [listed["x_details"][key] for key in ("duration_s", "rate", "eta_s", "remaining")] == [None, None, None, 9]
    live_one = (await api.get(f"batches/{batch.id}"))["x_details"]
    assert (live_one["cost"]["total"], live_one["remaining"]) == (2.0, 8)
