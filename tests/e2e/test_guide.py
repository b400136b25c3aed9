"""The product guide, as a person follows it: every curl line as printed, but for host, key and the ids it was given."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.installation import KEY, MODEL, Installation, chat_lines, wait_until

LIST_MODELS = """curl http://localhost:8080/openai/v1/models \\
  --header 'Authorization: Bearer <YOUR_API_KEY>'"""
UPLOAD = """curl http://localhost:8080/openai/v1/files \\
  --header 'Authorization: Bearer <YOUR_API_KEY>' \\
  --form 'purpose="batch"' \\
  --form 'file=@"my_batch_input.jsonl"'"""
CREATE = """curl http://localhost:8080/openai/v1/batches \\
  --header 'Content-Type: application/json' \\
  --header 'Authorization: Bearer <YOUR_API_KEY>' \\
  --data '{
    "input_file_id": "file_50718733-4ef8-4e25-9fd5-92d8475454b9",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "metadata": {
      "cast.ai/batch-name": "My content translation batch"
    }
  }'"""
TRACK = """curl http://localhost:8080/openai/v1/batches/<batch-id> \\
  --header 'Authorization: Bearer <YOUR_API_KEY>'"""
DOWNLOAD = """curl http://localhost:8080/openai/v1/files/<OUTPUT_FILE_ID>/content \\
  --header 'Authorization: Bearer <YOUR_API_KEY>' \\
  --output results.jsonl"""
CANCEL = """curl -X POST http://localhost:8080/openai/v1/batches/<BATCH_ID>/cancel \\
  --header 'Authorization: Bearer <YOUR_API_KEY>'"""
DELETE = """curl -X DELETE http://localhost:8080/openai/v1/files/<FILE_ID> \\
  --header 'Authorization: Bearer <YOUR_API_KEY>'"""


class Person:
    """Types the lines of the guide into a shell."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation = installation
        self._folder = folder

    def types(self, line: str, **ids: str) -> Any:
        line = line.replace("http://localhost:8080", f"http://127.0.0.1:{self._installation.port}")
        line = line.replace("<YOUR_API_KEY>", KEY)
        for placeholder, value in ids.items():
            assert (placeholder in line) or (f"<{placeholder}>" in line)
            line = line.replace(f"<{placeholder}>", value).replace(placeholder, value)
        ran = subprocess.run(["bash", "-c", line], cwd=self._folder, capture_output=True, text=True, check=True)
        return json.loads(ran.stdout) if ran.stdout else None


@pytest.fixture
def person(shared: Installation, tmp_path: Path) -> Person:
    assert shutil.which("curl"), "the guide needs curl: apt-get install curl"
    return Person(shared, tmp_path)


def test_the_guide_works_as_printed(person: Person, tmp_path: Path) -> None:
    assert MODEL in [model["id"] for model in person.types(LIST_MODELS)["data"]]

    lines, ids = chat_lines([f"guided {n}" for n in range(12)])
    (tmp_path / "my_batch_input.jsonl").write_bytes(lines)
    file = person.types(UPLOAD)
    assert file["object"] == "file"
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(lines), "my_batch_input.jsonl", "batch")
    assert file["expires_at"] == file["created_at"] + 2_592_000

    batch = person.types(CREATE, **{"file_50718733-4ef8-4e25-9fd5-92d8475454b9": file["id"]})
    assert (batch["status"], batch["request_counts"]) == ("validating", {"total": 0, "completed": 0, "failed": 0})
    assert batch["metadata"] == {"cast.ai/batch-name": "My content translation batch"}

    def ended() -> Any:
        shown = person.types(TRACK, **{"batch-id": batch["id"]})
        return shown if shown["status"] == "completed" else None

    done = wait_until(ended, "the batch to complete")
    assert done["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    assert done["usage"]["total_tokens"] > 0
    person.types(DOWNLOAD, OUTPUT_FILE_ID=done["output_file_id"])
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted(row["custom_id"] for row in results) == sorted(ids)
    assert person.types(DELETE, FILE_ID=file["id"]) == {"id": file["id"], "object": "file", "deleted": True}


def test_the_guide_cancels_a_running_batch(person: Person, tmp_path: Path) -> None:
    lines, _ = chat_lines(["slow:300"])
    (tmp_path / "my_batch_input.jsonl").write_bytes(lines)
    file = person.types(UPLOAD)
    batch = person.types(CREATE, **{"file_50718733-4ef8-4e25-9fd5-92d8475454b9": file["id"]})
    assert person.types(CANCEL, BATCH_ID=batch["id"])["status"] == "cancelling"
    shown = wait_until(
        lambda: (found := person.types(TRACK, **{"batch-id": batch["id"]}))["status"] == "cancelled" and found,
        "the batch to be cancelled",
    )
    assert shown["cancelled_at"] >= shown["cancelling_at"]
