"""What every cluster must do, whoever makes it: the comments of `cluster/port.py` as tests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nightshift_crds.cluster.port import (
    BATCH_JOB,
    EVENT,
    HOSTED_MODEL,
    JOB,
    POD,
    STORED_FILE,
    Change,
    ChangeType,
    Cluster,
    Manifest,
    Propagation,
    Selector,
    each,
)
from nightshift_crds.errors import AlreadyExists, Missing, Refused, Stale
from nightshift_crds.lifecycle import TIMESTAMPS, Phase, can_move, is_terminal
from nightshift_crds.models import BatchJob
from nightshift_crds.schema import rule_holders
from tests.builders import NAMESPACE, T0, a_batch_manifest, a_file_manifest, a_model_manifest, timestamp
from tests.crds.cluster.conftest import Opener

HERE = Selector(namespace=NAMESPACE)
TIMES = {phase: field.replace("_a", "A") for phase, field in TIMESTAMPS.items()}
TIMES[Phase.IN_PROGRESS] = "inProgressAt"


def a_job(name: str, **metadata: Any) -> Manifest:
    container = {"name": "processor", "image": "nightshift:1", "args": ["run"]}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE} | metadata,
        "spec": {"template": template, "managedBy": "nightshift.dev/nobody"},  # whose pods no controller touches
    }


def a_pod(name: str, owner: Manifest) -> Manifest:
    reference = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": [reference]},
        "spec": {"containers": [{"name": "processor", "image": "nightshift:1"}], "nodeName": "nobody"},
    }


async def name_all(cluster: Cluster, selector: Selector = HERE) -> list[str]:
    return [item["metadata"]["name"] async for item in each(cluster, BATCH_JOB, selector)]


async def in_phase(cluster: Cluster, name: str, phase: Phase) -> Manifest:
    """Take a batch to a phase by the shortest legal way."""
    ways: dict[Phase, list[Phase]] = {Phase.VALIDATING: []}
    queue = [Phase.VALIDATING]
    for here in queue:
        for there in Phase:
            if can_move(here, there) and there not in ways:
                ways[there] = [*ways[here], there]
                queue.append(there)
    manifest = await cluster.create(BATCH_JOB, a_batch_manifest(name=name))
    for step in [Phase.VALIDATING, *ways[phase]]:
        manifest = await cluster.patch_status(BATCH_JOB, NAMESPACE, name, {"status": to_phase(step)})
    return manifest


def to_phase(phase: Phase) -> Manifest:
    return {"phase": phase} | ({TIMES[phase]: timestamp(T0)} if phase in TIMES else {})


# --- objects ----------------------------------------------------------------------------------------------------------


async def test_a_created_object_has_an_identity_and_is_found_again(cluster: Cluster) -> None:
    created = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    assert len(created["metadata"]["uid"]) == 36
    assert created["metadata"]["generation"] == 1
    assert created["metadata"]["creationTimestamp"].endswith("Z")
    found = await cluster.get(BATCH_JOB, NAMESPACE, "one")
    assert found == created
    assert BatchJob.parse(found).spec.completion_window == "24h"


async def test_a_name_is_taken_once_per_kind_and_namespace(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    with pytest.raises(AlreadyExists):
        await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    await cluster.create(STORED_FILE, a_file_manifest(name="one"))


async def test_what_is_not_there_is_missing_to_every_call(cluster: Cluster) -> None:
    with pytest.raises(Missing):
        await cluster.get(BATCH_JOB, NAMESPACE, "one")
    with pytest.raises(Missing):
        await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"suspend": True}})
    with pytest.raises(Missing):
        await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"phase": "VALIDATING"}})
    with pytest.raises(Missing):
        await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND)


async def test_status_is_ignored_on_create_and_on_patch_and_spec_on_a_status_patch(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one") | {"status": {"phase": "COMPLETED"}})
    patched = await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"suspend": True}, "status": {"attempt": 3}})
    assert "phase" not in patched.get("status", {})
    assert "attempt" not in patched.get("status", {})
    patched = await cluster.patch_status(
        BATCH_JOB, NAMESPACE, "one", {"spec": {"suspend": False}, "status": {"attempt": 3}}
    )
    assert patched["spec"]["suspend"] is True
    assert patched["status"]["attempt"] == 3


async def test_a_spec_change_makes_a_generation_and_a_status_change_none(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    patched = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"attempt": 1}})
    assert patched["metadata"]["generation"] == 1
    patched = await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"suspend": True}})
    assert patched["metadata"]["generation"] == 2


async def test_a_merge_patch_removes_with_null_and_keeps_the_rest(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"jobName": "j", "model": "m"}})
    patched = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"jobName": None}})
    assert "jobName" not in patched["status"]
    assert patched["status"]["model"] == "m"


async def test_a_guarded_write_needs_the_version_that_it_read(cluster: Cluster) -> None:
    first = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    guard = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    await cluster.patch(BATCH_JOB, NAMESPACE, "one", guard | {"spec": {"suspend": True}})
    with pytest.raises(Stale):
        await cluster.patch(BATCH_JOB, NAMESPACE, "one", guard | {"spec": {"suspend": False}})
    with pytest.raises(Stale):
        await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", guard | {"status": {"attempt": 1}})


async def test_of_many_guarded_writers_exactly_one_wins(cluster: Cluster) -> None:
    first = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    guard = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}

    async def write(n: int) -> bool:
        try:
            await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", guard | {"status": {"attempt": n + 1}})
        except Stale:
            return False
        return True

    assert sum(await asyncio.gather(*map(write, range(10)))) == 1


async def test_a_patch_that_changes_nothing_makes_no_version(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    first = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"attempt": 1}})
    again = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"attempt": 1}})
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_what_one_client_writes_another_reads_at_once(cluster: Cluster, opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path) as other:
        await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
        assert (await other.get(BATCH_JOB, NAMESPACE, "one"))["metadata"]["name"] == "one"
        await other.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"suspend": True}})
        assert (await cluster.get(BATCH_JOB, NAMESPACE, "one"))["spec"]["suspend"] is True


async def test_objects_outlive_their_client(opener: Opener, tmp_path: Path) -> None:
    async with opener(tmp_path) as first:
        created = await first.create(BATCH_JOB, a_batch_manifest(name="one"))
    async with opener(tmp_path) as second:
        assert await second.get(BATCH_JOB, NAMESPACE, "one") == created


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_is_paged_in_order_of_names(cluster: Cluster) -> None:
    for n in (3, 1, 4, 0, 2):
        await cluster.create(BATCH_JOB, a_batch_manifest(name=f"b{n}"))
    first = await cluster.list(BATCH_JOB, HERE, limit=2)
    assert [item["metadata"]["name"] for item in first.items] == ["b0", "b1"]
    assert first.after is not None
    second = await cluster.list(BATCH_JOB, HERE, limit=3, after=first.after)
    assert [item["metadata"]["name"] for item in second.items] == ["b2", "b3", "b4"]
    assert second.after is None


async def test_a_list_is_of_one_namespace_or_of_all(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    assert await name_all(cluster, Selector(namespace="team-of-nobody")) == []
    assert "one" in await name_all(cluster, Selector())


async def test_lists_select_by_fields_and_an_absent_field_is_empty(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="new"))
    await in_phase(cluster, "running", Phase.IN_PROGRESS)
    await in_phase(cluster, "failed", Phase.FAILED)
    await cluster.patch_status(BATCH_JOB, NAMESPACE, "failed", {"status": {"settled": True}})
    assert await name_all(cluster, Selector(NAMESPACE, fields="status.settled!=true")) == ["new", "running"]
    assert await name_all(cluster, Selector(NAMESPACE, fields="status.phase=IN_PROGRESS")) == ["running"]
    assert await name_all(cluster, Selector(NAMESPACE, fields="status.phase!=FAILED,status.phase!=IN_PROGRESS")) == [
        "new"
    ]


async def test_lists_select_batches_by_what_they_run_again(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    for name, origin in (("two", "one"), ("three", "two")):
        await cluster.create(BATCH_JOB, a_batch_manifest(name=name, input={"rerunOf": origin}))
    reruns = Selector(NAMESPACE, fields="spec.input.rerunOf!=,status.settled!=true")
    assert await name_all(cluster, reruns) == ["three", "two"]
    assert await name_all(cluster, Selector(NAMESPACE, fields="spec.input.rerunOf=one")) == ["two"]


async def test_lists_select_by_labels(cluster: Cluster) -> None:
    for name, team in (("one", "a"), ("two", "b")):
        manifest = a_batch_manifest(name=name)
        manifest["metadata"]["labels"] = {"team": team, "x": "y"}
        await cluster.create(BATCH_JOB, manifest)
    assert await name_all(cluster, Selector(NAMESPACE, labels=(("team", "b"),))) == ["two"]
    assert await name_all(cluster, Selector(NAMESPACE, labels=(("team", "b"), ("x", "z")))) == []


# --- watches ----------------------------------------------------------------------------------------------------------


async def follow(changes: AsyncGenerator[Change, None], count: int) -> list[tuple[ChangeType, str]]:
    seen = []
    async with asyncio.timeout(20):
        for _ in range(count):
            change = await anext(changes)
            seen.append((change.type, change.manifest["metadata"]["name"]))
    return seen


async def test_a_watch_tells_of_everything_after_the_list(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="old"))
    page = await cluster.list(BATCH_JOB, HERE)
    await cluster.create(BATCH_JOB, a_batch_manifest(name="before-the-watch"))
    async with aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        assert await follow(changes, 1) == [(ChangeType.ADDED, "before-the-watch")]
        await cluster.create(BATCH_JOB, a_batch_manifest(name="new"))
        assert await follow(changes, 1) == [(ChangeType.ADDED, "new")]
        await cluster.patch(BATCH_JOB, NAMESPACE, "old", {"spec": {"suspend": True}})
        assert await follow(changes, 1) == [(ChangeType.MODIFIED, "old")]
        await cluster.delete(BATCH_JOB, NAMESPACE, "old", propagation=Propagation.BACKGROUND)
        assert await follow(changes, 1) == [(ChangeType.DELETED, "old")]


async def test_a_watch_tells_of_deletions_before_it_began(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="old"))
    page = await cluster.list(BATCH_JOB, HERE)
    await cluster.delete(BATCH_JOB, NAMESPACE, "old", propagation=Propagation.BACKGROUND)
    async with aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        assert await follow(changes, 1) == [(ChangeType.DELETED, "old")]


async def test_changes_come_in_the_order_of_their_versions_a_deletion_with_its_own(cluster: Cluster) -> None:
    first = await cluster.create(BATCH_JOB, a_batch_manifest(name="first"))
    page = await cluster.list(BATCH_JOB, HERE)
    async with aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        between = await cluster.create(BATCH_JOB, a_batch_manifest(name="second"))
        await cluster.delete(BATCH_JOB, NAMESPACE, "first", propagation=Propagation.BACKGROUND)
        last = await cluster.create(BATCH_JOB, a_batch_manifest(name="third"))
        versions = [int((await anext(changes)).manifest["metadata"]["resourceVersion"]) for _ in range(3)]
    written = [int(manifest["metadata"]["resourceVersion"]) for manifest in (first, between, last)]
    assert written[0] < written[1] == versions[0] < versions[1] < versions[2] == written[2]


async def test_an_object_that_stops_matching_is_told_as_deleted(cluster: Cluster) -> None:
    selector = Selector(NAMESPACE, fields="status.settled!=true")
    await in_phase(cluster, "one", Phase.FAILED)
    page = await cluster.list(BATCH_JOB, selector)
    async with aclosing(cluster.watch(BATCH_JOB, selector, page.resource_version)) as changes:
        await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"settled": True}})
        assert await follow(changes, 1) == [(ChangeType.DELETED, "one")]
        await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND)
        await cluster.create(BATCH_JOB, a_batch_manifest(name="two"))
        assert await follow(changes, 1) == [(ChangeType.ADDED, "two")]


async def test_a_watch_sees_what_another_client_writes(cluster: Cluster, opener: Opener, tmp_path: Path) -> None:
    page = await cluster.list(BATCH_JOB, HERE)
    async with opener(tmp_path) as other, aclosing(cluster.watch(BATCH_JOB, HERE, page.resource_version)) as changes:
        await other.create(BATCH_JOB, a_batch_manifest(name="one"))
        assert await follow(changes, 1) == [(ChangeType.ADDED, "one")]


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", Phase)
async def test_phases_move_by_the_table_and_by_nothing_else(cluster: Cluster, before: Phase) -> None:
    for after in Phase:
        name = f"{before}-{after}".lower().replace("_", "")
        await in_phase(cluster, name, before)
        move = cluster.patch_status(BATCH_JOB, NAMESPACE, name, {"status": to_phase(after)})
        if can_move(before, after):
            assert (await move)["status"]["phase"] == after
        else:
            with pytest.raises(Refused, match="phase can only move"):
                await move


@pytest.mark.parametrize("after", Phase)
async def test_a_first_status_starts_where_the_table_starts(cluster: Cluster, after: Phase) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    move = cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": to_phase(after)})
    if can_move(None, after):
        await move
    else:
        with pytest.raises(Refused, match="phase can only move"):
            await move


@pytest.mark.parametrize("phase", sorted(TIMESTAMPS))
async def test_a_phase_needs_its_time_and_keeps_it(cluster: Cluster, phase: Phase) -> None:
    await in_phase(cluster, "one", phase)
    for other in (None, "2026-12-24T00:00:00Z"):
        with pytest.raises(Refused, match=r"set once|needs its time"):
            await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {TIMES[phase]: other}})


async def test_what_a_batch_has_used_and_its_prices_are_not_taken_back(cluster: Cluster) -> None:
    await in_phase(cluster, "one", Phase.IN_PROGRESS)
    pricing = {"currency": "EUR", "perMillionInputTokens": 0.15}
    receipt = {"pricing": pricing, "gpuSeconds": 7, "gpuSecondsByPod": {"a": 7}}
    await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": receipt})
    for field, value in (("pricing", {"currency": "USD"}), ("pricing", None), ("gpuSeconds", 6), ("gpuSeconds", None)):
        with pytest.raises(Refused, match=f"{field} (is set once|never falls)"):
            await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {field: value}})
    more = {"gpuSeconds": 8, "gpuSecondsByPod": {"a": None, "b": 1}, "cost": {"currency": "EUR", "total": "0.000001"}}
    written = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": more})
    status = BatchJob.parse(written).status
    assert (status.gpu_seconds, status.gpu_seconds_by_pod) == (8, {"b": 1})
    assert written["status"]["cost"] == more["cost"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", {"fileId": "file_00000000-0000-7000-8000-000000000000"}),
        ("endpoint", "/v1/embeddings"),
        ("metadata", {"team": "b"}),
        ("metadata", None),
        ("model", "other"),
        ("outputExpiresAfterSeconds", 7200),
        ("scheduling", {"spot": True}),
    ],
)
async def test_what_was_asked_cannot_be_changed(cluster: Cluster, field: str, value: Any) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one", metadata={"team": "a"}))
    with pytest.raises(Refused, match=f"{field}"):
        await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {field: value}})


async def test_a_cancel_is_one_way_and_keeps_its_time(cluster: Cluster) -> None:
    await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    cancel = {"cancelRequested": True, "cancelRequestedAt": timestamp(T0)}
    await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": cancel})
    with pytest.raises(Refused, match="taken back"):
        await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"cancelRequested": False}})
    with pytest.raises(Refused, match="set once"):
        await cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"cancelRequestedAt": "2026-12-24T00:00:00Z"}})


@pytest.mark.parametrize("phase", Phase)
async def test_a_batch_that_has_ended_cannot_be_cancelled(cluster: Cluster, phase: Phase) -> None:
    await in_phase(cluster, "one", phase)
    cancel = cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"cancelRequested": True}})
    if is_terminal(phase) and phase is not Phase.CANCELLED:
        with pytest.raises(Refused, match="cannot be cancelled"):
            await cancel
    else:
        await cancel


@pytest.mark.parametrize("sealing", ["completed", "cancelled", "expired", "failed"])
async def test_a_batch_that_is_being_sealed_as_lost_cannot_be_cancelled(cluster: Cluster, sealing: str) -> None:
    await in_phase(cluster, "one", Phase.IN_PROGRESS)
    await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"sealing": sealing}})
    cancel = cluster.patch(BATCH_JOB, NAMESPACE, "one", {"spec": {"cancelRequested": True}})
    if sealing in {"expired", "failed"}:
        with pytest.raises(Refused, match="cannot be cancelled"):
            await cancel
    else:
        await cancel


@pytest.mark.parametrize(
    "spec",
    [
        {"input": {}},
        {"input": {"fileId": "file_0192f0c2-0000-7000-8000-000000000000", "uri": "gs://b/k"}},
        {"input": {"fileId": "no-id-of-ours"}},
        {"endpoint": "chat"},
        {"completionWindow": "48h"},
        {"outputExpiresAfterSeconds": 3599},
        {"outputExpiresAfterSeconds": 2_592_001},
        {"metadata": {str(n): "" for n in range(17)}},
        {"metadata": {"k" * 65: ""}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {"k": 1}},
    ],
)
async def test_a_spec_that_breaks_the_contract_is_refused(cluster: Cluster, spec: Manifest) -> None:
    with pytest.raises(Refused):
        await cluster.create(BATCH_JOB, a_batch_manifest(name="one", **spec))
    assert await name_all(cluster) == []


async def test_lengths_are_counted_in_characters(cluster: Cluster) -> None:
    created = await cluster.create(BATCH_JOB, a_batch_manifest(name="one", metadata={"é" * 64: "日" * 512}))
    assert created["spec"]["metadata"] == {"é" * 64: "日" * 512}


async def test_a_model_is_reached_in_exactly_one_way(cluster: Cluster) -> None:
    manifest = a_model_manifest()
    for spec in ({"service": None}, {"server": {"image": "vllm:1"}}):
        both = manifest | {"spec": {k: v for k, v in (manifest["spec"] | spec).items() if v is not None}}
        with pytest.raises(Refused, match="exactly one of service and server"):
            await cluster.create(HOSTED_MODEL, both)
    await cluster.create(HOSTED_MODEL, manifest)


def test_every_rule_is_held_by_a_part_that_the_schema_has() -> None:
    assert set(rule_holders(BatchJob)) == {"", "spec", "status"}


# --- deletion ---------------------------------------------------------------------------------------------------------


async def gone(cluster: Cluster, kind: Any, name: str) -> None:
    """Wait until an object is gone."""
    page = await cluster.list(kind, HERE)
    try:
        await cluster.get(kind, NAMESPACE, name)
    except Missing:
        return
    async with asyncio.timeout(20), aclosing(cluster.watch(kind, HERE, page.resource_version)) as changes:
        async for change in changes:
            if change.type is ChangeType.DELETED and change.manifest["metadata"]["name"] == name:
                return


async def test_a_deletion_may_name_the_uid_that_it_means(cluster: Cluster) -> None:
    created = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    with pytest.raises(Stale):
        await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND, uid="another")
    uid = created["metadata"]["uid"]
    await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND, uid=uid)
    assert await name_all(cluster) == []


async def test_a_job_deleted_in_the_foreground_stays_until_its_pods_are_gone(cluster: Cluster) -> None:
    job = await cluster.create(JOB, a_job("job"))
    await cluster.create(POD, a_pod("pod", job))
    await cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.FOREGROUND)
    assert "deletionTimestamp" in (await cluster.get(JOB, NAMESPACE, "job"))["metadata"]
    await cluster.delete(POD, NAMESPACE, "pod", propagation=Propagation.BACKGROUND, grace_s=0)
    await gone(cluster, JOB, "job")


async def test_a_job_deleted_in_the_background_takes_its_pods_along(cluster: Cluster) -> None:
    job = await cluster.create(JOB, a_job("job"))
    await cluster.create(POD, a_pod("pod", job))
    await cluster.delete(JOB, NAMESPACE, "job", propagation=Propagation.BACKGROUND)
    await gone(cluster, JOB, "job")
    with suppress(Missing):  # a pod that no node has taken may be gone at once
        await cluster.delete(POD, NAMESPACE, "pod", propagation=Propagation.BACKGROUND, grace_s=0)
    await gone(cluster, POD, "pod")


async def test_a_deleted_batch_takes_its_job_along(cluster: Cluster) -> None:
    batch = BatchJob.parse(await cluster.create(BATCH_JOB, a_batch_manifest(name="one")))
    await cluster.create(JOB, a_job("job", ownerReferences=[batch.owner_reference().dump()]))
    await cluster.delete(BATCH_JOB, NAMESPACE, "one", propagation=Propagation.BACKGROUND)
    await gone(cluster, JOB, "job")


# --- events -----------------------------------------------------------------------------------------------------------


async def test_an_event_tells_what_happened_to_an_object(cluster: Cluster) -> None:
    batch = await cluster.create(BATCH_JOB, a_batch_manifest(name="one"))
    await cluster.record_event(batch, warning=False, reason="InProgress", message="12 lines are being sent")
    await cluster.record_event(batch, warning=True, reason="PodFailed", message="out of memory")
    events = [item async for item in each(cluster, EVENT, HERE)]
    about = [e for e in events if e["involvedObject"]["uid"] == batch["metadata"]["uid"]]
    assert {(e["type"], e["reason"], e["message"]) for e in about} == {
        ("Normal", "InProgress", "12 lines are being sent"),
        ("Warning", "PodFailed", "out of memory"),
    }


async def test_versions_of_an_object_only_grow(cluster: Cluster) -> None:
    versions = [int((await cluster.create(BATCH_JOB, a_batch_manifest(name="one")))["metadata"]["resourceVersion"])]
    for n in range(5):
        patched = await cluster.patch_status(BATCH_JOB, NAMESPACE, "one", {"status": {"attempt": n + 1}})
        versions.append(int(patched["metadata"]["resourceVersion"]))
    assert all(a < b for a, b in pairwise(versions))
