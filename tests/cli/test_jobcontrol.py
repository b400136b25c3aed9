"""Kubernetes' rules for Jobs, as far as ours use them (kubernetes.md 5): indexes, failure policy, limits, endings."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_cli.local.jobcontrol import (
    Ending,
    Verdict,
    build_job_status,
    build_pod_status,
    exit_code_of,
    expiry_of,
    index_of,
    judge,
    phase_of,
    plan,
)
from nightshift_crds.cluster.port import Manifest
from tests.builders import T0, timestamp
from tests.cli.given import a_job, a_pod, being_deleted, ended, later, running, started

# --- which pods there are ---------------------------------------------------------------------------------------------


def test_a_new_job_gets_one_pod_for_every_index() -> None:
    assert plan(a_job(completions=3), [], T0).indexes == (0, 1, 2)


def test_an_index_with_a_pod_that_has_not_failed_gets_no_other() -> None:
    job = a_job(completions=3)
    pods = [a_pod(job, 0), running(a_pod(job, 1)), ended(a_pod(job, 2), 0)]
    assert plan(job, pods, T0).indexes == ()


def test_a_pod_that_is_being_deleted_keeps_its_index_until_it_is_gone() -> None:
    job = a_job()
    pod = being_deleted(running(a_pod(job)))
    assert plan(job, [pod], T0).indexes == ()
    assert plan(job, [being_deleted(ended(pod, 143))], later(1)).indexes == (0,)


def test_a_failed_index_gets_its_next_pod_after_a_delay_that_doubles_up_to_a_cap() -> None:
    job = a_job(backoffLimit=100)
    for failures, delay_s in ((1, 0.5), (2, 1), (3, 2), (7, 32), (8, 60), (50, 60)):
        pods = [ended(a_pod(job, name=str(n)), 1) for n in range(failures)]
        waiting = plan(job, pods, later(delay_s - 0.01))
        assert (waiting.indexes, waiting.again_at) == ((), later(delay_s))
        assert plan(job, pods, later(delay_s)).indexes == (0,)


def test_the_delay_of_an_index_is_no_matter_of_another() -> None:
    job = a_job(completions=2)
    pods = [ended(a_pod(job, 0, name), 1) for name in "abc"]
    assert plan(job, pods, later(0.1)).indexes == (1,)


def test_a_disrupted_pod_is_replaced_at_once_and_stays() -> None:
    job = a_job(backoffLimit=0)
    pods = [ended(a_pod(job, name=str(n)), 143, disrupted=True) for n in range(20)]
    planned = plan(job, pods, T0)
    assert planned.indexes == (0,)
    assert planned.surplus == ()
    assert planned.ending is None


# --- what a failure means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "disrupted", "verdict"),
    [
        (1, False, Verdict.COUNT),
        (75, False, Verdict.COUNT),
        (137, True, Verdict.IGNORE),
        (40, False, Verdict.FAIL_JOB),
        (41, True, Verdict.FAIL_JOB),
    ],
)
def test_the_first_rule_that_matches_judges_a_failure(exit_code: int, disrupted: bool, verdict: Verdict) -> None:
    job = a_job()
    assert judge(job, ended(a_pod(job), exit_code, disrupted=disrupted)) is verdict


def test_a_rule_about_a_container_does_not_read_the_code_of_another() -> None:
    job = a_job()
    pod = a_pod(job) | {"status": build_pod_status("sidecar", 40, T0, disrupted=False)}
    assert judge(job, pod) is Verdict.COUNT


def test_a_rule_may_say_that_a_failure_counts() -> None:
    rules = [{"action": "Count", "onExitCodes": {"operator": "In", "values": [3]}}]
    job = a_job(podFailurePolicy={"rules": rules})
    assert judge(job, ended(a_pod(job), 3)) is Verdict.COUNT


def test_without_a_policy_every_failure_counts() -> None:
    job = a_job()
    del job["spec"]["podFailurePolicy"]
    assert judge(job, ended(a_pod(job), 40, disrupted=True)) is Verdict.COUNT


# --- how a Job ends ---------------------------------------------------------------------------------------------------


def ending_of(job: Manifest, *pods: Manifest, now: datetime = T0) -> str | None:
    ending = plan(job, pods, now).ending
    return f"{ending.condition} {ending.reason}".strip() if ending else None


def test_a_job_is_complete_when_every_index_has_succeeded_whatever_failed_before() -> None:
    job = a_job(completions=2)
    pods = [ended(a_pod(job, 0), 1), ended(a_pod(job, 0, "b"), 0), ended(a_pod(job, 1), 0)]
    assert ending_of(job, *pods) == "Complete"
    assert ending_of(job, *pods[:2]) is None


def test_a_final_exit_code_fails_the_job_at_once_and_stops_its_other_pods() -> None:
    job = a_job(completions=3)
    pods = [ended(a_pod(job, 0), 40), running(a_pod(job, 1)), a_pod(job, 2)]
    planned = plan(job, pods, T0)
    assert planned.indexes == ()
    assert planned.surplus == (pods[1]["metadata"]["name"], pods[2]["metadata"]["name"])


def test_a_job_has_not_failed_while_one_of_its_pods_may_still_write() -> None:
    job = a_job(completions=2)
    failed, other = ended(a_pod(job, 0), 40), running(a_pod(job, 1))
    assert ending_of(job, failed, other) is None
    assert ending_of(job, failed, being_deleted(other)) is None
    assert ending_of(job, failed, being_deleted(ended(other, 143))) == "Failed PodFailurePolicy"
    assert ending_of(job, failed) == "Failed PodFailurePolicy"


def test_the_message_of_a_failed_job_names_pod_and_exit_code() -> None:
    job = a_job()
    pod = ended(a_pod(job), 41)
    ending = plan(job, [pod], T0).ending
    assert ending is not None
    assert pod["metadata"]["name"] in ending.message
    assert "exit code 41" in ending.message


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_job_fails_when_more_pods_have_failed_than_its_limit(limit: int) -> None:
    job = a_job(backoffLimit=limit)
    pods = [ended(a_pod(job, name=str(n)), 1) for n in range(limit + 1)]
    assert ending_of(job, *pods) == "Failed BackoffLimitExceeded"
    assert ending_of(job, *pods[1:]) is None


def test_a_job_fails_at_its_deadline_once_its_pods_are_gone_and_for_no_other_reason() -> None:
    job = started(a_job(activeDeadlineSeconds=60, backoffLimit=0))
    pod = running(a_pod(job))
    assert plan(job, [pod], later(59)).again_at == later(60)
    assert plan(job, [pod], later(60)).surplus == (pod["metadata"]["name"],)
    assert ending_of(job, pod, now=later(60)) is None
    assert ending_of(job, being_deleted(ended(pod, 143)), now=later(61)) == "Failed DeadlineExceeded"


def test_a_job_that_is_done_at_its_deadline_is_complete() -> None:
    job = started(a_job(activeDeadlineSeconds=60))
    assert ending_of(job, ended(a_pod(job), 0), now=later(100)) == "Complete"


@pytest.mark.parametrize("job", [a_job(activeDeadlineSeconds=60), started(a_job())])
def test_a_job_that_has_not_started_or_names_no_deadline_has_none(job: Manifest) -> None:
    assert ending_of(job, running(a_pod(job)), now=later(1e6)) is None


def test_a_job_is_removed_when_its_time_to_live_is_over() -> None:
    job = a_job(ttlSecondsAfterFinished=60)
    assert expiry_of(job) is None
    over = job | {"status": build_job_status(job, [], Ending("Complete"), T0)}
    assert expiry_of(over) == later(60)
    del over["spec"]["ttlSecondsAfterFinished"]
    assert expiry_of(over) == later(3600)


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_status_of_a_job_counts_its_pods_and_keeps_its_start() -> None:
    job = a_job(completions=4)
    pods = [a_pod(job, 0), running(a_pod(job, 1)), ended(a_pod(job, 2), 0), ended(a_pod(job, 3), 1)]
    status = build_job_status(started(job), pods, None, later(5))
    assert status == {"startTime": timestamp(T0), "active": 2, "succeeded": 1, "failed": 1}


def test_a_pod_belongs_to_its_job_and_knows_its_index() -> None:
    job = a_job(completions=4)
    pod = a_pod(job, 3, "x")
    assert pod["metadata"]["name"] == "job-3-x"
    assert index_of(pod) == 3
    assert [(o["uid"], o["controller"]) for o in pod["metadata"]["ownerReferences"]] == [("uid-of-job", True)]
    assert pod["metadata"]["labels"] == {"nightshift.dev/step": "run", "batch.kubernetes.io/job-name": "job"}


@pytest.mark.parametrize(("code", "phase"), [(None, "Running"), (0, "Succeeded"), (1, "Failed"), (143, "Failed")])
def test_a_pod_is_judged_by_its_exit_code(code: int | None, phase: str) -> None:
    pod = a_pod(a_job()) | {"status": build_pod_status("processor", code, T0, disrupted=False)}
    assert (phase_of(pod), exit_code_of(pod)) == (phase, code)


def test_a_pod_says_when_it_was_started() -> None:
    status = build_pod_status("processor", None, T0, disrupted=False)
    assert status["startTime"] == status["containerStatuses"][0]["state"]["running"]["startedAt"] == timestamp(T0)


# --- any history ------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A Job, its pods and a clock; `step` does what a runner does with a plan, then something happens."""

    job: Manifest
    now: datetime = T0
    pods: list[Manifest] = field(default_factory=list)
    made: int = 0
    ending: Ending | None = None

    def step(self, event: tuple[int, Any]) -> None:
        self.follow_plan()
        which, what = event
        live = [n for n, pod in enumerate(self.pods) if phase_of(pod) in {"Pending", "Running"}]
        self.now += timedelta(seconds=1)
        if live and what is not None:
            n = live[which % len(live)]
            self.pods[n] = running(self.pods[n]) if what == "start" else ended(self.pods[n], what, self.now)

    def follow_plan(self) -> None:
        planned = plan(self.job, self.pods, self.now)
        self.ending = self.ending or planned.ending
        for index in planned.indexes:
            self.made += 1
            self.pods.append(a_pod(self.job, index, str(self.made)))
        for n, pod in enumerate(self.pods):
            if pod["metadata"]["name"] in planned.surplus:
                self.pods[n] = being_deleted(pod)


EVENTS = st.tuples(st.integers(0, 5), st.sampled_from(["start", 0, 1, 40, 75, 143, None]))


@given(st.integers(1, 4), st.integers(0, 3), st.lists(EVENTS, max_size=40))
def test_no_index_ever_has_two_live_pods_and_no_job_is_complete_without_all(
    completions: int, limit: int, events: list[tuple[int, Any]]
) -> None:
    world = World(started(a_job(completions=completions, backoffLimit=limit, activeDeadlineSeconds=30)))
    for event in events:
        world.step(event)
        live = Counter(index_of(pod) for pod in world.pods if phase_of(pod) in {"Pending", "Running"})
        assert all(count == 1 for count in live.values())
        if world.ending:
            succeeded = {index_of(pod) for pod in world.pods if phase_of(pod) == "Succeeded"}
            assert (world.ending.condition == "Complete") is (succeeded == set(range(completions)))
            return


@given(st.integers(1, 4), st.lists(EVENTS, max_size=40))
def test_every_job_ends_once_its_pods_succeed(completions: int, events: list[tuple[int, Any]]) -> None:
    world = World(started(a_job(completions=completions, backoffLimit=100)))
    for event in [(which, what) for which, what in events if what != 40]:
        world.step(event)
    for _ in range(200):
        world.step((0, 0))
    assert world.ending == Ending("Complete")
