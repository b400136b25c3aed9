"""Promise 1 on a real Kubernetes: kill any pod, lose nothing."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nightshift_crds.cluster.port import Manifest
from tests.cluster.release import SERVICE_MODEL, Release
from tests.e2e.installation import audit, chat_lines, wait_until

LINES = 600


@dataclass
class Victim:
    """A batch in the middle of its run; `paid` is how often each prompt was asked whose result is durable."""

    id: str
    custom_ids: list[str]
    paid: dict[str, int]


def start(release: Release, name: str) -> Victim:
    """Create a batch of a quarter of a minute and wait until some of its lines are durable."""
    prompts = [f"slow:0.2 {name} {n}" for n in range(LINES)]
    lines, ids = chat_lines(prompts, SERVICE_MODEL)
    batch = release.submit(lines)
    running = release.wait(batch.id, lambda b: b.request_counts.completed >= 60)
    durable = [int(line["custom_id"].removeprefix("row-")) for line in release.content(running.output_file_id)]
    asked = release.asked()
    return Victim(batch.id, ids, {prompts[n]: asked[prompts[n]] for n in durable})


def check(release: Release, victim: Victim) -> None:
    """Every row once, and what was durable is never computed again."""
    ended = release.wait(victim.id)
    assert ended.status == "completed"
    audit(release, ended, victim.custom_ids)
    asked = release.asked()
    assert len(victim.paid) >= 60
    assert {prompt: asked[prompt] for prompt in victim.paid} == victim.paid


def kill(release: Release, batch_id: str) -> None:
    release.kubectl("delete", "pod", release.running_pod(batch_id), "--grace-period=0", "--force")


def delete(release: Release, batch_id: str) -> None:
    release.kubectl("delete", "pod", release.running_pod(batch_id), "--wait=false")


def evict(release: Release, batch_id: str) -> None:
    name = release.running_pod(batch_id)
    metadata = {"name": name, "namespace": release.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    release.create_raw(f"/api/v1/namespaces/{release.namespace}/pods/{name}/eviction", eviction)


@pytest.mark.parametrize("disrupt", [kill, delete, evict])
def test_a_processor_that_is_taken_away_loses_nothing(
    release: Release, disrupt: Callable[[Release, str], None]
) -> None:
    victim = start(release, disrupt.__name__)
    disrupt(release, victim.id)
    check(release, victim)


def test_an_operator_that_is_killed_loses_nothing(release: Release) -> None:
    victim = start(release, "operator")
    kill_role(release, "operator")
    wait_until(lambda: release.batch_job(victim.id)["status"]["phase"] != "IN_PROGRESS", "the next phase", 200)
    kill_role(release, "operator")
    check(release, victim)


def test_an_api_that_is_killed_loses_no_batch_and_no_upload(release: Release) -> None:
    victim = start(release, "api")
    lines, _ = chat_lines([f"uploaded {n} {'x' * 2_000}" for n in range(2_000)], SERVICE_MODEL)
    uploads: list[str] = []
    upload = threading.Thread(
        target=lambda: uploads.append(release.client().files.create(file=("in.jsonl", lines), purpose="batch").id)
    )
    upload.start()
    kill_role(release, "api")
    upload.join()
    (file_id,) = uploads
    assert release.client().files.retrieve(file_id).bytes == len(lines)
    check(release, victim)


def test_a_drained_node_loses_nothing(release: Release) -> None:
    victim = start(release, "drained")
    node = json.loads(release.kubectl("get", "pod", release.running_pod(victim.id), "--output=json"))["spec"][
        "nodeName"
    ]
    processors = "--pod-selector=app.kubernetes.io/component=processor"
    try:
        release.kubectl("drain", node, processors, "--timeout=60s", "--delete-emptydir-data")
    finally:
        release.kubectl("uncordon", node)
    check(release, victim)


def kill_role(release: Release, role: str) -> None:
    """Kill every pod of a role without any grace, and wait until there is another."""
    selector = f"--selector=app.kubernetes.io/component={role}"
    before = {pod["metadata"]["uid"] for pod in release.get("pods", selector)}
    release.kubectl("delete", "pods", selector, "--grace-period=0", "--force")

    def is_back() -> bool:
        return any(_is_ready(pod) and pod["metadata"]["uid"] not in before for pod in release.get("pods", selector))

    wait_until(is_back, f"another {role}", 120)


def _is_ready(pod: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
