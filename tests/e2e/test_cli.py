"""The commands against a running installation: watching, holding, fetching, and what survives a kill."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.installation import BIN, KEY, Installation, audit, chat_lines, wait_for_lines, wait_until


class Shell:
    """Runs `nightshift` in a folder, with an installation in the environment."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self.folder = folder
        self.environ = os.environ | {"OPENAI_BASE_URL": installation.base_url, "OPENAI_API_KEY": KEY}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(BIN / "nightshift"), *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False)

    def __call__(self, *arguments: str) -> str:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [str(BIN / "nightshift"), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=pipe, stderr=pipe, text=True)

    def show(self, batch_id: str) -> Any:
        return json.loads(self("get", batch_id, "-o", "json"))

    def submit(self, prompts: list[str], *options: str) -> tuple[str, list[str]]:
        lines, ids = chat_lines(prompts)
        (self.folder / "in.jsonl").write_bytes(lines)
        return self("submit", "in.jsonl", *options).split()[-2], ids


def ids_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


def test_a_batch_from_submit_to_results(start: Starter, tmp_path: Path) -> None:
    shell = Shell(start(), tmp_path)
    assert shell("models", "-o", "name") == "stub:1\n"
    batch_id, ids = shell.submit([f"shell {n}" for n in range(50)] + ["fail:400"], "--metadata", "batch-name=Grüße")
    assert shell("watch", batch_id).endswith(f"{batch_id} completed: 50 completed, 1 failed of 51\n")
    _, row = shell("list", "--status", "completed").splitlines()
    assert row.split()[:6] == [batch_id, "Grüße", "completed", "50", "1", "51"]
    details = shell("get", batch_id).splitlines()
    assert {"Attempt:     1", "Name:        Grüße"} <= set(details), "what x_details has"
    shell("download", batch_id)
    shell("download", batch_id, "--errors")
    output, errors = (ids_of(tmp_path / f"{batch_id}_{what}.jsonl") for what in ("output", "error"))
    assert sorted(output + errors) == sorted(ids)
    assert shell("download", batch_id, "--output", "-") == (tmp_path / f"{batch_id}_output.jsonl").read_text()
    input_id = shell.show(batch_id)["input_file_id"]
    shell("download", input_id, "--output", "same.jsonl")
    assert (tmp_path / "same.jsonl").read_bytes() == (tmp_path / "in.jsonl").read_bytes()
    refused = shell.run("cancel", batch_id)
    assert (refused.returncode, "A batch that is completed cannot be cancelled" in refused.stderr) == (6, True)


def test_watching_outlives_the_server(start: Starter, tmp_path: Path) -> None:
    installation = start("--concurrency", "8")
    shell = Shell(installation, tmp_path)
    batch_id, _ = shell.submit([f"watched {n}" for n in range(1_000)])
    other_id, _ = shell.submit(["watched too"])
    wait_for_lines(installation, batch_id, 100)
    with shell.begin("watch", batch_id, other_id) as watching:
        assert watching.stderr
        assert batch_id in watching.stderr.readline()
        installation.kill_part("nightshift-api")
        installation.kill()
        wait_until(lambda: not installation.pids(), "all parts to end", timeout_s=15)
        installation.start()
        out, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert f"{batch_id} completed: 1000 completed, 0 failed of 1000\n" in out
    assert f"{other_id} completed: 1 completed, 0 failed of 1\n" in out


def test_results_are_followed_while_they_grow_through_kills(start: Starter, tmp_path: Path) -> None:
    installation = start("--concurrency", "8")
    shell = Shell(installation, tmp_path)
    batch_id, ids = shell.submit([f"followed {n}" for n in range(1_500)])
    grown = tmp_path / "grown.jsonl"
    with shell.begin("download", batch_id, "--follow", "--output", "grown.jsonl") as following:
        wait_until(lambda: grown.exists() and len(grown.read_bytes().splitlines()) >= 100, "some lines")
        installation.kill_part("nightshift-api")
        following.send_signal(signal.SIGKILL)
    with grown.open("ab") as half:
        half.write(b'{"id": "what a kill leaves')
    before = grown.read_bytes().splitlines(keepends=True)[:-1]
    with shell.begin("download", batch_id, "--follow", "--output", "grown.jsonl") as following:
        wait_for_lines(installation, batch_id, 800)
        installation.kill_part("nightshift-processor run")
        _, told = following.communicate(timeout=120)
    assert following.returncode == 0
    assert "1500 lines in grown.jsonl" in told
    assert grown.read_bytes().splitlines(keepends=True)[: len(before)] == before
    assert sorted(ids_of(grown)) == sorted(ids), "each line once, whatever was killed"
    shell("download", batch_id, "--output", "sealed.jsonl")
    sealed = (tmp_path / "sealed.jsonl").read_bytes().splitlines()
    assert sorted(grown.read_bytes().splitlines()) == sorted(sealed)
    audit(installation, installation.wait(batch_id), ids)


def test_what_is_written_so_far_is_whole_lines(start: Starter, tmp_path: Path) -> None:
    installation = start("--concurrency", "2")
    shell = Shell(installation, tmp_path)
    batch_id, _ = shell.submit([f"partly {n}" for n in range(30)] + [f"slow:300 {n}" for n in range(2)])
    wait_for_lines(installation, batch_id, 30)
    ran = shell.run("download", batch_id, "--output", "-")
    assert len([json.loads(line) for line in ran.stdout.splitlines()]) == 30
    assert "--follow takes the rest too" in ran.stderr
    assert "cancelling" in shell("cancel", batch_id)
    assert shell.run("watch", batch_id).returncode == 12


def test_a_batch_is_held_and_let_go_and_what_failed_is_run_again(start: Starter, tmp_path: Path) -> None:
    installation = start("--concurrency", "4")
    shell = Shell(installation, tmp_path)
    batch_id, ids = shell.submit([f"slow:0.5 held {n}" for n in range(100)] + ["fail-once:400 again"])
    wait_for_lines(installation, batch_id, 5)
    shell("suspend", batch_id)
    wait_until(lambda: not installation.pids("nightshift-processor run"), "the processor to go")
    assert shell.show(batch_id)["status"] == "in_progress"
    shell("resume", batch_id)
    assert "100 completed, 1 failed of 101" in shell("watch", batch_id)
    assert shell.run("suspend", batch_id).returncode == 6
    told = shell("rerun", batch_id, "--watch", "--metadata", "try=2")
    again = told.split()[0]
    assert told.endswith(f"{again} completed: 101 completed, 0 failed of 101\n")
    assert sorted(ids_of(tmp_path / f"{again}_output.jsonl")) == sorted(ids)
    assert shell.show(again)["metadata"] == {"try": "2"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get", "batch_01920000-0000-7000-8000-000000000000"), 3),
        (("download", "file_01920000-0000-7000-8000-000000000000"), 3),
        (("list", "--api-key", "sk-of-somebody-else"), 4),
        (("list", "--base-url", "http://127.0.0.1:9/v1"), 5),
    ],
)
def test_what_goes_wrong_is_a_code_and_a_sentence(
    shared: Installation, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    ran = Shell(shared, tmp_path).run(*arguments)
    assert ran.returncode == code
    assert ran.stderr.startswith("nightshift: ")
    assert "Traceback" not in ran.stderr
    assert "sk-of-somebody-else" not in ran.stderr


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    environ = os.environ | {"_NIGHTSHIFT_COMPLETE": "bash_complete", "COMP_WORDS": "nightshift dow", "COMP_CWORD": "1"}
    ran = subprocess.run([BIN / "nightshift"], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout == "plain,download\n"
