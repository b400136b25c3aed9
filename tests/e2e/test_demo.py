"""`make demo`: real answers of a real model, as the README promises."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.installation import ROOT, Stub

WORK = ROOT / "build" / "demo"


def demo(**variables: str) -> str:
    """Run the demo; gives what it printed."""
    command = ["make", "--silent", "demo", *(f"{name}={value}" for name, value in variables.items())]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_nothing_is_left() -> None:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            assert str(WORK).encode() not in command, command


def test_the_demo_ends_with_real_answers() -> None:
    printed = demo()
    assert "11 completed, 1 failed of 12" in printed
    results, errors = read(WORK / "results.jsonl"), read(WORK / "results_errors.jsonl")
    assert [line["custom_id"] for line in errors] == ["too-long"]
    answers = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in results}
    assert all(answer.strip() for answer in answers.values())
    assert "GPU" in answers["gpu-scheduling"]
    assert " ".join(answers["gpu-scheduling"].split())[:40] in printed
    check_nothing_is_left()


def test_the_demo_takes_a_server_that_the_user_already_has(stub: Stub) -> None:
    assert "12 completed, 0 failed of 12" in demo(MODEL_URL=stub.url, MODEL="stub:1")
    assert {line["response"]["body"]["model"] for line in read(WORK / "results.jsonl")} == {"stub:1"}
    check_nothing_is_left()
