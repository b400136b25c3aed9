"""The races that kubernetes.md 6.2 decides, row by row, on a real cluster and bucket."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, JOB, POD, STORED_FILE, Propagation
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import RecordKind, encode_manifest
from nightshift_operator.controller import Key
from nightshift_operator.decisions import CreateJob, Decision
from nightshift_operator.ending import SEAL_AGAIN_S
from tests.builders import MODEL, NAMESPACE, a_model
from tests.operator.builders import a_manifest
from tests.operator.world import INPUT_KEY, World

FULL = {"completed": 10, "failed": 0}
PART = {"completed": 4, "failed": 1}


async def passes(world: World, key: Key, count: int = 6) -> None:
    for _ in range(count):
        await world.operator().reconcile(key)


@pytest.fixture
async def key(world: World) -> Key:
    """A batch that nobody has looked at yet."""
    await world.add_model()
    await world.add_input()
    return await world.add_batch()


@pytest.fixture
async def running(world: World, key: Key) -> Key:
    await passes(world, key)
    return key


async def phase_of(world: World, key: Key) -> tuple[Phase, Sealing | None]:
    batch = await world.batch(key)
    return batch.phase, batch.status.sealing


async def test_an_operator_that_was_down_over_the_deadline_only_records(world: World, running: Key) -> None:
    """The processor has stopped by itself and its Job is over."""
    await world.log(running, RecordKind.PART, **PART)
    await world.end_job(running, how="Failed", exit_code=Exit.DEADLINE)
    world.clock.offset = timedelta(hours=30)
    await passes(world, running)
    await world.seal(running, **PART)
    await passes(world, running)
    batch = await world.batch(running)
    assert (batch.phase, batch.status.counts.completed) == (Phase.EXPIRED, 4)


@pytest.mark.parametrize("is_over", [True, False], ids=["Job over", "Job still at work"])
async def test_a_batch_that_finished_in_time_and_is_seen_too_late_is_completed(
    world: World, running: Key, is_over: bool
) -> None:
    await world.log(running, RecordKind.END, **FULL)
    if is_over:
        await world.end_job(running)
    world.clock.offset = timedelta(hours=24, seconds=5)
    await world.operator().reconcile(running)
    assert await phase_of(world, running) == (Phase.FINALIZING, Sealing.COMPLETED)


async def test_a_clock_that_is_ahead_by_less_than_the_margin_expires_nothing(world: World, running: Key) -> None:
    await world.log(running, RecordKind.PART, **PART)
    deadline = (await world.batch(running)).status.deadline
    assert deadline is not None
    margin = world.settings.clock_skew_s
    for ahead_s, sealing in ((margin - 1, None), (margin + 1, Sealing.EXPIRED)):
        world.clock.offset = deadline - datetime.now(UTC) + timedelta(seconds=ahead_s)
        await world.operator().reconcile(running)
        assert (await phase_of(world, running))[1] is sealing


async def test_a_cancel_while_validating_ends_at_once_without_files(world: World, key: Key) -> None:
    await world.cancel(key)
    await passes(world, key, 2)
    assert await phase_of(world, key) == (Phase.CANCELLED, None)
    assert [m["metadata"]["name"] for m in await world.all(STORED_FILE)] == [INPUT_KEY[13:-6].replace("_", "-")]


async def test_a_cancel_between_the_creation_of_a_job_and_its_record_finds_the_job_and_deletes_it(
    world: World, key: Key
) -> None:
    operator = world.operator()
    await operator.reconcile(key)
    seen = await operator.observer.observe(*key, world.clock())
    await operator.applier.apply(seen, Decision((CreateJob(Step.RUN, a_model()),)))
    await world.cancel(key)
    await passes(world, key, 2)
    assert await phase_of(world, key) == (Phase.CANCELLING, Sealing.CANCELLED)
    assert await world.all(JOB) == []


async def test_a_cancel_while_a_queue_holds_the_job_deletes_it_and_every_line_is_cancelled(
    world: World, running: Key
) -> None:
    await world.end_job(running, how="Suspended")
    await world.cancel(running)
    await passes(world, running)
    await world.seal(running, completed=0, failed=0)
    await passes(world, running)
    assert (await world.batch(running)).phase is Phase.CANCELLED
    assert (await world.result(running, ResultKind.ERROR)).status.bytes == 30


async def test_a_cancel_while_running_waits_for_the_pods_and_seals_only_then(world: World, running: Key) -> None:
    pod = await world.add_pod(await world.job(running))
    await world.cancel(running)
    await passes(world, running)
    assert [m["metadata"]["name"] for m in await world.all(POD)] == [pod]
    assert [m["metadata"]["name"][-2:] for m in await world.all(JOB)] == ["-1"]
    await world.reap_pods()
    await passes(world, running)
    assert [m["metadata"]["name"][-5:] for m in await world.all(JOB)] == ["-seal"]


async def test_a_teardown_that_takes_more_than_ten_minutes_is_forced(world: World, running: Key) -> None:
    await world.add_pod(await world.job(running))
    await world.cancel(running)
    await passes(world, running)
    world.clock.offset += timedelta(seconds=world.settings.teardown_timeout_s + 2)
    await passes(world, running, 1)
    assert await world.all(POD) == []


async def test_a_cancel_while_finalizing_is_cancelled_and_keeps_every_row(world: World, running: Key) -> None:
    """Where they differ the contract wins over kubernetes.md: a cancel that was accepted ends as cancelled."""
    await world.log(running, RecordKind.END, **FULL)
    await world.end_job(running)
    await passes(world, running)
    await world.cancel(running)
    await passes(world, running)
    assert await phase_of(world, running) == (Phase.CANCELLING, Sealing.COMPLETED)
    await world.seal(running, **FULL)
    await passes(world, running)
    batch = await world.batch(running)
    assert (batch.phase, batch.status.counts.completed) == (Phase.CANCELLED, 10)


async def test_a_cancelled_batch_whose_seal_job_fails_says_so_and_tries_again_after_a_while_until_it_is_sealed(
    world: World, running: Key
) -> None:
    """Every pass is that of an operator which was just started: the wait is the Job's, not ours."""
    await world.log(running, RecordKind.PART, **PART)
    await world.cancel(running)
    await passes(world, running)
    for _ in range(2):
        failed = await world.job(running, Step.SEAL)
        await world.end_job(running, Step.SEAL, "Failed", exit_code=Exit.CONFLICT)
        await passes(world, running)
        assert [job["metadata"]["uid"] for job in await world.all(JOB)] == [failed["metadata"]["uid"]]
        assert [c.reason for c in (await world.batch(running)).status.conditions if c.type == "Progressing"] == [
            "SealFailed"
        ]
        world.clock.offset += timedelta(seconds=SEAL_AGAIN_S + 1)
        await passes(world, running, 1)
        await world.reap_pods()
        await passes(world, running)
        assert (await world.job(running, Step.SEAL))["metadata"]["uid"] != failed["metadata"]["uid"]
        assert await phase_of(world, running) == (Phase.CANCELLING, Sealing.CANCELLED)
    await world.seal(running, **PART)
    await passes(world, running)
    assert (await world.batch(running)).phase is Phase.CANCELLED


async def test_a_cancel_after_the_manifest_but_before_the_end_is_recorded_wins(world: World, running: Key) -> None:
    await world.log(running, RecordKind.END, **FULL)
    await world.end_job(running)
    await passes(world, running)
    await world.seal(running, **FULL)
    await world.cancel(running)
    await passes(world, running)
    assert (await world.batch(running)).phase is Phase.CANCELLED


async def test_a_job_that_says_complete_without_an_end_is_not_believed(world: World, running: Key) -> None:
    for _ in range(3):
        await world.end_job(running, exit_code=Exit.DONE)
        await passes(world, running)
        await world.reap_pods()
        await passes(world, running)
    batch = await world.batch(running)
    assert (batch.phase, batch.status.sealing) == (Phase.IN_PROGRESS, Sealing.FAILED)


async def test_a_manifest_that_does_not_add_up_fails_the_batch_loudly_and_keeps_everything(
    world: World, running: Key
) -> None:
    await world.log(running, RecordKind.END, **FULL)
    await world.end_job(running)
    await passes(world, running)
    uid = (await world.batch(running)).metadata.uid
    manifest = encode_manifest(a_manifest(Sealing.COMPLETED, completed=3, failed=1))
    await world.bucket.put(names.manifest_key(uid), manifest, create_only=True)
    kept = await world.keys()
    await passes(world, running)
    batch = await world.batch(running)
    assert (batch.phase, [e.code for e in batch.status.errors]) == (Phase.FAILED, ["internal_error"])
    assert await world.keys() == kept
    assert "Failed" in await world.events()


async def test_a_batch_that_is_deleted_while_it_runs_takes_its_jobs_along(world: World, running: Key) -> None:
    await world.add_pod(await world.job(running))
    await world.cluster.delete(BATCH_JOB, *running, propagation=Propagation.FOREGROUND)
    assert await world.operator().reconcile(running) is None
    await world.reap_pods()
    assert await world.all(JOB) == await world.all(POD) == []


async def test_a_batch_that_waits_in_the_foreground_for_its_pods_to_go_is_left_alone(
    world: World, running: Key
) -> None:
    world.write_oddly(BATCH_JOB, running.name, metadata={"deletionTimestamp": "2026-11-24T00:00:00Z"})
    version = (await world.batch(running)).metadata.resource_version
    world.clock.offset = timedelta(hours=30)
    assert await world.operator().reconcile(running) is None
    assert (await world.batch(running)).metadata.resource_version == version


async def test_an_input_that_is_deleted_before_it_was_validated_fails_the_batch(world: World, key: Key) -> None:
    name = (await world.all(STORED_FILE))[0]["metadata"]["name"]
    await world.cluster.delete(STORED_FILE, NAMESPACE, name, propagation=Propagation.BACKGROUND)
    await passes(world, key)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.settled) == (Phase.FAILED, True)
    assert [(e.code, e.param) for e in batch.status.errors] == [("invalid_request", "input_file_id")]


async def test_an_input_that_is_deleted_while_the_batch_runs_fails_it_with_what_ran(world: World, running: Key) -> None:
    await world.log(running, RecordKind.PART, **PART)
    await world.end_job(running, how="Failed", exit_code=Exit.BAD_INPUT)
    await passes(world, running)
    await world.seal(running, **PART)
    await passes(world, running)
    batch = await world.batch(running)
    assert (batch.phase, batch.status.counts.completed) == (Phase.FAILED, 4)
    assert [(e.code, e.param) for e in batch.status.errors] == [("invalid_request", "input_file_id")]


async def test_a_batch_that_is_recreated_under_its_name_has_nothing_of_the_old_one(world: World, running: Key) -> None:
    old = await world.batch(running)
    await world.log(running, RecordKind.END, **FULL)
    await world.cluster.delete(BATCH_JOB, *running, propagation=Propagation.BACKGROUND)
    await world.add_batch()
    await passes(world, running)
    new = await world.batch(running)
    assert new.metadata.uid != old.metadata.uid
    assert (new.phase, new.status.counts.completed) == (Phase.IN_PROGRESS, 0)
    assert (await world.job(running))["metadata"]["name"] != old.status.job_name


async def test_fields_that_a_later_version_adds_survive_our_writes(world: World, running: Key) -> None:
    world.write_oddly(BATCH_JOB, running.name, status={"mood": {"amount": 3}})
    await world.cancel(running)
    await world.operator().reconcile(running)
    assert (await world.batch(running)).phase is Phase.CANCELLING


@pytest.mark.parametrize(
    "spec",
    [{"endpoints": ["/v1/embeddings"]}, {"name": "renamed"}],
    ids=["it serves the endpoint no more", "it was renamed"],
)
async def test_a_model_that_changes_under_an_accepted_batch_is_waited_for_in_plain_words(
    world: World, key: Key, spec: dict[str, Any]
) -> None:
    operator = world.operator()
    await operator.reconcile(key)
    name = MODEL.replace(":", "-")
    await world.cluster.patch(HOSTED_MODEL, NAMESPACE, name, {"spec": spec})
    wait_s = await operator.reconcile(key)
    said = {c.type: c.reason for c in (await world.batch(key)).status.conditions}
    assert (said["Scheduled"], wait_s) == ("ModelMissing", world.settings.progress_interval_s)
    assert await world.all(JOB) == []
