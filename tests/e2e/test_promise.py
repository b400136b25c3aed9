"""Promise 1: kill any pod, lose nothing, pay for nothing twice. A first proof, by SIGKILL on real processes."""

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
        paid |= ask_what_is_paid(installation, batch.id, stub)
        installation.kill_part(part)
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)
    asked = stub.asked("killed ")
    assert len(paid) >= len(KILLS) * 900
    assert {prompt: asked[prompt] for prompt in paid} == paid, "a durable result is never computed again"


def ask_what_is_paid(installation: Installation, batch_id: str, stub: Stub) -> dict[str, int]:
    """Tell how often each prompt was asked whose result is durable now."""
    file_id = installation.client().batches.retrieve(batch_id).output_file_id
    durable = {line["custom_id"].replace("row-", "killed ") for line in installation.content(file_id)}
    asked = stub.asked("killed ")
    return {prompt: asked[prompt] for prompt in durable}
