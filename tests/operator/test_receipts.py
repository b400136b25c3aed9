"""GPU-seconds and costs: what is written of them, when, and that nothing is lost, counted twice or taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds.cluster.port import HOSTED_MODEL
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJobStatus, Cost, Pricing
from nightshift_crds.names import Step, job_name
from nightshift_crds.records import RecordKind, State
from nightshift_operator.controller import Key
from nightshift_operator.decide import decide
from nightshift_operator.decisions import CreateJob, DeleteJob
from nightshift_operator.facts import JobState, Observed, Pod
from tests.builders import BATCH_UID, NAMESPACE, a_batch, a_model
from tests.operator.builders import NOW, POLICY, a_job, a_manifest, a_status, decided, observed, sealed, with_status
from tests.operator.world import Crash, Fuse, World

PRICING = {"currency": "EUR", "perMillionInputTokens": 1, "perMillionOutputTokens": 2, "perGpuHour": 3.6}
INTERVAL_S = POLICY.progress_interval_s
POD = "pod-0"
DELETE = DeleteJob(job_name(BATCH_UID, Step.RUN, 1), "run-uid")


def a_pod(uid: str = POD, *, gpus: int = 2, since_s: float = 100, ended_s: float | None = None) -> Pod:
    """Build a pod that started so many seconds ago, and ended so many seconds ago."""
    ended_at = None if ended_s is None else NOW - timedelta(seconds=ended_s)
    return Pod(uid, uid, running=True, gpus=gpus, started_at=NOW - timedelta(seconds=since_s), ended_at=ended_at)


def running(*pods: Pod, status: dict[str, Any] | None = None, **facts: Any) -> Observed:
    """Observe a batch at work whose conditions say so already, so that a pass has nothing else to write."""
    spec = facts.pop("spec", {})
    facts = {"run": a_job(pods=pods)} | facts
    whole = a_status(Phase.IN_PROGRESS, gpuSeconds=0, pricing=PRICING) | (status or {})
    seen = observed(status=whole, spec=spec, **facts)
    says = decide(seen, NOW, POLICY).status
    if status is None and says is not None:
        says = says.model_copy(update={"gpu_seconds": 0, "gpu_seconds_by_pod": {}, "cost": None})
        return replace(seen, batch=with_status(seen.batch, says))
    return seen


def written(seen: Observed, now: datetime = NOW) -> BatchJobStatus:
    status = decided(seen, now).status
    assert status is not None
    return status


def gpu_cost(gpu_seconds: int) -> Cost:
    return Cost(currency="EUR", total=f"{gpu_seconds // 1_000}.{gpu_seconds % 1_000:03}000")


# --- pricing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pricing", [None, PRICING])
def test_the_pricing_of_a_batch_is_that_which_its_model_has_when_it_begins(pricing: dict[str, Any] | None) -> None:
    model = a_model(pricing=pricing) if pricing else a_model()
    status = written(observed(models=(model,)))
    assert status.phase is Phase.IN_PROGRESS
    assert status.pricing == (Pricing.model_validate(pricing) if pricing else None)
    assert (status.gpu_seconds, status.cost) == (0, gpu_cost(0) if pricing else None)


async def test_a_price_that_changes_does_not_change_a_batch_that_has_begun(world: World) -> None:
    await world.add_model(pricing={"perMillionInputTokens": 1_000_000, "currency": "EUR"})
    await world.add_input()
    key = await world.add_batch()
    await passes(world, key)
    [model] = await world.all(HOSTED_MODEL)
    dearer = {"spec": {"pricing": {"perMillionInputTokens": 2_000_000}}}
    await world.cluster.patch(HOSTED_MODEL, NAMESPACE, model["metadata"]["name"], dearer)
    await world.log(key, RecordKind.END, completed=8, failed=2)
    await world.end_job(key, exit_code=Exit.DONE)
    await passes(world, key)
    await world.seal(key, completed=8, failed=2)
    await passes(world, key)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.cost) == (Phase.COMPLETED, Cost(currency="EUR", total="24.000000"))


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_copy_of_progress_says_what_it_costs() -> None:
    usage = Usage(input_tokens=500_000, output_tokens=250_000, total_tokens=750_000)
    seen = running(a_pod(since_s=50), progress=State(completed=9, failed=1, usage=usage))
    decision = decided(seen)
    assert decision.is_progress
    status = decision.status
    assert status is not None
    assert (status.gpu_seconds, status.gpu_seconds_by_pod) == (100, {"pod0": 100})
    assert status.cost == Cost(currency="EUR", total="1.100000")


@pytest.mark.parametrize(("pod", "gpu_seconds"), [
    (a_pod(since_s=INTERVAL_S), None),
    (a_pod(since_s=INTERVAL_S + 1), 2 * int(INTERVAL_S + 1)),
    (a_pod(since_s=3, ended_s=1), 4),
    (a_pod(since_s=1, ended_s=1), None),
    (a_pod(since_s=-5), None),
    (a_pod(gpus=0, since_s=500), None),
    (replace(a_pod(), started_at=None), None),
])  # fmt: skip
def test_gpu_seconds_alone_are_copied_now_and_then_and_at_the_end_of_a_pod(pod: Pod, gpu_seconds: int | None) -> None:
    decision = decided(running(pod))
    assert (decision.status.gpu_seconds if decision.status else None) == gpu_seconds
    assert decision.is_progress is (gpu_seconds is not None)
    assert decision.requeue_after_s == INTERVAL_S


def test_a_pod_is_counted_in_whole_seconds_by_the_clock_of_its_node() -> None:
    started = NOW - timedelta(seconds=30, milliseconds=-700)
    pod = Pod(POD, POD, gpus=1, started_at=started, ended_at=NOW - timedelta(seconds=9.9))
    assert pod.gpu_seconds(NOW) == 20
    assert Pod(POD, POD, gpus=1).gpu_seconds(NOW) == 0


def test_what_a_pod_was_seen_with_is_not_taken_back() -> None:
    """Its node says that it ended before the last write, by a clock that is behind ours."""
    known = {"gpuSeconds": 500, "gpuSecondsByPod": {"pod0": 240}}
    status = written(running(a_pod(since_s=100, ended_s=10), status=known, ended_at=NOW))
    assert (status.gpu_seconds, status.gpu_seconds_by_pod) == (500, {"pod0": 240})


def test_of_a_pod_that_is_gone_stays_what_was_seen() -> None:
    known = {"gpuSeconds": 500, "gpuSecondsByPod": {"pod0": 240, "pod1": 10}}
    status = written(running(a_pod("pod-1", since_s=20), status=known, ended_at=NOW))
    assert (status.gpu_seconds, status.gpu_seconds_by_pod) == (530, {"pod1": 40})


def test_of_too_many_pods_those_are_counted_on_that_were() -> None:
    pods = [a_pod(f"pod-{n:03}", gpus=1, since_s=10) for n in range(300)]
    known = {"gpuSeconds": 10, "gpuSecondsByPod": {"pod299": 10}}
    status = written(running(*pods, status=known, ended_at=NOW))
    assert len(status.gpu_seconds_by_pod) == 256
    assert (status.gpu_seconds, status.gpu_seconds_by_pod["pod299"]) == (2_560, 10)


def test_an_older_batch_without_a_price_is_counted_and_costs_nothing() -> None:
    seen = observed(status=a_status(Phase.IN_PROGRESS), run=a_job(pods=(a_pod(),)))
    assert (written(seen).gpu_seconds, written(seen).cost) == (200, None)


def test_the_end_of_a_batch_has_the_usage_of_the_manifest_and_all_pods() -> None:
    run = a_job(state=JobState.COMPLETE, pods=(a_pod(since_s=500, ended_s=0), a_pod("pod-1", since_s=50, ended_s=40)))
    known = a_status(
        Phase.FINALIZING, Sealing.COMPLETED, gpuSeconds=900, gpuSecondsByPod={"pod0": 700}, pricing=PRICING
    )
    status = written(observed(status=known, run=run, sealed=sealed(a_manifest(completed=8))))
    assert (status.phase, status.gpu_seconds, status.gpu_seconds_by_pod) == (Phase.COMPLETED, 1_220, {})
    assert status.cost == Cost(currency="EUR", total="1.220040")


def test_nothing_of_a_batch_that_has_ended_changes_any_more() -> None:
    ended = a_status(Phase.COMPLETED, Sealing.COMPLETED, gpuSeconds=900, pricing=PRICING)
    decision = decided(observed(status=ended, run=a_job(state=JobState.COMPLETE, pods=(a_pod(),))))
    assert (decision.actions, decision.status) == ((DELETE,), None)


# --- before something is taken away -----------------------------------------------------------------------------------


TEARDOWNS: dict[str, dict[str, Any]] = {
    "suspended": {"spec": {"suspend": True}},
    "failed": {"state": JobState.FAILED},
    "window closed": {"closes_at": NOW},
    "cancelled": {"phase": Phase.CANCELLING, "sealing": Sealing.CANCELLED},
}


@pytest.mark.parametrize("why", TEARDOWNS)
def test_what_a_run_has_used_is_written_before_its_job_is_deleted(why: str) -> None:
    seen = to_tear_down(**TEARDOWNS[why])
    first = decided(seen)
    assert (first.actions, first.requeue_after_s, first.is_progress) == ((), 0, False)
    assert first.status == seen.batch.status.model_copy(
        update={"gpu_seconds": 200, "gpu_seconds_by_pod": {"pod0": 200}, "cost": gpu_cost(200)}
    )
    second = decided(replace(seen, batch=with_status(seen.batch, first.status)), NOW + timedelta(seconds=1))
    assert DELETE in second.actions
    assert second.status is not None
    assert (second.status.gpu_seconds, second.status.cost) == (202, gpu_cost(202))


def to_tear_down(
    phase: Phase = Phase.IN_PROGRESS, sealing: Sealing | None = None, spec: dict[str, Any] | None = None, **job: Any
) -> Observed:
    status = a_status(phase, sealing, gpuSeconds=0, pricing=PRICING)
    return observed(status=status, spec=spec, run=a_job(pods=(a_pod(),), **job))


def test_without_gpus_a_job_is_deleted_at_once() -> None:
    seen = observed(Phase.CANCELLING, Sealing.CANCELLED, run=a_job(pods=(a_pod(gpus=0),)))
    assert (decided(seen).actions, decided(seen).status) == ((DELETE,), None)


def test_pods_that_are_torn_down_are_counted_on() -> None:
    known = a_status(Phase.CANCELLING, Sealing.CANCELLED, gpuSeconds=200, gpuSecondsByPod={"pod0": 200})
    run = a_job(pods=(a_pod(since_s=130),), deleting_at=NOW)
    assert written(observed(status=known, run=run)).gpu_seconds == 260


def test_what_else_is_to_be_done_does_not_wait_for_the_budget_of_progress() -> None:
    """The pod of a complete Job is seen to have ended late; the files are to be sealed."""
    run = a_job(state=JobState.COMPLETE, pods=(a_pod(since_s=30, ended_s=1),))
    decision = decided(observed(status=a_status(Phase.FINALIZING, Sealing.COMPLETED), run=run))
    assert (decision.actions, decision.is_progress) == ((CreateJob(Step.SEAL),), False)
    assert decision.status is not None
    assert decision.status.gpu_seconds == 58


# --- over any history -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """A pod: when it starts, ends and is removed, in seconds."""

    uid: str
    gpus: int
    start: int
    end: int
    gone: int

    def seen(self, at: int) -> Pod | None:
        if not self.start <= at < self.gone:
            return None
        ended_at = NOW + timedelta(seconds=self.end) if self.end <= at else None
        return Pod(
            self.uid, self.uid, gpus=self.gpus, started_at=NOW + timedelta(seconds=self.start), ended_at=ended_at
        )


def lives(uid: str) -> st.SearchStrategy[Life]:
    spans = st.tuples(st.integers(0, 300), st.integers(0, 200), st.integers(0, 200))
    return st.builds(
        lambda gpus, span: Life(uid, gpus, span[0], span[0] + span[1], sum(span)), st.integers(0, 8), spans
    )


@given(
    st.tuples(*(lives(f"pod-{n}") for n in range(4))),
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=20).map(sorted),
)
def test_gpu_seconds_are_those_that_were_seen_of_every_pod_whatever_writes_are_lost(
    pods: Sequence[Life], looks: Sequence[tuple[int, bool]]
) -> None:
    """A pass that is not `kept` ends before its write: the operator was killed, or somebody else has written."""
    batch = a_batch(status=a_status(Phase.IN_PROGRESS, gpuSeconds=0, pricing=PRICING))
    seen_of: dict[str, int] = {}
    for at, is_kept in looks:
        now = NOW + timedelta(seconds=at)
        visible = tuple(pod for life in pods if (pod := life.seen(at)))
        status = decide(Observed(batch, run=a_job(pods=visible)), now, POLICY).status
        if status is not None and is_kept:
            assert (status.gpu_seconds or 0) >= (batch.status.gpu_seconds or 0)
            batch = with_status(batch, status)
            seen_of |= {pod.uid: pod.gpu_seconds(now) for pod in visible}
    assert batch.status.gpu_seconds == sum(seen_of.values())
    assert sum(seen_of.values()) <= sum(life.gpus * (life.end - life.start) for life in pods)


# --- an operator that is killed ---------------------------------------------------------------------------------------


async def passes(world: World, key: Key, count: int = 6) -> None:
    for _ in range(count):
        await world.operator().reconcile(key)


@pytest.fixture
async def served(world: World) -> Key:
    """A batch at work on two GPUs for a minute."""
    server = {"image": "vllm:1", "resources": {"nvidia.com/gpu": 2}}
    await world.add_model(service=None, server=server, pricing=PRICING)
    await world.add_input()
    key = await world.add_batch()
    await passes(world, key)
    await world.log(key, RecordKind.PART, completed=4, failed=1)
    job = await world.job(key)
    started = (world.clock() - timedelta(seconds=60)).isoformat()
    running = [{"name": "processor", "state": {"running": {}}}]
    await world.add_pod(job, phase="Running", startTime=started, containerStatuses=running)
    return key


@pytest.mark.parametrize("loses_answer", [False, True])
async def test_wherever_an_operator_is_killed_what_a_torn_down_run_has_used_is_counted_once(
    world: World, served: Key, loses_answer: bool
) -> None:
    await world.ask(served, suspend=True)
    crashes = 0
    for calls in range(40):
        try:
            await world.operator(Fuse(calls, loses_answer=loses_answer)).reconcile(served)
        except Crash:
            crashes += 1
        status = (await world.batch(served)).status
        assert (status.gpu_seconds or 0) <= 2 * 65
    await world.reap_pods()
    await passes(world, served)
    batch = await world.batch(served)
    assert crashes > 3
    assert 2 * 60 <= (batch.status.gpu_seconds or 0) <= 2 * 65
    assert batch.status.cost == gpu_cost(batch.status.gpu_seconds or 0)
