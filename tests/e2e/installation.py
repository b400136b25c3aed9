"""A running `nightshift local` and a stub model behind it, as a test drives them: start, stop, kill, look at."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from openai import OpenAI
from openai.types import Batch

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
KEY = "sk-e2e-test"
MODEL = "stub:1"
ENDS = frozenset({"completed", "failed", "expired", "cancelled"})


def wait_until(is_true: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """Ask again and again what only another process can tell."""
    give_up_at = time.monotonic() + timeout_s
    while not (found := is_true()):
        assert time.monotonic() < give_up_at, f"waited {timeout_s} s for: {what}"
        time.sleep(0.05)
    return found


@dataclass
class Stub:
    """The stub model server as a process."""

    process: "subprocess.Popen[str]"
    url: str

    def show(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/asked") as response:
            found: dict[str, Any] = json.load(response)
            return found

    def traces(self) -> dict[str, str]:
        """In which trace each prompt was asked last."""
        with urllib.request.urlopen(f"{self.url}/traces") as response:
            found: dict[str, str] = json.load(response)
            return found

    def asked(self, prefix: str) -> dict[str, int]:
        """How often each prompt was asked that begins with a prefix."""
        return {prompt: count for prompt, count in self.show()["asked"].items() if prompt.startswith(prefix)}


@contextlib.contextmanager
def running_stub(latency_s: float, port: int = 0) -> Iterator[Stub]:
    command = [sys.executable, "-m", "tests.stub_model", "--latency-s", str(latency_s), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Stub(process, f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


@dataclass
class Installation:
    """`nightshift local` on a directory and a port of its own; it may be stopped and started again."""

    data_dir: Path
    model_url: str
    options: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/openai/v1"

    @property
    def log(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text()

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.base_url, api_key=KEY, max_retries=8, **options)

    def command(self) -> list[str]:
        keys, model = ["--api-key", KEY], ["--model", f"{MODEL}={self.model_url}"]
        place = ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        return [str(BIN / "nightshift"), "local", *place, *keys, *model, *self.options]

    def start(self) -> None:
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                self.command(), env=os.environ | self.environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "is ready" in line:
                return
        raise AssertionError(f"nightshift local ended with {self._ended()}:\n{self.log}")

    def stop(self) -> int:
        """Stop it as Ctrl-C or systemd would; gives its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> None:
        """Kill the supervisor alone, as an out-of-memory killer would."""
        assert self.process is not None
        self.process.kill()
        self._ended()

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(timeout=40)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None
        return code

    def pids(self, words: str = "") -> dict[int, str]:
        """All living processes of this installation, by their environment; `words` must be in the command line."""
        found: dict[int, str] = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                environ = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if str(self.data_dir).encode() in environ + command.encode() and words in command:
                    found[int(folder.name)] = command
        return found

    def kill_part(self, words: str) -> int:
        """SIGKILL the one process whose command line has these words; waits for there to be one."""
        pid = int(wait_until(lambda: next(iter(self.pids(words)), None), f"a process {words!r}"))
        os.kill(pid, signal.SIGKILL)
        return pid

    # what a user does

    def submit(self, lines: bytes, endpoint: str = "/v1/chat/completions", **options: Any) -> Batch:
        client = self.client()
        uploaded = client.files.create(file=("in.jsonl", lines), purpose="batch")
        return client.batches.create(
            input_file_id=uploaded.id,
            endpoint=endpoint,  # type: ignore[arg-type]
            completion_window="24h",
            **options,
        )

    def wait(self, batch_id: str, timeout_s: float = 120.0) -> Batch:
        """Poll a batch to its end, and see that nothing that it shows ever goes backwards."""
        client, seen = self.client(), Watched()

        def look() -> Batch | None:
            batch = client.batches.retrieve(batch_id)
            seen.check(batch)
            return batch if batch.status in ENDS else None

        ended: Batch = wait_until(look, f"the end of {batch_id}", timeout_s)
        return ended

    def content(self, file_id: str | None) -> list[dict[str, Any]]:
        """Read a result file as JSON lines; none if there is no file."""
        if file_id is None:
            return []
        text = self.client().files.content(file_id).content
        assert text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]


@dataclass
class Watched:
    """What a polling client has seen: status and counts never go back, ids and times never change."""

    order = ("validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled")
    last: Batch | None = None

    def check(self, batch: Batch) -> None:
        before, self.last = self.last, batch
        if before is None:
            return
        assert self.order.index(batch.status) >= self.order.index(before.status)
        old, new = before.request_counts, batch.request_counts
        assert old is not None
        assert new is not None
        assert (new.completed, new.failed) >= (old.completed, 0)
        assert new.failed >= old.failed
        for name in ("output_file_id", "error_file_id", "in_progress_at", "finalizing_at", "cancelling_at"):
            assert getattr(before, name) in {None, getattr(batch, name)}


class HasFiles(Protocol):
    """Whatever result files can be read from."""

    def content(self, file_id: str | None) -> list[dict[str, Any]]: ...


def audit(installation: HasFiles, batch: Batch, custom_ids: list[str]) -> tuple[list[Any], list[Any]]:
    """Prove what every ending promises: each row once, counts and usage equal to the files."""
    output, errors = installation.content(batch.output_file_id), installation.content(batch.error_file_id)
    assert sorted(line["custom_id"] for line in output + errors) == sorted(custom_ids)
    assert len({line["id"] for line in output + errors}) == len(custom_ids)
    counts = batch.request_counts
    assert counts is not None
    never_ran = [line for line in errors if line["error"]["code"] in {"batch_cancelled", "batch_expired"}]
    assert (counts.total, counts.completed, counts.failed) == (
        len(custom_ids),
        len(output),
        len(errors) - len(never_ran),
    )
    usages = [line["response"]["body"]["usage"] for line in output]
    assert batch.usage is not None or not output
    if batch.usage is not None:
        assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
        assert batch.usage.output_tokens == sum(usage.get("completion_tokens", 0) for usage in usages)
        assert batch.usage.total_tokens == sum(usage["total_tokens"] for usage in usages)
    return output, errors


def a_chat_line(custom_id: str, prompt: str, model: str = MODEL) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode() + b"\n"


def chat_lines(prompts: list[str], model: str = MODEL) -> tuple[bytes, list[str]]:
    """Write one line a prompt; gives the file and its custom_ids."""
    ids = [f"row-{n}" for n in range(len(prompts))]
    return b"".join(a_chat_line(i, prompt, model) for i, prompt in zip(ids, prompts, strict=True)), ids


def wait_for_lines(installation: Installation, batch_id: str, lines: int) -> None:
    """Wait until that many lines of a batch are durable."""
    client = installation.client()

    def has_them() -> bool:
        counts = client.batches.retrieve(batch_id).request_counts
        return counts is not None and counts.completed >= lines

    wait_until(has_them, f"{lines} lines")
