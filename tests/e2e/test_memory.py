"""Memory does not grow with the input: neither of the API during an upload, nor of a processor."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.installation import MODEL, Installation, Stub, running_stub, wait_until

MIB = 1 << 20
LINES = 50_000
UPLOAD_BYTES = 100 * MIB


@pytest.fixture
def quick_stub() -> Iterator[Stub]:
    """A model that answers at once."""
    with running_stub(latency_s=0) as started:
        yield started


def peak_bytes(pid: int) -> int:
    """The most memory that a process has ever held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, "a process that has ended"
    return int(found[1]) * 1024


def a_file(lines: int, line_bytes: int) -> bytes:
    """Write a file of lines of about that length."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * (line_bytes - 170)}]}
    row = {"custom_id": "row-%05d", "method": "POST", "url": "/v1/chat/completions", "body": body}
    text = json.dumps(row)
    return "".join(f"{text % n}\n" for n in range(lines)).encode()


def only_pid(installation: Installation, words: str) -> int:
    (pid,) = installation.pids(words)
    return pid


def run_and_measure(installation: Installation, lines: int) -> int:
    """Run a batch of that many lines; gives the peak of its processor."""
    batch = installation.submit(a_file(lines, 500))
    pid = next(iter(wait_until(lambda: installation.pids("nightshift-processor run"), "the processor to start")))
    peak = 0

    def has_ended() -> bool:
        nonlocal peak
        try:
            peak = max(peak, peak_bytes(pid))
        except (AssertionError, OSError):
            return True
        return False

    wait_until(has_ended, "the processor to end", timeout_s=200)
    ended = installation.wait(batch.id)
    assert ended.request_counts is not None
    assert (ended.status, ended.request_counts.completed) == ("completed", lines)
    return peak


def test_an_upload_of_100_mb_takes_the_api_less_than_16_mb(start: Starter) -> None:
    installation = start()
    pid = only_pid(installation, "nightshift-api")
    client = installation.client()
    client.files.create(file=("small.jsonl", a_file(10, 500)), purpose="batch")
    before = peak_bytes(pid)
    content = a_file(LINES, UPLOAD_BYTES // LINES)
    uploaded = client.files.create(file=("large.jsonl", content), purpose="batch")
    assert uploaded.bytes == len(content) > 99 * MIB
    grown = peak_bytes(pid) - before
    print(f"API: {before / MIB:.1f} MiB, and {grown / MIB:.1f} MiB more for {uploaded.bytes / MIB:.0f} MiB")
    assert grown < 16 * MIB


def test_a_processor_takes_less_than_10_mb_more_for_50000_lines_than_for_5000(start: Starter, quick_stub: Stub) -> None:
    installation = start("--model", f"{MODEL}={quick_stub.url}")
    few, many = run_and_measure(installation, 5_000), run_and_measure(installation, LINES)
    print(f"processor: {few / MIB:.1f} MiB at 5,000 lines, {many / MIB:.1f} MiB at {LINES}")
    assert many - few < 10 * MIB
