"""Running a batch again: only the rows without a success reach the model, and the files of the rerun have every row."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from openai import APIStatusError
from openai.types import Batch

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, Cluster, Manifest
from tests.e2e.installation import Installation, Stub, a_chat_line, audit, chat_lines, wait_for_lines, wait_until

Rerun = Callable[[Installation, Batch], str]
NAMESPACE = "default"


def by_api(installation: Installation, origin: Batch) -> str:
    """Run a batch again with the official SDK, which knows no such call but lets one be made."""
    made = installation.client().post(f"/batches/{origin.id}/rerun", cast_to=Batch)
    assert (made.status, made.input_file_id, made.metadata) == ("validating", origin.input_file_id, origin.metadata)
    return made.id


def by_manifest(installation: Installation, origin: Batch) -> str:
    """Run a batch again as kubectl does."""
    spec = {"input": {"rerunOf": origin.id.replace("_", "-", 1)}, "endpoint": origin.endpoint}
    metadata = {"name": f"again-{uuid4().hex[:8]}", "namespace": NAMESPACE}
    manifest = {"apiVersion": BATCH_JOB.api_version, "kind": BATCH_JOB.kind, "metadata": metadata, "spec": spec}
    made = in_cluster(installation.data_dir, manifest)
    return f"batch_{made['metadata']['uid']}"


def in_cluster(data_dir: Path, manifest: Manifest) -> Manifest:
    async def create() -> Manifest:
        cluster: Cluster
        async with open_cluster(f"sqlite://{data_dir / 'cluster.db'}") as cluster:
            return await cluster.create(BATCH_JOB, manifest)

    return asyncio.run(create())


def a_batch_of(installation: Installation, prompts: list[str], **options: Any) -> tuple[Batch, list[str]]:
    lines, ids = chat_lines(prompts)
    return installation.wait(installation.submit(lines, **options).id), ids


def check_merged(installation: Installation, origin: Batch, ended: Batch, ids: list[str]) -> list[dict[str, Any]]:
    """Prove that a rerun has every row once: those of its origin as they were, then what it has sent itself."""
    assert origin.request_counts is not None
    taken = origin.request_counts.completed
    output, errors = installation.content(ended.output_file_id), installation.content(ended.error_file_id)
    assert output[:taken] == installation.content(origin.output_file_id)
    assert sorted(line["custom_id"] for line in output + errors) == sorted(ids)
    assert len({line["id"] for line in output + errors}) == len(ids)
    assert ended.request_counts is not None
    assert (ended.request_counts.total, ended.request_counts.completed) == (len(ids), len(output))
    own = [line["response"]["body"]["usage"]["total_tokens"] for line in output[taken:]]
    assert ended.usage is not None
    assert ended.usage.total_tokens == sum(own), "what another batch has paid for is not counted again"
    return errors


@pytest.mark.parametrize("rerun", [by_api, by_manifest])
def test_of_300_rows_the_30_that_failed_are_sent_again_and_no_other(
    shared: Installation, stub: Stub, rerun: Rerun
) -> None:
    tag = f"{rerun.__name__} {uuid4().hex[:6]}"
    prompts = [f"{tag} {n}" + " fail-once:400" * (n % 10 == 0) for n in range(300)]
    origin, ids = a_batch_of(shared, prompts, metadata={"team": "search"})
    assert origin.request_counts is not None
    assert (origin.request_counts.completed, origin.request_counts.failed) == (270, 30)
    asked = sum(stub.asked(tag).values())

    ended = shared.wait(rerun(shared, origin))
    assert ended.status == "completed"
    assert sum(stub.asked(tag).values()) - asked == 30
    assert set(stub.asked(tag).values()) == {1, 2}
    assert check_merged(shared, origin, ended, ids) == []
    assert ended.error_file_id is None
    assert ended.id in [batch.id for batch in shared.client().batches.list()]


def test_rows_that_fail_again_may_be_run_again_and_the_last_outcome_counts(shared: Installation, stub: Stub) -> None:
    tag = uuid4().hex[:6]
    prompts = [f"{tag} fine 1", f"{tag} fail-once:400", f"{tag} fail:400"]
    origin, ids = a_batch_of(shared, prompts)
    first = shared.wait(by_api(shared, origin))
    errors = check_merged(shared, origin, first, ids)
    assert [line["custom_id"] for line in errors] == ["row-2"]
    second = shared.wait(by_api(shared, first))
    errors = check_merged(shared, first, second, ids)
    assert [line["custom_id"] for line in errors] == ["row-2"]
    assert stub.asked(tag) == {prompts[0]: 1, prompts[1]: 2, prompts[2]: 3}


def test_a_cancelled_batch_is_finished_by_a_rerun_whose_results_can_be_read_meanwhile(
    shared: Installation, stub: Stub
) -> None:
    tag = uuid4().hex[:6]
    lines, ids = chat_lines([f"{tag} done {n}" for n in range(20)] + [f"{tag} slow:2 {n}" for n in range(70)])
    batch = shared.submit(lines)
    wait_for_lines(shared, batch.id, 20)
    shared.client().batches.cancel(batch.id)
    origin = shared.wait(batch.id)
    assert origin.status == "cancelled"
    assert origin.request_counts is not None
    taken = origin.request_counts.completed

    again = by_api(shared, origin)
    running = wait_until(lambda: _running(shared, again), "the rerun to run")
    assert (running.request_counts.total, running.request_counts.completed >= taken) == (90, True)
    assert shared.content(running.output_file_id)[:taken] == shared.content(origin.output_file_id)
    for file_id in (origin.input_file_id, origin.output_file_id):
        assert file_id
        shared.client().files.delete(file_id)  # what it needs of them it has
    ended = shared.wait(again)
    assert ended.status == "completed"
    assert sorted(line["custom_id"] for line in shared.content(ended.output_file_id)) == sorted(ids)
    assert {count for prompt, count in stub.asked(f"{tag} done").items()} == {1}


def _running(installation: Installation, batch_id: str) -> Batch | None:
    batch = installation.client().batches.retrieve(batch_id)
    return batch if batch.status == "in_progress" else None


def test_a_rerun_that_cannot_be_is_refused(shared: Installation) -> None:
    client = shared.client()
    origin, _ = a_batch_of(shared, [f"whole {uuid4().hex[:6]}"])
    running = shared.submit(a_chat_line("row", "slow:30"))
    for batch_id, status, code in ((origin.id, 409, "nothing_to_rerun"), (running.id, 409, None)):
        with pytest.raises(APIStatusError) as refused:
            client.post(f"/batches/{batch_id}/rerun", cast_to=Batch)
        assert (refused.value.status_code, refused.value.code) == (status, code)
    client.batches.cancel(running.id)
    assert shared.wait(running.id).status == "cancelled"


def test_a_batch_is_suspended_and_resumed_through_the_api(shared: Installation, stub: Stub) -> None:
    tag = uuid4().hex[:6]
    lines, ids = chat_lines([f"{tag} {n} slow:0.2" for n in range(500)])
    batch = shared.submit(lines)
    wait_for_lines(shared, batch.id, 1)
    client = shared.client()
    assert client.post(f"/batches/{batch.id}/suspend", cast_to=Batch).status == "in_progress"
    wait_until(lambda: not shared.pids("nightshift-processor run"), "the processor to go")
    asked = sum(stub.asked(tag).values())
    assert asked < len(ids)
    assert client.post(f"/batches/{batch.id}/resume", cast_to=Batch).status == "in_progress"
    ended = shared.wait(batch.id)
    assert ended.status == "completed"
    audit(shared, ended, ids)
