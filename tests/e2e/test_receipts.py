"""Receipts are true: tokens and cost are the sums over the files, whoever was killed on the way."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from nightshift_crds.cluster import open_cluster
from nightshift_crds.cluster.port import HOSTED_MODEL, POD, each
from tests.e2e.conftest import Starter
from tests.e2e.installation import Installation, audit, chat_lines, wait_for_lines

KILLS = ("nightshift-processor run", "nightshift-operator", "local.runner", "nightshift-operator")
GPUS = 2
PRICING = {"currency": "EUR", "perMillionInputTokens": 0.15, "perMillionOutputTokens": 0.7, "perGpuHour": 1.1}
DEARER = {"perMillionInputTokens": 99, "perMillionOutputTokens": 99, "perGpuHour": 99}
LINES = 3_000
UNSEEN_S = 3
"""Of a pod that is taken away, what nobody may have seen of its end."""


def test_cost_and_tokens_are_the_sums_over_the_files_whoever_was_killed(start: Starter) -> None:
    installation = start(NIGHTSHIFT_PROGRESS_INTERVAL_S=1)
    served = {"image": "none", "port": port_of(installation), "resources": {"nvidia.com/gpu": GPUS}}
    change_model(installation, service=None, server=served | {"maxConcurrency": 8}, pricing=PRICING)
    lines, ids = chat_lines([f"receipt {n}" for n in range(LINES)])
    with watching_pods(installation) as pods:
        batch = installation.submit(lines, metadata={"batch-name": "nightly"})
        seen = []
        for n, part in enumerate(KILLS, start=1):
            wait_for_lines(installation, batch.id, n * LINES // 6)
            seen.append(details(installation, batch.id))
            change_model(installation, pricing=DEARER)
            installation.kill_part(part)
        ended = installation.wait(batch.id)
    assert ended.status == "completed"
    output, _ = audit(installation, ended, ids)  # tokens and counts are those of the files
    receipt = details(installation, batch.id)
    seen.append(receipt)
    assert receipt["cost"]["total"] == float(cost(output, receipt["gpu_seconds"]))
    assert receipt["cost"]["currency"] == "EUR"
    assert pods.gpu_seconds - GPUS * UNSEEN_S <= receipt["gpu_seconds"] <= pods.gpu_seconds
    assert len(pods.spans) > 1
    assert [shown["cost"]["total"] for shown in seen] == sorted(shown["cost"]["total"] for shown in seen)
    assert [shown["gpu_seconds"] for shown in seen] == sorted(shown["gpu_seconds"] for shown in seen)
    assert seen[0]["rate"] > 0
    assert seen[0]["eta_s"] > 0
    assert (receipt["name"], receipt["remaining"], receipt["rate"]) == ("nightly", 0, None)
    started, completed = ended.in_progress_at or 0, ended.completed_at or 0
    assert abs(receipt["duration_s"] - (completed - started)) <= 1
    installation.stop()
    installation.start()
    assert details(installation, batch.id) == receipt == listed(installation)


def cost(output: list[Any], gpu_seconds: int) -> Decimal:
    """Price the lines of a file, and the GPUs, as a person with a calculator would."""
    usages = [line["response"]["body"]["usage"] for line in output]
    tokens_in = sum(usage["prompt_tokens"] for usage in usages)
    tokens_out = sum(usage["completion_tokens"] for usage in usages)
    total = (Decimal("0.15") * tokens_in + Decimal("0.7") * tokens_out) / 1_000_000
    total += Decimal("1.1") * gpu_seconds / 3_600
    rounded: Decimal = total.quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
    return rounded


def details(installation: Installation, batch_id: str) -> dict[str, Any]:
    extra = installation.client().batches.retrieve(batch_id).model_extra or {}
    found: dict[str, Any] = extra["x_details"]
    return found


def listed(installation: Installation) -> dict[str, Any]:
    [batch] = installation.client().batches.list().data
    found: dict[str, Any] = (batch.model_extra or {})["x_details"]
    return found


def port_of(installation: Installation) -> int:
    return int(installation.model_url.rpartition(":")[2])


def change_model(installation: Installation, **spec: Any) -> None:
    """Patch the only model, as an administrator would."""

    async def change() -> None:
        async with open_cluster(f"sqlite://{installation.data_dir / 'cluster.db'}") as cluster:
            [model] = [manifest async for manifest in each(cluster, HOSTED_MODEL)]
            metadata = model["metadata"]
            await cluster.patch(HOSTED_MODEL, metadata["namespace"], metadata["name"], {"spec": spec})

    asyncio.run(change())


@dataclass
class Pods:
    """When the pods of a run started and ended, as far as somebody who looks all the time can see."""

    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def gpu_seconds(self) -> int:
        return GPUS * sum(end - start for start, end in self.spans.values())

    def note(self, pod: dict[str, Any], now: datetime) -> None:
        status = pod.get("status", {})
        if pod["metadata"]["labels"]["nightshift.dev/step"] == "run" and "startTime" in status:
            [container] = status["containerStatuses"]
            ended = container["state"].get("terminated", {}).get("finishedAt")
            times = datetime.fromisoformat(status["startTime"]), datetime.fromisoformat(ended) if ended else now
            start, end = (int(moment.timestamp()) for moment in times)
            self.spans[pod["metadata"]["uid"]] = (start, end)


@contextmanager
def watching_pods(installation: Installation) -> Iterator[Pods]:
    """Look at the pods all the time."""
    pods, is_over = Pods(), threading.Event()

    async def look() -> None:
        async with open_cluster(f"sqlite://{installation.data_dir / 'cluster.db'}") as cluster:
            while not is_over.is_set():
                now = datetime.now().astimezone()
                async for pod in each(cluster, POD):
                    pods.note(pod, now)
                await asyncio.sleep(0.1)

    watcher = threading.Thread(target=lambda: asyncio.run(look()))
    watcher.start()
    try:
        yield pods
    finally:
        is_over.set()
        watcher.join()
