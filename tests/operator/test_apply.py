"""Doing what was decided: every action may be repeated, strangers are left alone, of two writers one wins."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightshift_crds import names
from nightshift_crds.cluster.local import merge
from nightshift_crds.cluster.port import BATCH_JOB, JOB, POD, STORED_FILE, Manifest
from nightshift_crds.errors import Missing, Stale
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import FilePhase
from nightshift_crds.names import ResultKind, Step, job_name
from nightshift_crds.records import RecordKind, SealedFile
from nightshift_operator.apply import Applier, replacing
from nightshift_operator.budget import Budget
from nightshift_operator.controller import Key
from nightshift_operator.decisions import (
    Action,
    CreateJob,
    CreateResultFiles,
    Decision,
    DeleteJob,
    DropResultFile,
    Event,
    EventReason,
    FinishResultFile,
    ForceDeletePod,
    PurgeScratch,
    ShowResultFile,
)
from nightshift_operator.facts import Observed
from nightshift_operator.pods import parse_job
from tests.builders import NAMESPACE, T0, a_model
from tests.operator.world import Crash, Fuse, World

SEALED = SealedFile(file_id="file", bytes=240, crc32c=11, lines=8)
FINISH = FinishResultFile(ResultKind.OUTPUT, SEALED, T0 + timedelta(days=30, microseconds=5))


@pytest.fixture
async def key(world: World) -> Key:
    """A batch that has been accepted, with both its result files."""
    await world.add_model()
    await world.add_input()
    key = await world.add_batch()
    await world.operator().reconcile(key)
    return key


async def seen(world: World, key: Key) -> Observed:
    return await world.operator().observer.observe(*key, world.clock())


async def do(world: World, key: Key, *actions: Action, fuse: Fuse | None = None, **decision: Any) -> None:
    await world.operator(fuse).applier.apply(await seen(world, key), Decision(actions, **decision))


async def everything(world: World) -> dict[str, Any]:
    """Describe the whole installation but for versions and times of creation."""
    objects = {
        f"{kind.kind}/{manifest['metadata']['name']}": {part: manifest.get(part) for part in ("spec", "status")}
        | {"is_going": "deletionTimestamp" in manifest["metadata"]}
        for kind in (BATCH_JOB, STORED_FILE, JOB, POD)
        for manifest in await world.all(kind)
    }
    return objects | {"bucket": await world.keys()}


async def a_job_with_a_pod(world: World, key: Key) -> tuple[Manifest, Manifest]:
    await do(world, key, CreateJob(Step.RUN, a_model()))
    job = await world.job(key)
    await world.add_pod(job)
    [pod] = await world.all(POD)
    return job, pod


# --- Jobs -------------------------------------------------------------------------------------------------------------


async def test_a_job_is_made_once_however_often_it_is_asked_for(world: World, key: Key) -> None:
    for _ in range(3):
        await do(world, key, CreateJob(Step.RUN, a_model()))
    assert len(await world.all(JOB)) == 1


async def test_a_job_reads_the_input_that_was_checked(world: World, key: Key) -> None:
    await do(world, key, CreateJob(Step.RUN, a_model()))
    env = (await world.job(key))["spec"]["template"]["spec"]["containers"][0]["env"]
    checked = (await world.batch(key)).status.input
    assert checked is not None
    assert {"name": "NIGHTSHIFT_INPUT_KEY", "value": checked.key} in env


async def test_a_job_is_told_when_it_is_to_be_stopped(world: World, key: Key) -> None:
    closes = datetime(2026, 11, 24, 6, tzinfo=UTC)
    await do(world, key, CreateJob(Step.RUN, a_model(), closes))
    assert parse_job(await world.job(key), []).closes_at == closes


async def test_a_stranger_s_job_under_our_name_is_neither_adopted_nor_deleted(world: World, key: Key) -> None:
    name = job_name((await world.batch(key)).metadata.uid, Step.RUN, 1)
    stranger = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {}}
    await world.cluster.create(JOB, stranger)
    with pytest.raises(Stale, match="somebody else"):
        await world.operator().reconcile(key)
    [left] = await world.all(JOB)
    assert left["spec"] == {}
    assert (await world.batch(key)).status.job_name is None


async def test_a_job_is_deleted_with_its_pods_first(world: World, key: Key) -> None:
    job, pod = await a_job_with_a_pod(world, key)
    await do(world, key, DeleteJob(job["metadata"]["name"], job["metadata"]["uid"]))
    assert "deletionTimestamp" in (await world.job(key))["metadata"]
    await do(world, key, ForceDeletePod(pod["metadata"]["name"], pod["metadata"]["uid"]))
    assert await world.all(POD) == await world.all(JOB) == []


async def test_a_job_or_a_pod_that_was_replaced_meanwhile_stays(world: World, key: Key) -> None:
    job, pod = await a_job_with_a_pod(world, key)
    actions = (DeleteJob(job["metadata"]["name"], "older"), ForceDeletePod(pod["metadata"]["name"], "older"))
    before = await everything(world)
    await do(world, key, *actions)
    assert await everything(world) == before


async def test_a_job_or_a_pod_that_is_gone_already_is_fine(world: World, key: Key) -> None:
    before = await everything(world)
    await do(world, key, DeleteJob("gone", "uid"), ForceDeletePod("gone", "uid"))
    assert await everything(world) == before


# --- result files -----------------------------------------------------------------------------------------------------


async def test_both_result_files_are_known_from_the_start_and_are_being_written(world: World, key: Key) -> None:
    batch = await world.batch(key)
    for kind in ResultKind:
        file = await world.result(key, kind)
        assert (file.status.phase, file.status.bytes, file.status.expires_at) == (FilePhase.WRITING, 0, None)
        assert (file.spec.source.batch_uid, file.spec.source.kind) == (batch.metadata.uid, kind)
        assert (file.spec.filename, file.spec.purpose) == (f"{batch.id}_{kind}.jsonl", "batch_output")


async def test_a_finished_file_is_ready_with_what_the_manifest_vouches_for(world: World, key: Key) -> None:
    await do(world, key, FINISH)
    status = (await world.result(key, ResultKind.OUTPUT)).status
    assert (status.phase, status.bytes, status.crc32c) == (FilePhase.READY, 240, 11)
    assert (status.expires_at, status.expires_day) == (T0 + timedelta(days=30), "2026-12-23")


@pytest.mark.parametrize("action", [ShowResultFile(ResultKind.OUTPUT, 10), DropResultFile(ResultKind.OUTPUT)])
async def test_a_result_file_that_somebody_deleted_is_not_missed(world: World, key: Key, action: Action) -> None:
    await do(world, key, DropResultFile(ResultKind.OUTPUT))
    await do(world, key, action)
    with pytest.raises(Missing):
        await world.result(key, ResultKind.OUTPUT)


async def test_a_result_file_that_somebody_deleted_is_made_again_at_the_end(world: World, key: Key) -> None:
    await do(world, key, DropResultFile(ResultKind.OUTPUT))
    await do(world, key, FINISH)
    assert (await world.result(key, ResultKind.OUTPUT)).status.phase is FilePhase.READY


async def test_creating_files_again_does_not_take_a_finished_one_back(world: World, key: Key) -> None:
    await do(world, key, FINISH)
    await do(world, key, CreateResultFiles())
    assert (await world.result(key, ResultKind.OUTPUT)).status.phase is FilePhase.READY


# --- scratch ----------------------------------------------------------------------------------------------------------


async def test_only_logs_and_progress_of_the_one_batch_are_purged(world: World, key: Key) -> None:
    observed = await seen(world, key)
    uid = observed.batch.metadata.uid
    scratch = [names.record_key(uid, 0, 0), names.record_key(uid, 1, 7), names.progress_key(uid, 0, 0)]
    kept = [names.manifest_key(uid), names.record_key("another", 0, 0), names.file_key("file_1")]
    for name in [*scratch, *kept]:
        await world.bucket.put(name, b"x", create_only=True)
    await world.operator().applier.apply(observed, Decision((PurgeScratch(),)))
    left = await world.keys()
    assert set(kept) <= set(left)
    assert not set(scratch) & set(left)


# --- crashes ----------------------------------------------------------------------------------------------------------


ACTIONS: list[tuple[Action, ...]] = [
    (CreateJob(Step.RUN, a_model()),),
    (CreateResultFiles(),),
    (ShowResultFile(ResultKind.OUTPUT, 10),),
    (FINISH, DropResultFile(ResultKind.ERROR)),
    (DropResultFile(ResultKind.OUTPUT), DropResultFile(ResultKind.ERROR)),
    (PurgeScratch(),),
]


@pytest.mark.parametrize("loses_answer", [False, True])
@pytest.mark.parametrize("actions", ACTIONS, ids=lambda actions: type(actions[0]).__name__)
async def test_what_a_crash_interrupts_is_finished_by_the_next_try(
    world: World, key: Key, actions: tuple[Action, ...], loses_answer: bool
) -> None:
    await world.log(key, RecordKind.PART, completed=1, failed=0)
    before = await seen(world, key)
    status = before.batch.status.model_copy(update={"attempt": 7})
    decision = Decision(actions, status, Event(EventReason.IN_PROGRESS, "once"))
    for calls in range(20):
        with suppress(Crash, Stale):
            await world.operator(Fuse(calls, loses_answer)).applier.apply(before, decision)
    interrupted = await everything(world)
    with suppress(Stale):
        await world.operator().applier.apply(before, decision)
    assert await everything(world) == interrupted
    assert (await world.batch(key)).status.attempt == 7


# --- the status -------------------------------------------------------------------------------------------------------


async def test_of_two_operators_that_saw_the_same_one_writes_and_the_other_is_told(world: World, key: Key) -> None:
    before = await seen(world, key)
    decisions = [
        Decision(
            (CreateJob(Step.RUN, a_model()),),
            before.batch.status.model_copy(update={"attempt": n}),
            Event(EventReason.RETRYING, ""),
        )
        for n in (2, 3)
    ]
    applying = [world.operator().applier.apply(before, decision) for decision in decisions]
    results = await asyncio.gather(*applying, return_exceptions=True)
    [winner] = [n for n, result in zip((2, 3), results, strict=True) if result is None]
    assert sum(isinstance(result, Stale) for result in results) == 1
    assert (await world.batch(key)).status.attempt == winner
    assert (await world.events()).count("Retrying") == 1
    assert len(await world.all(JOB)) == 1


async def test_two_operators_that_reconcile_at_once_bring_a_batch_as_far_as_one(world: World, key: Key) -> None:
    operators = [world.operator(), world.operator()]
    for _ in range(6):
        await asyncio.gather(*(operator.reconcile(key) for operator in operators), return_exceptions=True)
    batch = await world.batch(key)
    assert (batch.phase, batch.status.attempt) == (Phase.IN_PROGRESS, 1)
    assert len(await world.all(JOB)) == 1
    assert (await world.events()).count("InProgress") == 1


async def test_a_cancel_that_came_while_an_end_was_decided_is_not_overwritten(world: World, key: Key) -> None:
    before = await seen(world, key)
    await world.cancel(key)
    with pytest.raises(Stale):
        await world.operator().applier.apply(
            before, Decision(status=before.batch.status.model_copy(update={"attempt": 9}))
        )
    assert (await world.batch(key)).status.attempt == 1


async def test_a_status_that_is_not_new_is_neither_written_nor_told(world: World, key: Key) -> None:
    batch = await world.batch(key)
    told = await world.events()
    await do(world, key, status=batch.status, event=Event(EventReason.IN_PROGRESS, ""))
    assert (await world.batch(key)).metadata.resource_version == batch.metadata.resource_version
    assert await world.events() == told


async def test_progress_over_its_budget_waits_and_takes_its_actions_along(world: World, key: Key) -> None:
    observed = await seen(world, key)
    spent = Budget(1, lambda: 0.0)
    applier: Applier = replace(world.operator().applier, progress_budget=spent)
    spent.take()
    status = observed.batch.status.model_copy(update={"attempt": 9})
    shown = (ShowResultFile(ResultKind.OUTPUT, 10),)
    await applier.apply(observed, Decision(shown, status, is_progress=True))
    assert (await world.batch(key)).status.attempt == 1
    assert (await world.result(key, ResultKind.OUTPUT)).status.bytes == 0
    await applier.apply(observed, Decision(shown, status))
    assert (await world.batch(key)).status.attempt == 9


scalars = st.integers(0, 3) | st.text("ab", max_size=2) | st.booleans()
objects = st.recursive(
    st.dictionaries(st.sampled_from("abc"), scalars, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), scalars | inner | st.lists(scalars, max_size=2), max_size=3),
)


@given(objects, objects)
def test_a_patch_makes_one_object_into_the_other(old: Manifest, new: Manifest) -> None:
    assert merge(old, replacing(old, new)) == new


@given(objects)
def test_a_patch_between_equal_objects_is_empty(same: Manifest) -> None:
    assert replacing(same, same) == {}
