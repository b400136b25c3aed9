"""Settings, inputs and logs for the processor's tests, with defaults."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google_crc32c import value as crc32c_of

from nightshift_crds import names
from nightshift_crds.bucket.port import Bucket, get
from nightshift_crds.lines import CHAT, ErrorForm, Usage
from nightshift_crds.names import ResultKind
from nightshift_crds.records import Header, Ledger, RecordKind, State, decode_header
from nightshift_processor.client import Answer
from nightshift_processor.outcome import Outcome, conclude
from nightshift_processor.settings import RunSettings, SealSettings
from tests.builders import BATCH_UID, a_line, jsonl
from tests.stub_model import StubModel

INPUT_KEY = "openai/files/input.jsonl"
OUTPUT_ID = "file_output"
ERROR_ID = "file_error"


@dataclass(frozen=True)
class Model:
    """A stub that serves, and where."""

    stub: StubModel
    url: str


def environ_of(values: dict[str, Any]) -> dict[str, str]:
    return {f"NIGHTSHIFT_{name.upper()}": str(value) for name, value in values.items()}


def run_settings(bucket: Bucket, content: bytes = b"", *, index: int = 0, **values: Any) -> RunSettings:
    """Settings of a run over `content`, which flushes often, as the Job of the operator would tell them."""
    scratch = f"{bucket.url.removeprefix('file://')}-scratch"
    defaults = {
        "bucket": bucket.url,
        "batch_uid": BATCH_UID,
        "input_key": INPUT_KEY,
        "input_crc32c": crc32c_of(content),
        "scratch_dir": scratch,
        "endpoint": CHAT,
        "model_url": "http://127.0.0.1:9",
        "deadline": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "flush_interval_s": 0.02,
        "attempt": 1,
    }
    return RunSettings.load(environ_of(defaults | values) | {"JOB_COMPLETION_INDEX": str(index)})


def seal_settings(bucket: Bucket, content: bytes = b"", **values: Any) -> SealSettings:
    defaults = {
        "bucket": bucket.url,
        "batch_uid": BATCH_UID,
        "input_key": INPUT_KEY,
        "input_crc32c": crc32c_of(content),
        "scratch_dir": f"{bucket.url.removeprefix('file://')}-scratch",
        "reason": "completed",
        "items": sum(bool(line.strip()) for line in content.splitlines()),
        "output_file_id": OUTPUT_ID,
        "error_file_id": ERROR_ID,
    }
    return SealSettings.load(environ_of(defaults | values))


def chat_lines(*prompts: str) -> bytes:
    """Write an input in which the line of a prompt has it as its custom_id too."""
    return jsonl(*(a_line(prompt, messages=[{"role": "user", "content": prompt}]) for prompt in prompts))


async def put_input(bucket: Bucket, content: bytes) -> None:
    await bucket.put(INPUT_KEY, content, create_only=False)


def a_success(item: int, tokens: int = 3, text: str = "") -> Outcome:
    body = {"n": item, "text": text, "usage": {"prompt_tokens": tokens, "completion_tokens": 2}}
    return conclude(*_asked(item), Answer(200, json.dumps(body).encode()), ErrorForm.SEED)


def a_failure(item: int) -> Outcome:
    return conclude(*_asked(item), Answer(400, b"{}"), ErrorForm.SEED)


def _asked(item: int) -> tuple[str, str]:
    return names.line_id(BATCH_UID, item), f"row-{item}"


@dataclass(frozen=True)
class Record:
    """A record of a log, taken apart."""

    header: Header
    outputs: list[dict[str, Any]]
    errors: list[dict[str, Any]]

    @property
    def items(self) -> list[int]:
        return [int(line["id"][-8:], 16) for line in (*self.outputs, *self.errors)]


async def read_log(bucket: Bucket, slice_no: int = 0) -> list[Record]:
    keys = [key async for key in _keys(bucket, names.log_prefix(BATCH_UID, slice_no))]
    assert keys == [names.record_key(BATCH_UID, slice_no, seq) for seq in range(len(keys))], "numbers are dense"
    return [_parse_record(await get(bucket, key)) for key in keys]


async def _keys(bucket: Bucket, prefix: str) -> AsyncIterator[str]:
    async with aclosing(bucket.list(prefix)) as infos:
        async for info in infos:
            yield info.key


def _parse_record(data: bytes) -> Record:
    line, _, lines = data.partition(b"\n")
    header = decode_header(line)
    assert len(lines) == header.output_length + header.error_length
    parts = lines[: header.output_length], lines[header.output_length :]
    outputs, errors = ([json.loads(text) for text in part.splitlines()] for part in parts)
    assert all(line["error"] is None for line in outputs)
    assert all(line["response"] is None for line in errors)
    return Record(header, outputs, errors)


def check_log(records: list[Record], items: int) -> set[int]:
    """Prove that every header says what the records up to it hold, and no line twice; gives the items that are done."""
    state, done = State(), set[int]()
    for record in records:
        assert not done & set(record.items)
        assert len(set(record.items)) == len(record.items)
        done |= set(record.items)
        state = State(
            completed=state.completed + len(record.outputs),
            failed=state.failed + len(record.errors),
            usage=sum((usage_of(line) for line in record.outputs), state.usage),
            output_bytes=state.output_bytes + record.header.output_length,
            error_bytes=state.error_bytes + record.header.error_length,
            done=record.header.state.done,
        )
        assert record.header.state == state
        ledger = Ledger.unpack(record.header.state.done, items)
        assert {item for item in range(items) if item in ledger} == done
    return done


def usage_of(line: dict[str, Any]) -> Usage:
    usage = line["response"]["body"]["usage"]
    sent, received = usage["prompt_tokens"], usage["completion_tokens"]
    return Usage(input_tokens=sent, output_tokens=received, total_tokens=sent + received)


def kinds(records: list[Record]) -> list[RecordKind]:
    return [record.header.kind for record in records]


async def read_result(bucket: Bucket, kind: ResultKind) -> list[dict[str, Any]]:
    file_id = OUTPUT_ID if kind is ResultKind.OUTPUT else ERROR_ID
    return [json.loads(line) for line in (await get(bucket, names.file_key(file_id))).splitlines()]
