"""`/openapi.json` against the API, by Schemathesis: no 5xx, and no answer other than what is described.

`make test` has it try a few requests of each kind; `make fuzz` has it go on for FUZZ_S seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.installation import KEY, ROOT, Installation, a_chat_line

FUZZ_S = int(os.environ.get("FUZZ_S", "0"))
FEW = ["--phases=fuzzing,stateful", "--max-examples=8", "--generation-deterministic"]
MUCH = [f"--max-time={FUZZ_S}"]
UNREACHED = {"POST /uploads/{upload_id}/complete"}
"""Needs parts of exactly the length that was announced; the SDK's scenarios and `tests/api` have it."""


@pytest.fixture(scope="session")
def schemathesis() -> Path:
    """Schemathesis and its dependencies, beside .venv."""
    made = subprocess.run(["make", "--silent", "schemathesis"], cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(made.stdout.strip())


def prepare(installation: Installation) -> dict[str, list[str]]:
    """Make objects of every kind, among them a batch that does not end by itself; gives their ids."""
    client = installation.client()
    prompts = [f"fuzz {n}" for n in range(40)] + ["slow:3000"]
    files = [client.files.create(file=("a.jsonl", a_chat_line("a", p)), purpose="batch").id for p in prompts]
    batches = [
        client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
        for file in files[-3:]
    ]
    uploads = [
        client.uploads.create(bytes=10, filename="a.jsonl", mime_type="text/jsonl", purpose="batch") for _ in range(20)
    ]
    ended = [installation.wait(batch.id) for batch in batches[:-1]]
    results = [str(batch.output_file_id) for batch in ended]
    parts = [client.uploads.parts.create(upload.id, data=b"{}").id for upload in uploads]
    return {
        "files": files + results,
        "batches": [batch.id for batch in batches],
        "uploads": [upload.id for upload in uploads],
        "parts": parts,
    }


def run(schemathesis: Path, installation: Installation, ids: Path, report: Path) -> "subprocess.CompletedProcess[str]":
    where = f"http://127.0.0.1:{installation.port}/openapi.json"
    config = ["--config-file", str(ROOT / "tests" / "fuzz" / "schemathesis.toml")]
    told = ["--header", f"Authorization: Bearer {KEY}", "--report", "json", "--report-json-path", str(report)]
    return subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *config, "run", where, *told, *(MUCH if FUZZ_S else FEW)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(schemathesis), "FUZZ_IDS": str(ids)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def count_accepted(report: dict[str, Any]) -> dict[str, int]:
    """How many requests of each operation were answered 2xx."""
    return {
        operation: sum(found["accepted"] for found in by_phase.values())
        for operation, by_phase in report["valid_rates"].items()
    }


@pytest.mark.timeout(FUZZ_S + 600)
def test_no_request_is_answered_by_a_5xx_or_by_what_is_not_described(
    start: Starter, schemathesis: Path, tmp_path: Path
) -> None:
    installation = start()
    ids, written = tmp_path / "ids.json", tmp_path / "report.json"
    ids.write_text(json.dumps(prepare(installation)))
    ran = run(schemathesis, installation, ids, written)
    assert ran.returncode == 0, ran.stdout
    report = json.loads(written.read_text())
    accepted = count_accepted(report)
    print(ran.stdout, json.dumps(accepted, indent=1))
    assert {operation for operation, count in accepted.items() if not count} <= UNREACHED
    assert report["operations"]["tested"] == report["operations"]["total"] == len(accepted)
