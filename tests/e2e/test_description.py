"""`/openapi.json` against the API, by Schemathesis: no 5xx, and no answer other than what is described.

`make test` has it try a few requests of each kind; `make fuzz` has it go on for FUZZ_S seconds.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.installation import KEY, ROOT, Installation, a_chat_line

FUZZ_S = int(os.environ.get("FUZZ_S", "0"))
FEW = ["--phases=fuzzing,stateful", "--max-examples=8", "--generation-deterministic"]
MUCH = [f"--max-time={FUZZ_S}"]


@pytest.fixture(scope="session")
def schemathesis() -> Path:
    """Schemathesis and its dependencies, beside .venv."""
    made = subprocess.run(["make", "--silent", "schemathesis"], cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(made.stdout.strip())


def prepare(installation: Installation) -> dict[str, Any]:
    """Make objects of every kind, among them batches that do not end by themselves or can be run again."""
    client = installation.client()
    prompts = [f"fuzz {n}" for n in range(40)] + ["fail:400 fuzz", "slow:3000"]
    files = [client.files.create(file=("a.jsonl", a_chat_line("a", p)), purpose="batch").id for p in prompts]
    batches = [
        client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
        for file in files[-4:]
    ]
    uploads = [
        client.uploads.create(bytes=2, filename="a.jsonl", mime_type="text/jsonl", purpose="batch") for _ in range(20)
    ]
    ended = [installation.wait(batch.id) for batch in batches[:-1]]
    results = [str(batch.output_file_id or batch.error_file_id) for batch in ended]
    parts = [client.uploads.parts.create(upload.id, data=b"{}").id for upload in uploads]
    return {
        "files": files + results,
        "batches": [batch.id for batch in batches],
        "uploads": [upload.id for upload in uploads],
        "parts": parts,
        "whole": {upload.id: [part] for upload, part in zip(uploads, parts, strict=True)},
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


def count_statuses(log: str, description: dict[str, Any]) -> dict[str, Counter[int]]:
    """How each operation was answered, by the API's own log: the report of Schemathesis counts its last round only."""
    statuses: dict[str, Counter[int]] = {
        f"{method.upper()} {path}": Counter() for path, found in description["paths"].items() for method in found
    }
    for line in log.splitlines():
        told = json.loads(line) if '"http.request"' in line else {}
        path = str(told.get("path", "")).removeprefix("/openai/v1")
        for operation, counted in statuses.items():
            method, template = operation.split()
            pattern = re.sub(r"\{(\w+)\}", lambda found: ".+" if found[1] == "model" else "[^/]+", template)
            if told.get("method") == method and re.fullmatch(pattern, path):
                counted[told["status"]] += 1
    return statuses


@pytest.mark.timeout(FUZZ_S + 600)
def test_no_request_is_answered_by_a_5xx_or_by_what_is_not_described(
    start: Starter, schemathesis: Path, tmp_path: Path
) -> None:
    installation = start()
    ids, written = tmp_path / "ids.json", tmp_path / "report.json"
    ids.write_text(json.dumps(prepare(installation)))
    with urllib.request.urlopen(f"http://127.0.0.1:{installation.port}/openapi.json") as answer:
        description = json.load(answer)
    begun = len(installation.log)
    ran = run(schemathesis, installation, ids, written)
    assert ran.returncode == 0, ran.stdout
    statuses = count_statuses(installation.log[begun:], description)
    print(ran.stdout)
    for operation, counted in statuses.items():
        print(f"{operation:<36}{dict(sorted(counted.items()))}")
    print(f"{'all':<36}{dict(sorted(sum(statuses.values(), Counter()).items()))}", flush=True)
    answered = sum(statuses.values(), Counter())
    assert answered[200] >= answered.total() / 4, "tried, and mostly refused"
    if FUZZ_S:  # which few requests are tried depends on ids that the API makes
        assert [operation for operation, counted in statuses.items() if not counted[200]] == []
    assert not [status for counted in statuses.values() for status in counted if status >= 500]
    assert json.loads(written.read_text())["operations"]["tested"] == len(statuses)
