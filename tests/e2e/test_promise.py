"""Promise 1: kill any pod, lose nothing, pay for nothing twice. A first proof, by SIGKILL on real processes."""

import asyncio

from nightshift_crds import names
from nightshift_crds.bucket import open_bucket
from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import BATCH_JOB, HOSTED_MODEL, each
from nightshift_crds.slicelog import read_header
from tests.e2e.conftest import Starter
from tests.e2e.installation import Installation, Stub, audit, chat_lines, wait_for_lines

KILLS = (
    "nightshift-processor run",
    "nightshift-operator",
    "nightshift-api",
    "nightshift-processor run",
    "local.runner",
)


def test_a_batch_of_5000_lines_completes_with_every_row_once(start: Starter) -> None:
    installation = start()
    lines, ids = chat_lines([f"plain {n}" for n in range(5_000)])
    batch = installation.submit(lines)
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    output, errors = audit(installation, ended, ids)
    assert (len(output), errors) == (5_000, [])


def test_kill_any_pod_lose_nothing_pay_for_nothing_twice(start: Starter, stub: Stub) -> None:
    installation = start("--concurrency", "8")
    lines, ids = chat_lines([f"killed {n}" for n in range(5_000)])
    batch = installation.submit(lines)
    paid: dict[str, int] = {}
    for n, part in enumerate(KILLS, start=1):
        wait_for_lines(installation, batch.id, n * 900)
        paid |= ask_what_is_paid(installation, batch.id, stub, "killed ")
        installation.kill_part(part)
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)
    asked = stub.asked("killed ")
    assert len(paid) >= len(KILLS) * 900
    assert {prompt: asked[prompt] for prompt in paid} == paid, "a durable result is never computed again"


def test_kill_pods_that_share_a_batch_lose_nothing_pay_for_nothing_twice(start: Starter, stub: Stub) -> None:
    installation = start("--concurrency", "3")
    asyncio.run(let_share(installation, 3))
    lines, ids = chat_lines([f"shared {n}" for n in range(3_000)])
    batch = installation.submit(lines)
    paid: dict[str, int] = {}
    for n in range(1, 5):
        wait_for_lines(installation, batch.id, n * 500)
        paid |= ask_what_is_paid(installation, batch.id, stub, "shared ")
        installation.kill_part("nightshift-processor run")
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)
    asked = stub.asked("shared ")
    assert len(paid) >= 4 * 500
    assert {prompt: asked[prompt] for prompt in paid} == paid, "a durable result is never computed again"
    assert asyncio.run(claims_of_the_batch(installation)) == (24, {0, 1, 2})


async def let_share(installation: Installation, shards: int) -> None:
    """Give every model so many processors for a batch, as an administrator's manifest would."""
    async with open_cluster(f"sqlite://{installation.data_dir / 'cluster.db'}") as cluster:
        async for model in each(cluster, HOSTED_MODEL):
            metadata = model["metadata"]
            await cluster.patch(HOSTED_MODEL, metadata["namespace"], metadata["name"], {"spec": {"shards": shards}})


async def claims_of_the_batch(installation: Installation) -> tuple[int, set[int]]:
    """Count the slices of the only batch, and tell which pods have claimed any."""
    async with open_cluster(f"sqlite://{installation.data_dir / 'cluster.db'}") as cluster:
        [batch] = [manifest async for manifest in each(cluster, BATCH_JOB)]
    uid, slices = batch["metadata"]["uid"], batch["status"]["slices"]
    async with open_bucket(f"file://{installation.data_dir / 'bucket'}") as bucket:
        headers = [await read_header(bucket, names.record_key(uid, n, 0)) for n in range(slices)]
    return slices, {header.by.index for header in headers if header.by}


def ask_what_is_paid(installation: Installation, batch_id: str, stub: Stub, word: str) -> dict[str, int]:
    """Tell how often each prompt was asked whose result is durable now."""
    file_id = installation.client().batches.retrieve(batch_id).output_file_id
    durable = {line["custom_id"].replace("row-", word) for line in installation.content(file_id)}
    asked = stub.asked(word)
    return {prompt: asked[prompt] for prompt in durable}
