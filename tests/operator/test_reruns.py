"""A batch that runs another one again: what is waited for, what is refused, what it begins with and what it counts."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.bucket.port import get
from nightshift_crds.cluster.port import BATCH_JOB, STORED_FILE, Propagation
from nightshift_crds.exits import Exit
from nightshift_crds.lifecycle import Phase, Sealing
from nightshift_crds.lines import Usage
from nightshift_crds.models import BatchJob, RestVerdict
from nightshift_crds.names import ResultKind, Step
from nightshift_crds.records import State
from nightshift_operator.conditions import Reason
from nightshift_operator.controller import Key
from nightshift_operator.decisions import CreateJob, CreateResultFiles, ShowResultFile
from nightshift_operator.facts import JobState, Observed, Origin
from nightshift_operator.jobs import build_job, collecting
from nightshift_processor.settings import InspectSettings, SealSettings
from tests.builders import BATCH_UID, FILE_ID, NAMESPACE, a_batch, a_file, a_verdict, timestamp
from tests.operator.builders import (
    DEADLINE,
    EMBEDDINGS,
    LATE,
    POLICY,
    SETTINGS,
    a_job,
    a_manifest,
    a_status,
    decided,
    observed,
    refusal,
    sealed,
    status_of,
)
from tests.operator.world import World

RERUN = {"input": {"rerunOf": "origin"}}
READY = a_file(status={"phase": "Ready"})
INPUT_KEY = names.file_key(FILE_ID)
REST_KEY = names.rest_key(BATCH_UID)
LEFT = RestVerdict(**dict(a_verdict(lines=6)), reused=4, reused_bytes=400)


def an_origin_batch(
    phase: Phase = Phase.COMPLETED, *, spec: dict[str, Any] | None = None, output: str | None = FILE_ID, **more: Any
) -> BatchJob:
    metadata = {"name": "origin", "uid": "origin-uid"}
    return a_batch(spec=spec, status=a_status(phase, outputFileId=output, **more), metadata=metadata)


def an_origin(batch: BatchJob | None = None, **facts: Any) -> Origin:
    whole: dict[str, Any] = {"input_file": READY, "input_key": INPUT_KEY, "output_file": READY}
    return Origin(batch or an_origin_batch(), **(whole | facts))


def a_rerun(origin: Origin | None = None, spec: dict[str, Any] | None = None, **facts: Any) -> Observed:
    """Observe a rerun whose rows have not been taken over, unless there is a verdict."""
    known = {"input_file": None, "input_key": REST_KEY, "verdict": None, "origin": origin or an_origin()} | facts
    return observed(spec=RERUN | (spec or {}), **known)


# --- until the rows are taken over ------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED])
def test_the_rows_of_a_batch_that_has_ended_are_taken_over_by_a_job(phase: Phase) -> None:
    decision = decided(a_rerun(an_origin(an_origin_batch(phase))))
    assert decision.actions == (CreateJob(Step.INSPECT),)
    status = status_of(decision)
    assert [c.reason for c in status.conditions] == [Reason.INSPECTING]
    assert (status.rerun_of, status.input_file_id) == ("batch_origin-uid", FILE_ID)


@pytest.mark.parametrize("phase", [Phase.VALIDATING, Phase.IN_PROGRESS, Phase.FINALIZING, Phase.CANCELLING])
def test_a_batch_that_has_not_ended_is_waited_for(phase: Phase) -> None:
    decision = decided(a_rerun(an_origin(an_origin_batch(phase, output=None))))
    assert decision.actions == ()
    assert [c.reason for c in status_of(decision).conditions] == [Reason.WAITING_FOR_BATCH]
    assert decision.requeue_after_s == POLICY.progress_interval_s


def test_a_batch_that_does_not_end_in_time_is_not_waited_for_any_longer() -> None:
    running = an_origin(an_origin_batch(Phase.IN_PROGRESS, output=None))
    almost = DEADLINE - timedelta(seconds=3)
    assert decided(a_rerun(running), almost).requeue_after_s == 4
    assert status_of(decided(a_rerun(running), LATE)).phase is Phase.EXPIRED


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        (replace(a_rerun(), origin=None), ("invalid_request", "rerun_of")),
        (a_rerun(an_origin(a_batch(spec=RERUN))), ("invalid_request", "rerun_of")),
        (a_rerun(spec={"endpoint": EMBEDDINGS}), ("invalid_request", "endpoint")),
        (a_rerun(an_origin(an_origin_batch(counts={"total": 4, "completed": 4}))), ("nothing_to_rerun", None)),
        (a_rerun(an_origin(input_file=None)), ("file_missing", "input_file_id")),
        (a_rerun(an_origin(output_file=None)), ("file_missing", "output_file_id")),
        (
            a_rerun(an_origin(an_origin_batch(spec={"input": {"uri": "gs://b/k"}}), input_key=None)),
            ("invalid_request", "input_file_id"),
        ),
        (a_rerun(inspect=a_job(Step.INSPECT, JobState.FAILED, Exit.BAD_INPUT)), ("invalid_request", "input_file_id")),
    ],
    ids=[
        "no such batch",
        "itself",
        "another endpoint",
        "every row has a result",
        "no input any more",
        "no output any more",
        "a uri that is not allowed any more",
        "bytes that are gone",
    ],
)
def test_a_rerun_that_cannot_be_is_refused(seen: Observed, error: tuple[str, str | None]) -> None:
    assert refusal(seen) == error


def test_the_endpoint_is_held_against_that_of_a_batch_that_is_still_waited_for() -> None:
    running = an_origin(an_origin_batch(Phase.IN_PROGRESS))
    assert refusal(a_rerun(running, spec={"endpoint": EMBEDDINGS})) == ("invalid_request", "endpoint")


@pytest.mark.parametrize("known", ["batch_first", None])
def test_what_a_rerun_is_known_by_is_said_once(known: str | None) -> None:
    """A batch that is run again may be a rerun itself, and not know its input yet."""
    unseen = an_origin(an_origin_batch(Phase.VALIDATING, spec={"input": {"rerunOf": "first"}}, output=None))
    status = {"phase": "VALIDATING", "rerunOf": known, "inputFileId": FILE_ID if known else None}
    found = status_of(decided(a_rerun(unseen, status=status)))
    expected = (known, FILE_ID) if known else ("batch_origin-uid", None)
    assert (found.rerun_of, found.input_file_id) == expected
    seen = a_rerun(status={"phase": "VALIDATING", "rerunOf": "batch_first"})
    assert (status_of(decided(seen)).rerun_of, status_of(decided(seen)).input_file_id) == ("batch_first", FILE_ID)


def test_a_rerun_that_is_cancelled_before_it_was_seen_still_says_what_it_was() -> None:
    status = status_of(decided(a_rerun(spec={"cancelRequested": True})))
    assert (status.phase, status.input_file_id) == (Phase.CANCELLING, FILE_ID)


# --- once they are ----------------------------------------------------------------------------------------------------


def test_a_rerun_begins_with_the_rows_that_it_has_taken_over() -> None:
    decision = decided(a_rerun(verdict=LEFT))
    status = status_of(decision)
    assert list(decision.actions) == [CreateResultFiles(4), ShowResultFile(ResultKind.OUTPUT, 400)]
    assert (status.phase, status.reused) == (Phase.IN_PROGRESS, 4)
    assert (status.counts.total, status.counts.completed, status.counts.failed) == (10, 4, 0)
    assert status.input is not None
    assert status.input.key == REST_KEY


def test_a_rerun_of_a_batch_without_a_success_begins_with_none() -> None:
    decision = decided(a_rerun(verdict=RestVerdict(**dict(a_verdict()))))
    assert list(decision.actions) == [CreateResultFiles()]
    assert (status_of(decision).reused, status_of(decision).counts.completed) == (0, 0)


@pytest.mark.parametrize("origin", [None, an_origin(an_origin_batch(Phase.IN_PROGRESS)), an_origin(input_file=None)])
def test_what_becomes_of_the_other_batch_does_not_matter_any_more(origin: Origin | None) -> None:
    seen = replace(a_rerun(verdict=LEFT), origin=origin)
    assert status_of(decided(seen)).phase is Phase.IN_PROGRESS


def test_a_model_that_is_gone_refuses_a_rerun_by_the_lines_that_are_left() -> None:
    status = status_of(decided(a_rerun(verdict=LEFT, models=())))
    assert {error.code for error in status.errors} == {"model_not_found"}
    assert (status.phase, status.counts.total, status.reused) == (Phase.FAILED, 0, None)


RUNNING = a_status(Phase.IN_PROGRESS, counts={"total": 10, "completed": 4}, reused=4)


def test_progress_counts_from_what_was_taken_over() -> None:
    fresh = decided(observed(status=RUNNING, spec=RERUN, run=a_job()))
    seen = observed(status=status_of(fresh).dump(), spec=RERUN, run=a_job())
    assert decided(seen).status is None
    progress = State(completed=2, failed=1, output_bytes=20, error_bytes=10, usage=Usage(total_tokens=7))
    decision = decided(replace(seen, progress=progress))
    status = status_of(decision)
    assert (status.counts.completed, status.counts.failed) == (6, 1)
    assert status.usage is not None
    assert status.usage.total_tokens == 7
    assert decision.actions == (ShowResultFile(ResultKind.ERROR, 10),)
    assert decided(replace(seen, progress=State())).status is None


@pytest.mark.parametrize(("completed", "failed", "has_usage"), [(8, 2, True), (4, 6, True), (4, 0, False)])
def test_the_manifest_counts_all_rows_and_usage_is_of_those_that_ran(
    completed: int, failed: int, has_usage: bool
) -> None:
    reason = Sealing.COMPLETED if completed + failed == 10 else Sealing.CANCELLED
    phase = Phase.FINALIZING if reason is Sealing.COMPLETED else Phase.CANCELLING
    manifest = a_manifest(reason, completed=completed, failed=failed)
    status = a_status(phase, reason, counts={"total": 10, "completed": 4}, reused=4)
    spec = RERUN | {"cancelRequested": phase is Phase.CANCELLING}
    ended = status_of(decided(observed(status=status, spec=spec, sealed=sealed(manifest))))
    assert ended.phase is (Phase.COMPLETED if phase is Phase.FINALIZING else Phase.CANCELLED)
    assert (ended.counts.completed, ended.counts.failed, ended.usage is not None) == (completed, failed, has_usage)


# --- Jobs -------------------------------------------------------------------------------------------------------------


def env_of(job: dict[str, Any]) -> dict[str, str]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.mark.parametrize(("output", "checked"), [(FILE_ID, True), (None, True), (None, False)])
def test_the_job_is_told_what_to_take_over_and_from_where(output: str | None, checked: bool) -> None:
    status = a_status(Phase.COMPLETED, outputFileId=output) | ({} if checked else {"input": None})
    origin = a_batch(status=status, metadata={"name": "origin", "uid": "origin-uid"})
    job = build_job(a_batch(spec=RERUN), Step.INSPECT, None, REST_KEY, SETTINGS)
    read = InspectSettings.load(env_of(collecting(job, an_origin(origin))))
    assert (read.input_key, read.origin_input_key) == (REST_KEY, INPUT_KEY)
    assert read.origin_input_crc32c == (7 if checked else None)
    expected = names.file_key(origin.result_file_id(ResultKind.OUTPUT)) if output else ""
    assert read.origin_output_key == expected
    assert collecting(job, None) == job


def test_the_seal_is_told_how_many_lines_come_first_and_how_many_there_were_to_send() -> None:
    status = a_status(Phase.FINALIZING, Sealing.COMPLETED, counts={"total": 10, "completed": 4}, reused=4)
    batch = a_batch(spec=RERUN, status=status)
    read = SealSettings.load(env_of(build_job(batch, Step.SEAL, None, REST_KEY, SETTINGS)))
    assert (read.items, read.reused) == (6, 4)


# --- on a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def origin(world: World) -> Key:
    """A batch that has ended with four of ten rows, taken there as an operator would."""
    await world.add_model()
    await world.add_input()
    key = await world.add_batch(name="origin")
    for _ in range(3):
        await world.operator().reconcile(key)
    await world.cancel(key)
    for _ in range(2):
        await world.operator().reconcile(key)
    await world.reap_pods()
    await world.seal(key, completed=4, failed=1)
    while (await world.batch(key)).phase is not Phase.CANCELLED:
        await world.operator().reconcile(key)
    return key


@pytest.fixture
async def rerun(world: World, origin: Key) -> Key:
    return await world.add_batch(name="again", input={"rerunOf": "origin"})


async def leave_rest(world: World, key: Key) -> None:
    """Do what `nightshift-processor inspect` does."""
    uid = (await world.batch(key)).metadata.uid
    await world.bucket.put(names.reused_key(uid), b"{}\n" * 4, create_only=True)
    await world.bucket.put(names.verdict_key(uid), LEFT.model_dump_json(by_alias=True).encode(), create_only=True)
    await world.end_job(key, Step.INSPECT)


async def test_a_rerun_is_seen_with_the_batch_that_it_runs_again_and_its_files(
    world: World, origin: Key, rerun: Key
) -> None:
    facts = await world.operator().observer.observe(*rerun, world.clock())
    batch = await world.batch(origin)
    assert facts.origin is not None
    assert facts.origin.batch.metadata.uid == batch.metadata.uid
    assert (facts.origin.input_file is not None, facts.origin.input_key) == (True, INPUT_KEY)
    assert facts.origin.output_file is not None
    assert facts.origin.output_file.id == batch.status.output_file_id
    assert (facts.input_file, facts.verdict) == (None, None)
    assert facts.input_key == names.rest_key((await world.batch(rerun)).metadata.uid)


async def test_a_batch_of_another_namespace_is_not_there(world: World, origin: Key) -> None:
    manifest = await world.cluster.get(BATCH_JOB, *await world.add_batch(name="again", input={"rerunOf": "origin"}))
    elsewhere = Key("team-b", "again")
    await world.cluster.create(BATCH_JOB, manifest | {"metadata": elsewhere._asdict()})
    assert (await world.operator().observer.observe(*elsewhere, world.clock())).origin is None


async def test_a_rerun_goes_from_its_origin_to_its_end(world: World, origin: Key, rerun: Key) -> None:
    for _ in range(2):
        await world.operator().reconcile(rerun)
    env = env_of(await world.job(rerun, Step.INSPECT))
    output_id = (await world.batch(origin)).status.output_file_id
    assert output_id is not None
    assert env["NIGHTSHIFT_ORIGIN_OUTPUT_KEY"] == names.file_key(output_id)
    await leave_rest(world, rerun)
    await world.operator().reconcile(rerun)
    batch = await world.batch(rerun)
    assert (batch.phase, batch.reused, batch.status.input_file_id) == (Phase.IN_PROGRESS, 4, FILE_ID)
    output, error = [await world.result(rerun, kind) for kind in ResultKind]
    assert (output.spec.source.reused, error.spec.source.reused, output.status.bytes) == (4, None, 400)

    for _ in range(2):
        await world.operator().reconcile(rerun)
    assert "NIGHTSHIFT_ORIGIN_INPUT_KEY" not in env_of(await world.job(rerun))
    await world.cancel(rerun)
    for _ in range(2):
        await world.operator().reconcile(rerun)
    await world.reap_pods()
    await world.seal(rerun, completed=9, failed=1)
    while (await world.batch(rerun)).phase is not Phase.CANCELLED:
        await world.operator().reconcile(rerun)
    assert (await world.batch(rerun)).status.counts.completed == 9
    assert (await world.result(rerun, ResultKind.OUTPUT)).spec.source.reused == 4


async def test_of_a_rerun_that_has_settled_only_its_input_and_what_it_came_to_are_kept(
    world: World, rerun: Key
) -> None:
    uid = (await world.batch(rerun)).metadata.uid
    keys = [names.reused_key(uid), names.rest_key(uid), names.manifest_key(uid), names.record_key(uid, 0, 0)]
    for key in keys:
        await world.bucket.put(key, b"{}", create_only=True)
    for prefix in names.scratch_prefixes(uid):
        async for info in world.bucket.list(prefix):
            await world.bucket.delete(info.key)
    assert await world.keys(names.batch_prefix(uid)) == [names.manifest_key(uid), names.rest_key(uid)]


async def test_a_result_file_that_was_deleted_by_hand_is_made_again_as_it_was(world: World, rerun: Key) -> None:
    for _ in range(2):
        await world.operator().reconcile(rerun)
    await leave_rest(world, rerun)
    await world.operator().reconcile(rerun)
    file = await world.result(rerun, ResultKind.OUTPUT)
    await world.cluster.delete(STORED_FILE, NAMESPACE, file.metadata.name, propagation=Propagation.BACKGROUND)
    await world.cancel(rerun)
    await world.operator().reconcile(rerun)
    await world.seal(rerun, completed=9, failed=1)
    while (await world.batch(rerun)).phase is not Phase.CANCELLED:
        await world.operator().reconcile(rerun)
    assert (await world.result(rerun, ResultKind.OUTPUT)).spec.source.reused == 4


# --- the files that it needs ------------------------------------------------------------------------------------------


async def expire_files(world: World) -> None:
    at = timestamp((world.clock() - timedelta(days=1)).replace(microsecond=0))
    for manifest in await world.all(STORED_FILE):
        if manifest["status"].get("phase") == "Ready":
            where = (NAMESPACE, manifest["metadata"]["name"])
            status = {"status": {"expiresAt": at, "expiresDay": at[:10]}}
            await world.cluster.patch_status(STORED_FILE, *where, status)


async def expired_files(world: World) -> list[str]:
    return [m["metadata"]["name"] for m in await world.all(STORED_FILE) if m["status"].get("phase") == "Ready"]


async def test_the_sweep_holds_both_files_until_the_rows_are_taken_over(world: World, origin: Key, rerun: Key) -> None:
    await expire_files(world)
    before = await expired_files(world)
    assert len(before) == 3
    await world.sweep().run_once(world.clock())
    batch = await world.batch(origin)
    needed = (batch.spec.input.file_id, batch.status.output_file_id)
    assert set(await expired_files(world)) == {str(file_id).replace("_", "-", 1) for file_id in needed}
    await world.operator().reconcile(rerun)
    await world.operator().reconcile(rerun)
    await leave_rest(world, rerun)
    await world.operator().reconcile(rerun)
    await world.sweep().run_once(world.clock())
    assert await expired_files(world) == []


async def test_the_sweep_holds_a_batch_until_its_rows_are_taken_over(world: World, origin: Key, rerun: Key) -> None:
    while not (await world.batch(origin)).status.settled:
        await world.operator().reconcile(origin)
        world.clock.offset += timedelta(minutes=10)
    assert (await world.sweep(batch_retention_s=0).run_once(world.clock())).batches == 0
    await world.cluster.delete(BATCH_JOB, *rerun, propagation=Propagation.BACKGROUND)
    assert (await world.sweep(batch_retention_s=0).run_once(world.clock())).batches == 1


async def test_a_verdict_on_what_is_left_is_read_as_one(world: World, rerun: Key) -> None:
    await world.operator().reconcile(rerun)
    await world.operator().reconcile(rerun)
    await leave_rest(world, rerun)
    assert (await world.operator().observer.observe(*rerun, world.clock())).verdict == LEFT
    uid = (await world.batch(rerun)).metadata.uid
    assert await get(world.bucket, names.verdict_key(uid))
