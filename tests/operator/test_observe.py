"""Reading what is: only what a phase asks for, nothing of strangers, and one odd resource hides no other."""

from datetime import timedelta
from typing import Any

import pytest

from nightshift_crds import names
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, JOB
from nightshift_crds.errors import Missing
from nightshift_crds.models import Verdict
from nightshift_crds.names import Step, job_name
from nightshift_crds.records import RecordKind
from nightshift_operator.controller import Key
from nightshift_operator.facts import JobState, Node, Observed
from tests.builders import FILE_ID, MODEL, NAMESPACE, a_verdict
from tests.operator.builders import EMBEDDINGS
from tests.operator.world import Fuse, World

NO_UUID = f"file_{36 * '-'}"
"""What the pattern of the CRD lets through, though no file has it."""


async def seen(world: World, key: Key, fuse: Fuse | None = None) -> Observed:
    return await world.operator(fuse).observer.observe(*key, world.clock())


@pytest.fixture
async def key(world: World) -> Key:
    """A batch that nobody has looked at yet, with its input and its model."""
    await world.add_model()
    await world.add_input()
    return await world.add_batch()


@pytest.fixture
async def running(world: World, key: Key) -> Key:
    """The same one with its first Job."""
    for _ in range(3):
        await world.operator().reconcile(key)
    return key


async def test_a_batch_that_is_not_there_is_missing(world: World) -> None:
    with pytest.raises(Missing):
        await seen(world, Key(NAMESPACE, "nobody"))


# --- validating -------------------------------------------------------------------------------------------------------


async def test_a_new_batch_is_seen_with_its_input_its_verdict_and_the_catalogue(world: World, key: Key) -> None:
    facts = await seen(world, key)
    assert facts.input_file is not None
    assert (facts.input_file.id, facts.input_key, facts.verdict) == (FILE_ID, names.file_key(FILE_ID), a_verdict())
    assert [model.spec.name for model in facts.models] == [MODEL]


async def test_an_input_of_another_namespace_is_not_there(world: World, key: Key) -> None:
    manifest = await world.cluster.get(BATCH_JOB, *key)
    elsewhere = Key("team-b", key.name)
    await world.cluster.create(BATCH_JOB, manifest | {"metadata": elsewhere._asdict()})
    facts = await seen(world, elsewhere)
    assert (facts.input_file, facts.verdict, facts.models) == (None, None, ())


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ({"uri": "{bucket}/shared/a/in.jsonl"}, "shared/a/in.jsonl"),
        ({"uri": "{bucket}/openai/files/in.jsonl"}, None),
        ({"fileId": NO_UUID}, f"openai/files/{NO_UUID}.jsonl"),
    ],
)
async def test_an_input_without_a_file_has_at_most_a_key(world: World, source: dict[str, str], key: str | None) -> None:
    spec = {kind: text.format(bucket=world.bucket.url) for kind, text in source.items()}
    facts = await seen(world, await world.add_batch(input=spec))
    assert (facts.input_file, facts.input_key, facts.verdict) == (None, key, None)


async def leave_verdict(world: World, key: Key, verdict: Verdict) -> None:
    uid = (await world.batch(key)).metadata.uid
    await world.bucket.put(names.verdict_key(uid), verdict.model_dump_json(by_alias=True).encode(), create_only=True)


async def test_what_an_inspection_found_counts_where_the_upload_has_no_verdict(world: World) -> None:
    key = await world.add_batch(input={"uri": f"{world.bucket.url}/shared/a/in.jsonl"})
    await leave_verdict(world, key, a_verdict(lines=3))
    assert (await seen(world, key)).verdict == a_verdict(lines=3)


async def test_what_an_inspection_found_does_not_replace_what_the_upload_found(world: World, key: Key) -> None:
    await leave_verdict(world, key, a_verdict(lines=3))
    assert (await seen(world, key)).verdict == a_verdict()


async def test_an_upload_that_was_not_checked_for_the_endpoint_keeps_its_verdict_until_an_inspection_has_one(
    world: World, key: Key
) -> None:
    other = await world.add_batch(name="other", endpoint=EMBEDDINGS)
    assert (await seen(world, other)).verdict == a_verdict()
    await leave_verdict(world, other, a_verdict(endpoint=EMBEDDINGS, lines=3))
    assert (await seen(world, other)).verdict == a_verdict(endpoint=EMBEDDINGS, lines=3)


async def test_a_model_that_this_version_does_not_understand_hides_no_other(world: World, key: Key) -> None:
    await world.add_model(name="another:1b")
    world.write_oddly(HOSTED_MODEL, "another-1b", spec={"endpoints": {"v2": True}})
    assert [model.spec.name for model in (await seen(world, key)).models] == [MODEL]


# --- running ----------------------------------------------------------------------------------------------------------


async def test_a_stranger_s_job_under_our_name_is_none_of_ours(world: World, key: Key) -> None:
    uid = (await world.batch(key)).metadata.uid
    metadata = {"name": job_name(uid, Step.INSPECT), "namespace": NAMESPACE}
    await world.cluster.create(JOB, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    assert (await seen(world, key)).inspect is None


async def test_a_job_that_works_is_seen_with_its_pods_and_its_progress(world: World, running: Key) -> None:
    job = await world.job(running)
    await world.add_pod(job, containerStatuses=[{"name": "processor", "state": {"running": {}}}])
    await world.log(running, RecordKind.PART, completed=3, failed=1)
    facts = await seen(world, running)
    assert facts.run is not None
    assert [(pod.running, facts.run.state) for pod in facts.run.pods] == [(True, JobState.ACTIVE)]
    assert facts.progress is not None
    assert (facts.progress.completed, facts.progress.failed) == (3, 1)
    assert facts.ended_at is None


WORKING: list[dict[str, Any]] = [{"name": "processor", "state": {"running": {}}}]


async def test_the_machine_of_a_running_pod_is_looked_up_once_an_attempt(world: World, running: Key) -> None:
    await world.add_node("node-1", **{"node.kubernetes.io/instance-type": "g2-standard-8"})
    await world.add_pod(await world.job(running), node="node-1", containerStatuses=WORKING)
    assert (await seen(world, running)).node == Node("g2-standard-8")
    await world.operator().reconcile(running)
    assert (await world.batch(running)).status.instance_type == "g2-standard-8"
    assert (await seen(world, running)).node is None


@pytest.mark.parametrize("node", ["", "gone"])
async def test_a_machine_that_cannot_be_looked_up_is_not_known(world: World, running: Key, node: str) -> None:
    await world.add_pod(await world.job(running), node=node, containerStatuses=WORKING)
    assert (await seen(world, running)).node is None


async def test_a_pod_that_waits_has_no_machine_yet(world: World, running: Key) -> None:
    await world.add_node("node-1", **{"node.kubernetes.io/instance-type": "g2-standard-8"})
    await world.add_pod(await world.job(running), node="node-1")
    assert (await seen(world, running)).node is None


@pytest.mark.parametrize("kind", [RecordKind.END, RecordKind.PART])
async def test_the_end_of_the_slices_is_looked_for_once_the_job_is_not_at_work(
    world: World, running: Key, kind: RecordKind
) -> None:
    await world.log(running, kind, completed=8, failed=2)
    assert (await seen(world, running)).ended_at is None
    await world.end_job(running)
    assert ((await seen(world, running)).ended_at is not None) is (kind is RecordKind.END)


async def test_the_end_of_the_slices_is_looked_for_at_the_deadline_whatever_the_job_does(
    world: World, running: Key
) -> None:
    await world.log(running, RecordKind.END, completed=8, failed=2)
    world.clock.offset = timedelta(seconds=world.settings.completion_window_s + 1)
    assert (await seen(world, running)).ended_at is not None


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_manifest_is_seen_with_the_bucket_s_time(world: World, running: Key) -> None:
    await world.cancel(running)
    await world.operator().reconcile(running)
    assert (await seen(world, running)).sealed is None
    await world.seal(running, completed=4, failed=1)
    sealed = (await seen(world, running)).sealed
    info = await world.bucket.head(names.manifest_key((await world.batch(running)).metadata.uid))
    assert sealed is not None
    assert info is not None
    assert (sealed.at, sealed.manifest.completed) == (info.written, 4)


async def test_a_settled_batch_costs_one_read(world: World, key: Key) -> None:
    patch: dict[str, Any] = {"status": {"phase": "FAILED", "failedAt": "2026-11-24T00:00:00Z", "settled": True}}
    await world.cluster.patch_status(BATCH_JOB, *key, patch)
    assert (await seen(world, key, Fuse(1))).jobs == ()
