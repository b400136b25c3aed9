"""Promise 1: kill any pod, lose nothing, pay for nothing twice. A first proof, by SIGKILL on real processes."""

from tests.e2e.conftest import Starter
from tests.e2e.installation import audit, chat_lines, wait_until


def test_a_batch_of_5000_lines_completes_with_every_row_once(start: Starter) -> None:
    installation = start()
    lines, ids = chat_lines([f"plain {n}" for n in range(5_000)])
    batch = installation.submit(lines)
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    output, errors = audit(installation, ended, ids)
    assert (len(output), errors) == (5_000, [])


def test_kill_any_pod_lose_nothing_pay_for_nothing_twice(start: Starter, stub: "object") -> None:
    installation = start("--concurrency", "8")
    lines, ids = chat_lines([f"killed {n}" for n in range(5_000)])
    batch = installation.submit(lines)
    client = installation.client()

    def completed() -> int:
        counts = client.batches.retrieve(batch.id).request_counts
        return counts.completed if counts else 0

    kills = ["nightshift-processor run", "nightshift-operator", "nightshift-api", "local.runner"]
    for n, part in enumerate(kills, start=1):
        wait_until(lambda goal=n * 900: completed() >= goal, f"{n * 900} lines before {part} is killed")
        installation.kill_part(part)
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)
