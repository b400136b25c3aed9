"""What the operator counts, by whole lives of batches on a real cluster and bucket, and what it calls behind."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Propagation
from nightshift_crds.errors import Stale, Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_crds.metrics import OTHER, UNKNOWN
from nightshift_crds.records import RecordKind
from nightshift_operator.controller import Controller, Key
from nightshift_operator.metrics import Metrics, Standing, is_behind
from nightshift_operator.settings import Settings
from tests.builders import BATCH_UUID, MODEL, a_batch
from tests.operator.builders import DEADLINE, a_status
from tests.operator.test_sweep import FILE_NAME, add_input, leave_orphans, own, sweeping
from tests.operator.test_work import impatient
from tests.operator.world import Outage, World

HOUR = timedelta(hours=1)


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """What a metric has come to, by its labels."""
    samples = [s for f in metrics.page.registry.collect() for s in f.samples if s.name == f"nightshift_{name}"]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


@pytest.fixture
def metrics(world: World) -> Metrics:
    return Metrics(now=world.clock)


def counting(world: World, metrics: Metrics) -> Controller:
    operator = world.operator()
    return replace(operator, applier=replace(operator.applier, metrics=metrics), metrics=metrics)


async def rest(world: World, metrics: Metrics, key: Key) -> None:
    while await counting(world, metrics).reconcile(key) == 0:
        pass


async def started(world: World, metrics: Metrics) -> Key:
    await world.add_model()
    await world.add_input()
    key = await world.add_batch()
    await rest(world, metrics, key)
    return key


async def test_a_batch_is_counted_from_its_creation_to_its_end_and_then_let_go(world: World, metrics: Metrics) -> None:
    key = await started(world, metrics)
    assert counted(metrics, "batches") == {("IN_PROGRESS", MODEL): 1}
    assert counted(metrics, "batches_behind") == {(MODEL,): 0}
    assert counted(metrics, "batch_pickup_seconds_count") == {(MODEL,): 1}
    assert counted(metrics, "batch_attempts_total") == {(MODEL,): 1}
    await world.log(key, RecordKind.END, completed=8, failed=2)
    await world.end_job(key)
    await rest(world, metrics, key)
    await world.seal(key, completed=8, failed=2)
    await rest(world, metrics, key)
    assert counted(metrics, "batches") == {("COMPLETED", MODEL): 1}
    assert counted(metrics, "batch_transitions_total") == {
        ("VALIDATING", "IN_PROGRESS"): 1,
        ("IN_PROGRESS", "FINALIZING"): 1,
        ("FINALIZING", "COMPLETED"): 1,
    }
    assert counted(metrics, "batch_ends_total") == {("COMPLETED", MODEL): 1}
    rows = {(MODEL, "completed"): 8, (MODEL, "failed"): 2, (MODEL, "never_ran"): 0}
    assert counted(metrics, "batch_rows_total") == rows
    tokens = {(MODEL, "input"): 24, (MODEL, "cached"): 0, (MODEL, "output"): 8, (MODEL, "reasoning"): 0}
    assert counted(metrics, "batch_tokens_total") == tokens
    assert counted(metrics, "batch_gpu_seconds_total") == {(MODEL,): 0}
    assert counted(metrics, "batch_cost_total") == {}
    assert counted(metrics, "batch_deadline_margin_seconds_count") == {(MODEL,): 1}
    assert 23 * 3_600 < counted(metrics, "batch_deadline_margin_seconds_sum")[MODEL,] <= 86_400

    world.clock.offset += HOUR
    for _ in range(5):
        await rest(world, metrics, key)
        await world.reap_pods()
    assert counted(metrics, "batches") == {}


def test_cost_and_gpu_time_are_counted_and_what_a_rerun_took_over_is_not_counted_again() -> None:
    metrics = Metrics()
    before = a_batch(status={"phase": "FINALIZING", "model": MODEL})
    receipt = {"gpuSeconds": 90, "cost": {"currency": "EUR", "total": "1.250000"}}
    after = {"phase": "COMPLETED", "model": MODEL, "reused": 7, "counts": {"total": 10, "completed": 9, "failed": 1}}
    metrics.moved(before, a_batch(status=after | receipt).status)
    assert counted(metrics, "batch_rows_total")[MODEL, "completed"] == 2
    assert counted(metrics, "batch_gpu_seconds_total") == {(MODEL,): 90}
    assert counted(metrics, "batch_cost_total") == {(MODEL, "EUR"): 1.25}


async def test_a_batch_that_is_refused_has_no_model_and_no_tokens(world: World, metrics: Metrics) -> None:
    key = await world.add_batch()
    await rest(world, metrics, key)
    assert counted(metrics, "batch_ends_total") == {("FAILED", UNKNOWN): 1}
    assert counted(metrics, "batch_tokens_total") == {}


async def test_an_attempt_that_comes_to_nothing_is_counted_by_its_reason(world: World, metrics: Metrics) -> None:
    key = await started(world, metrics)
    await world.end_job(key, how="Failed", exit_code=1)
    await rest(world, metrics, key)
    assert counted(metrics, "batch_retries_total") == {("Crashed",): 1}


async def test_a_pause_is_no_failed_attempt(world: World, metrics: Metrics) -> None:
    key = await started(world, metrics)
    await world.ask(key, suspend=True)
    await rest(world, metrics, key)
    await world.ask(key, suspend=False)
    await rest(world, metrics, key)
    assert counted(metrics, "batch_attempts_total") == {(MODEL,): 2}
    assert counted(metrics, "batch_retries_total") == {}


async def test_a_deleted_batch_is_forgotten(world: World, metrics: Metrics) -> None:
    key = await started(world, metrics)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    assert await counting(world, metrics).reconcile(key) is None
    assert counted(metrics, "batches") == {}


@pytest.mark.parametrize(
    ("error", "result"),
    [(Stale("changed"), "conflict"), (Unavailable("away", delay_s=0), "unavailable"), (RuntimeError("bug"), "failed")],
)
async def test_passes_are_counted_by_their_result(
    world: World, metrics: Metrics, error: Exception, result: str
) -> None:
    await world.add_model()
    await world.add_input()
    key = await world.add_batch()
    operator = replace(impatient(world.operator(Outage(0, error))), metrics=metrics)
    with capture_logs():
        await operator._pass(key)
        await operator._pass(key)
    others = {("conflict",), ("unavailable",), ("failed",)} - {(result,)}
    passes = {(result,): 1, ("done",): 1} | dict.fromkeys(others, 0)
    assert counted(metrics, "reconcile_seconds_count") == passes


def test_models_beyond_the_limit_are_one() -> None:
    metrics = Metrics(max_models=1)
    for model in ("first", "second", "third"):
        status = a_status(Phase.IN_PROGRESS, model=model)
        metrics.saw(a_batch(status=status, metadata={"name": model}))
    assert counted(metrics, "batches") == {("IN_PROGRESS", "first"): 1, ("IN_PROGRESS", OTHER): 2}
    assert Settings(cluster="", bucket="").metrics_max_models == 100


def test_a_queue_is_shown_as_it_is() -> None:
    metrics = Metrics()
    metrics.watch_queue(lambda: 3, lambda: 1.5)
    assert counted(metrics, "queue_depth") == {(): 3}
    assert counted(metrics, "queue_oldest_seconds") == {(): 1.5}


# --- behind -----------------------------------------------------------------------------------------------------------


def standing(**status: Any) -> Standing:
    return Standing.of(a_batch(status=a_status(Phase.IN_PROGRESS) | status), MODEL)


def counts(done: int) -> dict[str, Any]:
    return {"counts": {"total": 100, "completed": done, "failed": 0}}


@pytest.mark.parametrize(("now", "done", "expected"), [
    (DEADLINE - 7 * HOUR, 1, False),
    (DEADLINE - 6 * HOUR, 1, True),
    (DEADLINE - 6 * HOUR, 74, True),
    (DEADLINE - 6 * HOUR, 76, False),
    (DEADLINE - HOUR, 0, True),
    (DEADLINE - HOUR, 100, False),
    (DEADLINE + HOUR, 99, True),
])  # fmt: skip
def test_behind_is_who_is_near_its_deadline_and_too_slow(now: datetime, done: int, expected: bool) -> None:
    assert is_behind(standing(**counts(done)), now) is expected


def test_behind_is_also_who_has_not_begun_but_nobody_who_has_ended_or_has_no_deadline_yet() -> None:
    near = DEADLINE - HOUR
    waiting = Standing.of(a_batch(status=a_status(Phase.VALIDATING)), UNKNOWN)
    assert is_behind(waiting, near)
    assert not is_behind(Standing.of(a_batch(status=a_status(Phase.COMPLETED)), MODEL), near)
    assert not is_behind(Standing.of(a_batch(), UNKNOWN), near)


def test_who_is_behind_is_counted_by_model() -> None:
    metrics = Metrics(now=lambda: DEADLINE - HOUR)
    metrics.saw(a_batch(status=a_status(Phase.IN_PROGRESS)))
    assert counted(metrics, "batches_behind") == {(MODEL,): 1}


def test_a_completed_batch_has_no_less_than_nothing_left() -> None:
    metrics = Metrics()
    batch = a_batch(status=a_status(Phase.FINALIZING))
    late = batch.status.model_copy(update={"phase": Phase.COMPLETED, "completed_at": DEADLINE + HOUR})
    metrics.moved(batch, late)
    assert counted(metrics, "batch_deadline_margin_seconds_bucket")[MODEL, "0.0"] == 1


def test_a_status_that_stays_in_its_phase_is_no_move() -> None:
    metrics = Metrics()
    batch = a_batch(status=a_status(Phase.IN_PROGRESS))
    metrics.moved(batch, batch.status)
    assert counted(metrics, "batch_transitions_total") == {}


# --- the sweep --------------------------------------------------------------------------------------------------------


async def test_a_sweep_is_counted_with_what_it_found_and_removed(world: World, metrics: Metrics) -> None:
    await own(world)
    await leave_orphans(world, 2)
    sweep = world.sweep()
    sweep.metrics = metrics
    await sweep.run_once(world.clock())
    sizes = counted(metrics, "orphan_bytes")[()]
    assert (counted(metrics, "orphans"), sizes > 0) == ({(): 2}, True)
    world.clock.offset += HOUR
    await sweep.run_once(world.clock())
    assert counted(metrics, "sweep_removed_total")["orphans",] == 2
    assert abs(counted(metrics, "sweep_last_seconds")[()] - world.clock().timestamp()) < 60


async def test_sweeps_that_are_refused_are_counted_by_the_reason(world: World, metrics: Metrics) -> None:
    await own(world, "somebody-else")
    sweep = world.sweep()
    sweep.metrics = metrics
    await sweep.run_once(world.clock())
    assert counted(metrics, "sweep_refusals_total") == {("not_our_bucket",): 1, ("too_many_orphans",): 0}


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("bug")])
async def test_sweeps_that_fail_are_counted(world: World, metrics: Metrics, error: Exception) -> None:
    await add_input(world, -HOUR)
    sweep = world.sweep(Outage(1, error), sweep_interval_s=0.01)
    sweep.metrics = metrics
    with capture_logs():
        async with sweeping(sweep):
            await world.disappears(STORED_FILE, FILE_NAME)
    assert counted(metrics, "sweep_failures_total") == {(): 1}


# --- names in logs ----------------------------------------------------------------------------------------------------


def test_a_name_says_what_the_api_calls_a_batch_if_it_is_of_its_making() -> None:
    assert Key("team-a", f"batch-{BATCH_UUID}").batch_id == f"batch_{BATCH_UUID}"
    assert Key("team-a", "nightly").batch_id == "nightly"
    assert Key("team-a", "batch-nightly").batch_id == "batch-nightly"
