"""The sweep: it removes what its policy says, one odd resource stops it for nothing, and it cannot empty a bucket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple
from datetime import timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, EVERYTHING, STORED_FILE, Cluster, Kind, Page, Propagation, Selector
from nightshift_crds.errors import Refused, Stale, Unavailable
from nightshift_crds.lifecycle import Phase
from nightshift_crds.models import StoredFile
from nightshift_crds.names import IdKind, ResultKind
from nightshift_operator.controller import Key
from nightshift_operator.sweep import Sweep
from tests.builders import FILE_ID, FILE_UUID, NAMESPACE, T0, a_file_manifest, timestamp
from tests.operator.world import INPUT_KEY, Fragile, Fuse, Outage, World

FILE_NAME = names.resource_name(IdKind.FILE, FILE_UUID)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ENDED = {"phase": "FAILED", "failedAt": timestamp(T0)}


async def sweep_once(world: World, sweep: Sweep | None = None) -> tuple[int, int, int]:
    """Make a pass; gives how many files, batches and orphans went."""
    files, batches, orphans, _ = astuple(await (sweep or world.sweep()).run_once(world.clock()))
    return files, batches, orphans


async def add_input(world: World, life: timedelta) -> StoredFile:
    """Upload an input that expires after a while from now."""
    at = (world.clock() + life).replace(microsecond=0)
    return await world.add_input(expiresAt=timestamp(at), expiresDay=at.date().isoformat())


async def end(world: World, key: Key, **status: Any) -> None:
    await world.cluster.patch_status(BATCH_JOB, *key, {"status": ENDED | status})


async def file_names(world: World) -> list[str]:
    return [manifest["metadata"]["name"] for manifest in await world.all(STORED_FILE)]


# --- files ------------------------------------------------------------------------------------------------------------


async def test_an_expired_file_goes_with_its_bytes_and_one_that_lives_stays(world: World) -> None:
    await add_input(world, HOUR)
    assert await sweep_once(world) == (0, 0, 0)
    assert await world.keys() == [INPUT_KEY]
    world.clock.offset += HOUR
    assert await sweep_once(world) == (1, 0, 0)
    assert await file_names(world) == await world.keys() == []


async def test_an_expired_input_is_held_by_a_batch_until_that_has_ended(world: World) -> None:
    await add_input(world, -HOUR)
    key = await world.add_batch()
    assert await sweep_once(world) == (0, 0, 0)
    await end(world, key)
    assert await sweep_once(world) == (1, 0, 0)


async def test_a_batch_that_nobody_understands_holds_its_input_and_stops_nothing(world: World) -> None:
    await add_input(world, -HOUR)
    odd = await world.add_batch()
    world.write_oddly(BATCH_JOB, odd.name, status={"phase": "PAUSED", "settled": True})
    await world.add_file(a_file_manifest(name="file-other"), phase="Ready", expiresAt=timestamp(T0))
    assert await sweep_once(world) == (1, 0, 0)
    assert await file_names(world) == [FILE_NAME]


async def test_a_file_that_nobody_understands_stays_and_stops_nothing(world: World) -> None:
    await add_input(world, -HOUR)
    await world.add_file(a_file_manifest(name="file-a"), phase="Ready", expiresAt=timestamp(T0))
    world.write_oddly(STORED_FILE, "file-a", status={"phase": "Archived"})
    assert await sweep_once(world) == (1, 0, 0)
    assert await file_names(world) == ["file-a"]


async def test_later_passes_find_what_has_expired_since_without_reading_every_file(world: World) -> None:
    sweep = world.sweep()
    await add_input(world, 3 * DAY)
    for passed, removed in [(timedelta(), 0), (DAY, 0), (DAY, 0), (DAY, 1)]:
        world.clock.offset += passed
        assert (await sweep_once(world, sweep))[0] == removed


async def test_later_passes_find_an_expired_file_that_a_batch_held_to_its_own_end(world: World) -> None:
    sweep = world.sweep()
    await add_input(world, timedelta())
    key = await world.add_batch()
    for passed in (timedelta(), DAY, DAY):
        world.clock.offset += passed
        assert await sweep_once(world, sweep) == (0, 0, 0)
    await end(world, key)
    world.clock.offset += HOUR
    assert await sweep_once(world, sweep) == (1, 0, 0)


async def test_what_a_crash_left_of_an_upload_goes_after_a_while_by_any_pass(world: World) -> None:
    await world.cluster.create(STORED_FILE, a_file_manifest())
    sweep = world.sweep()
    assert await sweep_once(world, sweep) == (0, 0, 0)
    world.clock.offset += HOUR + timedelta(seconds=2)
    assert await sweep_once(world, sweep) == (1, 0, 0)


async def test_two_sweeps_at_once_remove_a_file_once(world: World) -> None:
    await add_input(world, -HOUR)
    passes = await asyncio.gather(sweep_once(world), sweep_once(world))
    assert sum(files for files, _, _ in passes) == 1


# --- results ----------------------------------------------------------------------------------------------------------


async def accepted(world: World) -> Key:
    await world.add_model()
    await world.add_input()
    key = await world.add_batch()
    await world.operator().reconcile(key)
    return key


async def test_results_that_are_being_written_stay_as_long_as_their_batch(world: World) -> None:
    sweep, key = world.sweep(), await accepted(world)
    for _ in range(2):
        assert await sweep_once(world, sweep) == (0, 0, 0)
        world.clock.offset += 40 * DAY
    assert (await world.result(key, ResultKind.OUTPUT)).status.phase == "Writing"


@pytest.mark.parametrize("is_recreated", [False, True])
async def test_results_that_nobody_will_seal_any_more_go(world: World, is_recreated: bool) -> None:
    sweep, key = world.sweep(), await accepted(world)
    await sweep_once(world, sweep)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    if is_recreated:
        await world.add_batch()
    assert await sweep_once(world, sweep) == (2, 0, 0)
    assert await file_names(world) == [FILE_NAME]


async def test_results_that_were_sealed_outlive_their_batch(world: World) -> None:
    key = await accepted(world)
    file = await world.result(key, ResultKind.OUTPUT)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    await world.cluster.patch_status(STORED_FILE, NAMESPACE, file.metadata.name, {"status": {"phase": "Ready"}})
    assert await sweep_once(world) == (1, 0, 0)
    assert file.metadata.name in await file_names(world)


class Racing(Fragile):
    """A cluster in which a batch seals its files and goes, just when the sweep has read them as unsealed."""

    def __init__(self, world: World, name: str, *, is_deleted: bool) -> None:
        super().__init__(world.cluster, Fuse(1_000_000))
        self._name = name
        self._is_deleted = is_deleted

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        if kind is BATCH_JOB and self._is_deleted:
            await self._port.delete(STORED_FILE, NAMESPACE, self._name, propagation=Propagation.BACKGROUND)
        elif kind is BATCH_JOB:
            await self._port.patch_status(STORED_FILE, NAMESPACE, self._name, {"status": {"phase": "Ready"}})
        return await self._port.get(kind, namespace, name)


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_result_that_is_sealed_or_deleted_while_the_sweep_looks_is_left_alone(
    world: World, is_deleted: bool
) -> None:
    key = await accepted(world)
    output, error = [await world.result(key, kind) for kind in ResultKind]
    for name in (error.metadata.name, FILE_NAME):
        await world.cluster.delete(STORED_FILE, NAMESPACE, name, propagation=Propagation.BACKGROUND)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    racing = Racing(world, output.metadata.name, is_deleted=is_deleted)
    assert await sweep_once(world, Sweep(cast("Cluster", racing), world.bucket, world.settings)) == (0, 0, 0)
    assert (output.metadata.name in await file_names(world)) is not is_deleted


# --- batches ----------------------------------------------------------------------------------------------------------


async def ended_batch(world: World, name: str = "batch-old", **status: Any) -> Key:
    key = await world.add_batch(name=name)
    await end(world, key, **status)
    uid = (await world.batch(key)).metadata.uid
    await world.bucket.put(names.manifest_key(uid), b"{}", create_only=True)
    await world.bucket.put(names.record_key(uid, 0, 0), b"{}", create_only=True)
    return key


async def test_a_batch_that_ended_long_ago_goes_with_all_that_it_left(world: World) -> None:
    await ended_batch(world, settled=True)
    await ended_batch(world, "not-settled")
    kept = await world.keys()
    world.clock.offset += 3_650 * DAY
    assert await sweep_once(world) == (0, 1, 0)
    assert [m["metadata"]["name"] for m in await world.all(BATCH_JOB)] == ["not-settled"]
    assert len(await world.keys()) == len(kept) - 2


async def test_a_batch_that_ended_lately_stays(world: World) -> None:
    await ended_batch(world, settled=True, failedAt=timestamp(world.clock()))
    world.clock.offset += 29 * DAY
    assert await sweep_once(world) == (0, 0, 0)


async def test_two_sweeps_at_once_remove_a_batch_once(world: World) -> None:
    await ended_batch(world, settled=True)
    world.clock.offset += 3_650 * DAY
    passes = await asyncio.gather(sweep_once(world), sweep_once(world))
    assert sum(batches for _, batches, _ in passes) == 1


# --- orphans ----------------------------------------------------------------------------------------------------------


async def own(world: World, installation: str = "nightshift") -> None:
    await world.bucket.put(names.OWNER_KEY, installation.encode(), create_only=True)


async def leave_orphans(world: World, count: int = 1) -> list[str]:
    """Leave bytes that belong to nothing, two days ago."""
    keys = [names.file_key(names.make_id(IdKind.FILE, names.make_uuid7(n, bytes(10)))) for n in range(count)]
    for key in keys:
        await world.bucket.put(key, b"x", create_only=True)
    world.clock.offset += 2 * DAY
    return keys


async def sweep_twice(world: World, **settings: Any) -> tuple[int, int, int]:
    """Make two passes that are an interval apart; gives what the second removed."""
    sweep = world.sweep(**settings)
    await sweep_once(world, sweep)
    world.clock.offset += timedelta(seconds=sweep.settings.sweep_interval_s)
    return await sweep_once(world, sweep)


async def test_bytes_that_belong_to_nothing_go_in_the_second_pass_and_not_in_the_first(world: World) -> None:
    await own(world)
    [orphan] = await leave_orphans(world)
    sweep = world.sweep()
    assert await sweep_once(world, sweep) == (0, 0, 0)
    assert orphan in await world.keys()
    world.clock.offset += HOUR
    assert await sweep_once(world, sweep) == (0, 0, 1)
    assert await world.keys() == [names.OWNER_KEY]


async def test_what_a_batch_left_that_was_deleted_goes_too(world: World) -> None:
    await own(world)
    key = await ended_batch(world)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    world.clock.offset += 2 * DAY
    assert await sweep_twice(world) == (0, 0, 2)
    assert await world.keys() == [names.OWNER_KEY]


@pytest.mark.parametrize("owner", [None, "another", ""])
async def test_nothing_is_an_orphan_in_a_bucket_that_is_not_ours(world: World, owner: str | None) -> None:
    if owner is not None:
        await own(world, owner)
    [orphan] = await leave_orphans(world)
    with capture_logs() as logs:
        assert await sweep_twice(world) == (0, 0, 0)
    assert orphan in await world.keys()
    assert any(log["event"] == "sweep.not_our_bucket" for log in logs) is (owner is not None)


async def test_a_pass_that_would_delete_a_large_share_deletes_nothing_and_says_so(world: World) -> None:
    await own(world)
    orphans = await leave_orphans(world, 21)
    with capture_logs() as logs:
        assert await sweep_twice(world) == (0, 0, 0)
    assert set(orphans) < set(await world.keys())
    [said] = [log for log in logs if log["event"] == "sweep.too_many_orphans"]
    assert (said["log_level"], said["orphans"], said["objects"]) == ("error", 21, 21)


async def test_young_bytes_may_still_get_their_file_and_stay(world: World) -> None:
    await own(world)
    [young] = await leave_orphans(world)
    world.clock.offset = timedelta()
    assert await sweep_twice(world) == (0, 0, 0)
    assert young in await world.keys()


async def test_a_file_that_reappears_between_two_passes_keeps_its_bytes_and_starts_over(world: World) -> None:
    await own(world)
    await world.bucket.put(INPUT_KEY, b"{}", create_only=True)
    world.clock.offset += 2 * DAY
    sweep = world.sweep()
    await sweep_once(world, sweep)
    await world.add_file(a_file_manifest(), phase="Ready")
    world.clock.offset += HOUR
    assert await sweep_once(world, sweep) == (0, 0, 0)
    await world.cluster.delete(STORED_FILE, NAMESPACE, FILE_NAME, propagation=Propagation.BACKGROUND)
    world.clock.offset += HOUR
    assert await sweep_once(world, sweep) == (0, 0, 0)
    assert INPUT_KEY in await world.keys()


class Behind(Fragile):
    """A cluster whose full lists are empty; what is asked for by name is seen as it is."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, Fuse(1_000_000))

    async def list(self, kind: Kind, selector: Selector = EVERYTHING, **more: Any) -> Page:
        page: Page = await self._port.list(kind, selector, **more)
        return page if selector.fields else Page([], None, page.resource_version)


async def test_a_last_look_by_name_saves_a_file_that_the_lists_have_missed(world: World) -> None:
    await own(world)
    await world.add_input()
    world.clock.offset += 2 * DAY
    sweep = Sweep(cast("Cluster", Behind(world.cluster)), world.bucket, world.settings)
    for _ in range(2):
        assert (await sweep_once(world, sweep))[2] == 0
        world.clock.offset += HOUR
    assert INPUT_KEY in await world.keys()


@pytest.mark.parametrize(
    "key", ["openai/notes/team-a/abc", "openai/uploads.txt", "openai/files/notes.txt", f"shared/{FILE_ID}.jsonl"]
)
async def test_what_is_not_the_sweep_s_is_never_touched(world: World, key: str) -> None:
    await own(world)
    await world.bucket.put(key, b"x", create_only=True)
    world.clock.offset += 365 * DAY
    assert await sweep_twice(world) == (0, 0, 0)
    assert key in await world.keys()


async def test_what_has_gone_since_it_was_judged_is_not_counted_and_its_bytes_are_left_to_whoever_took_it(
    world: World,
) -> None:
    file = await world.add_input()
    key = await world.add_batch()
    batch = await world.batch(key)
    await world.cluster.delete(STORED_FILE, NAMESPACE, file.metadata.name, propagation=Propagation.BACKGROUND)
    await world.cluster.delete(BATCH_JOB, *key, propagation=Propagation.BACKGROUND)
    sweep = world.sweep()
    assert not await sweep._remove_file(file)
    assert not await sweep._remove_batch(batch)
    assert await world.keys() == [INPUT_KEY]


async def test_a_record_made_up_in_another_namespace_costs_nobody_a_file(world: World) -> None:
    file = await world.add_input()
    impostor = a_file_manifest()
    impostor["metadata"]["namespace"] = "team-b"
    await world.cluster.create(STORED_FILE, impostor)
    world.clock.offset += timedelta(hours=2)
    assert await sweep_once(world) == (1, 0, 0)
    assert await world.keys() == [INPUT_KEY]
    (left,) = await world.all(STORED_FILE)
    assert left["metadata"]["uid"] == file.metadata.uid


async def test_a_dry_run_counts_what_it_would_remove_and_removes_nothing(world: World) -> None:
    await own(world)
    await add_input(world, -HOUR)
    await ended_batch(world, settled=True)
    await leave_orphans(world)
    world.clock.offset += 365 * DAY
    keys, files, batches = await world.keys(), await file_names(world), await world.all(BATCH_JOB)
    sweep = world.sweep(sweep_dry_run=True)
    assert await sweep_once(world, sweep) == (1, 1, 0)
    world.clock.offset += HOUR
    assert (await sweep_once(world, sweep))[2] == 1
    assert (await world.keys(), await file_names(world), await world.all(BATCH_JOB)) == (keys, files, batches)


async def test_bytes_that_a_crash_left_behind_a_deleted_file_go_as_orphans(world: World) -> None:
    await own(world)
    await add_input(world, -HOUR)
    await world.cluster.delete(STORED_FILE, NAMESPACE, FILE_NAME, propagation=Propagation.BACKGROUND)
    world.clock.offset += 2 * DAY
    assert await sweep_twice(world) == (0, 0, 1)


# --- the loop ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sweeping(sweep: Sweep) -> AsyncIterator[None]:
    task = asyncio.create_task(sweep.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("error", [Unavailable("away"), Stale("gone on"), Refused("no"), RuntimeError("a bug")])
async def test_a_pass_that_fails_is_made_again_and_ends_nothing(world: World, error: Exception) -> None:
    await add_input(world, -HOUR)
    with capture_logs():
        async with sweeping(world.sweep(Outage(1, error, calls=2), sweep_interval_s=0.01)):
            await world.disappears(STORED_FILE, FILE_NAME)


async def test_a_batch_phase_that_ends_nothing_holds_its_input(world: World) -> None:
    await add_input(world, -HOUR)
    key = await world.add_batch()
    await world.cancel(key)
    await world.operator().reconcile(key)
    assert (await world.batch(key)).phase is Phase.CANCELLING
    assert await sweep_once(world) == (0, 0, 0)
