"""`nightshift local` as an installation: it stops cleanly, survives, takes over, and says what is wrong."""

import subprocess

import pytest

from tests.e2e.conftest import Starter
from tests.e2e.installation import (
    MODEL,
    Installation,
    Stub,
    a_chat_line,
    audit,
    chat_lines,
    running_stub,
    wait_for_lines,
    wait_until,
)
from tests.ports import free_port


def test_stopped_in_the_middle_of_a_batch_it_goes_on_after_the_next_start(start: Starter, stub: Stub) -> None:
    installation = start("--concurrency", "8")
    lines, ids = chat_lines([f"stopped {n}" for n in range(1_500)])
    batch = installation.submit(lines)
    wait_for_lines(installation, batch.id, 300)
    assert installation.stop() == 0
    assert not installation.pids()
    installation.start()
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)
    repeated = sum(stub.asked("stopped ").values()) - len(ids)
    assert repeated <= 8, "after a SIGTERM only what was open may reach the model again"


def test_killed_it_leaves_no_process_and_a_new_one_takes_over(start: Starter) -> None:
    installation = start("--concurrency", "8")
    lines, ids = chat_lines([f"orphaned {n}" for n in range(1_500)])
    batch = installation.submit(lines)
    wait_for_lines(installation, batch.id, 300)
    assert len(installation.pids()) >= 5, "supervisor, API, operator, runner and a processor"
    installation.kill()
    wait_until(lambda: not installation.pids(), "all children to end", timeout_s=15)
    installation.start()
    ended = installation.wait(batch.id)
    assert ended.status == "completed"
    audit(installation, ended, ids)


def test_a_new_one_need_not_wait_for_the_children_of_a_killed_one(start: Starter) -> None:
    installation = start()
    lines, ids = chat_lines([f"at once {n}" for n in range(50)])
    installation.kill()
    installation.start()
    audit(installation, installation.wait(installation.submit(lines).id), ids)


def test_two_at_once_on_one_directory_are_refused(start: Starter, stub: Stub) -> None:
    installation = start()
    second = Installation(installation.data_dir, stub.url)
    ran = subprocess.run(second.command(), capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 2
    assert "Another 'nightshift local' runs on" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_port_in_use_is_told_in_a_sentence(start: Starter, stub: Stub) -> None:
    installation = start()
    second = Installation(installation.data_dir.with_name("other"), stub.url, port=installation.port)
    ran = subprocess.run(second.command(), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert f"Port {installation.port} cannot be used" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_wrong_setting_is_told_in_a_sentence(start: Starter) -> None:
    with pytest.raises(AssertionError, match="NIGHTSHIFT_MAX_LINES"):
        start(NIGHTSHIFT_MAX_LINES="many")


def test_a_deadline_in_flight_keeps_what_ran(start: Starter) -> None:
    installation = start(NIGHTSHIFT_COMPLETION_WINDOW_S=6)
    lines, ids = chat_lines([f"in time {n}" for n in range(10)] + [f"slow:300 late {n}" for n in range(10)])
    ended = installation.wait(installation.submit(lines).id)
    assert ended.status == "expired"
    output, errors = audit(installation, ended, ids)
    assert len(output) == 10
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert ended.expired_at is not None
    assert ended.expired_at >= ended.created_at + 6


def test_a_model_server_that_is_down_is_waited_for(start: Starter) -> None:
    port = free_port()
    installation = start("--model", f"{MODEL}=http://127.0.0.1:{port}")
    lines, ids = chat_lines(["patience"])
    batch = installation.submit(lines)
    wait_until(lambda: installation.pids("nightshift-processor run"), "the processor to run")
    with running_stub(latency_s=0, port=port):
        audit(installation, installation.wait(batch.id), ids)


def test_keys_open_their_own_namespace_only(start: Starter) -> None:
    installation = start("--api-key", "sk-other=team-b")
    ours = installation.client()
    theirs = installation.client()
    theirs.api_key = "sk-other"
    uploaded = theirs.files.create(file=("a.jsonl", a_chat_line("row", "x")), purpose="batch")
    assert [file.id for file in theirs.files.list()] == [uploaded.id]
    assert list(ours.files.list()) == []
