"""The real program: what a Job sees of it is its exit code."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google_crc32c import value as crc32c_of

from nightshift_crds.bucket.port import Bucket
from nightshift_crds.exits import Exit
from nightshift_crds.lines import CHAT
from tests.builders import BATCH_UID
from tests.processor.audits import audit
from tests.processor.given import (
    ERROR_ID,
    INPUT_KEY,
    OUTPUT_ID,
    Model,
    chat_lines,
    check_log,
    environ_of,
    put_input,
    read_log,
)

CONTENT = chat_lines("a", "fail:400", "hold")
STEPS = ["inspect", "run", "seal"]


def environ(bucket: Bucket, content: bytes = CONTENT, **values: Any) -> dict[str, str]:
    defaults = {
        "bucket": bucket.url,
        "batch_uid": BATCH_UID,
        "input_key": INPUT_KEY,
        "input_crc32c": crc32c_of(content),
        "scratch_dir": f"{bucket.url.removeprefix('file://')}-scratch",
        "endpoint": CHAT,
        "model_url": "http://127.0.0.1:9",
        "max_concurrency": 1,
        "flush_interval_s": 60,
        "deadline": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "reason": "cancelled",
        "items": 3,
        "output_file_id": OUTPUT_ID,
        "error_file_id": ERROR_ID,
    }
    return environ_of(defaults | values)


async def start(step: str, environment: dict[str, str]) -> Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    command = (sys.executable, "-c", "from nightshift_processor.main import main; main()", step)
    return await asyncio.create_subprocess_exec(*command, env=clean | environment, stdout=PIPE, stderr=PIPE)


async def end_of(process: Process) -> tuple[int, list[dict[str, Any]]]:
    """Wait for a program; gives its exit code and what it logged."""
    output, log = await process.communicate()
    assert output == b""
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("step", STEPS)
async def test_wrong_settings_are_final_and_all_named(step: str) -> None:
    code, log = await end_of(await start(step, {"NIGHTSHIFT_BATCH_UID": "u"}))
    assert code == Exit.BAD_SETTINGS
    assert [entry["event"] for entry in log] == ["settings.wrong"]
    assert "NIGHTSHIFT_BUCKET" in log[0]["problem"]
    assert "NIGHTSHIFT_INPUT_KEY" in log[0]["problem"]


@pytest.mark.parametrize(
    ("name", "value"), [("bucket", "ftp://x"), ("model_api_key", "sk-secret\nX-Other: 1"), ("model_url", "m:8000")]
)
async def test_a_setting_that_cannot_be_is_final_and_not_shown(bucket: Bucket, name: str, value: str) -> None:
    code, log = await end_of(await start("run", environ(bucket) | environ_of({name: value})))
    assert code == Exit.BAD_SETTINGS
    assert "sk-secret" not in json.dumps(log)


async def test_an_unknown_step_is_refused() -> None:
    process = await start("dance", {})
    await process.communicate()
    assert process.returncode not in {0, *range(40, 50)}


@pytest.mark.parametrize("step", ["inspect", "run"])
async def test_an_input_that_is_gone_is_final(bucket: Bucket, step: str) -> None:
    code, log = await end_of(await start(step, environ(bucket)))
    assert code == Exit.BAD_INPUT
    assert (log[-1]["event"], log[-1]["batch"], log[-1]["step"]) == ("input.unusable", BATCH_UID, step)


async def test_a_run_that_is_done_exits_with_zero_and_logs_no_content(bucket: Bucket, model: Model) -> None:
    content = chat_lines("first prompt", "second prompt")
    await put_input(bucket, content)
    code, log = await end_of(await start("run", environ(bucket, content, model_url=model.url)))
    assert code == Exit.DONE
    assert check_log(await read_log(bucket), 2) == {0, 1}
    assert "prompt" not in json.dumps(log)


async def test_a_run_over_its_deadline_says_so(bucket: Bucket) -> None:
    await put_input(bucket, CONTENT)
    code, _ = await end_of(await start("run", environ(bucket, deadline="2026-01-01T00:00:00Z")))
    assert code == Exit.DEADLINE


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_keeps_what_has_arrived_and_another_pod_goes_on(
    bucket: Bucket, model: Model, sent: signal.Signals
) -> None:
    await put_input(bucket, CONTENT)
    process = await start("run", environ(bucket, model_url=model.url))
    await model.stub.was_asked(3)
    process.send_signal(sent)
    code, _ = await end_of(process)
    assert code == Exit.INTERRUPTED
    assert check_log(await read_log(bucket), 3) == {0, 1}
    code, _ = await end_of(await start("seal", environ(bucket)))
    assert code == Exit.DONE
    await audit(bucket, "a", "fail:400", "hold")


async def test_a_kill_loses_only_what_was_not_durable(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, CONTENT)
    process = await start("run", environ(bucket, model_url=model.url, flush_bytes=1))
    await model.stub.was_asked(3)
    process.kill()
    await process.communicate()
    durable = check_log(await read_log(bucket), 3)
    model.stub.let_go.set()
    code, _ = await end_of(await start("run", environ(bucket, model_url=model.url)))
    assert code == Exit.DONE
    assert check_log(await read_log(bucket), 3) == {0, 1, 2}
    assert all(model.stub.asked[("a", "fail:400", "hold")[item]] == 1 for item in durable)


async def test_a_bug_is_neither_success_nor_final(bucket: Bucket, model: Model) -> None:
    content = b"no line that validation lets through\n"
    await put_input(bucket, content)
    process = await start("run", environ(bucket, content, model_url=model.url))
    await process.communicate()
    assert process.returncode not in {0, *range(40, 50)}


async def test_a_bucket_that_is_away_is_neither_success_nor_final(bucket: Bucket, model: Model) -> None:
    await put_input(bucket, CONTENT)
    batches = bucket.url.removeprefix("file://") + "/openai/batches"
    with open(batches, "wb"):  # noqa: ASYNC230, PTH123 - a file where a folder is needed
        pass
    settings = environ(bucket, model_url=model.url, give_up_after_s=0.01)
    code, log = await end_of(await start("run", settings))
    assert code == 1
    assert log[-1]["event"] == "bucket.unavailable"
