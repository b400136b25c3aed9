"""`nightshift submit`: upload, create, follow and download a batch with the official OpenAI client."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import openai
from openai import OpenAI
from openai.types import Batch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from nightshift_crds.errors import Rejected

_POLL_S = 1.0
_RETRIES = 8
_DONE, _FAILED, _INTERRUPTED = 0, 1, 130
_ENDS = frozenset({"completed", "failed", "expired", "cancelled"})
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Submission:
    """What to submit and what to do about it."""

    file: Path
    endpoint: str | None
    metadata: Mapping[str, str]
    wait: bool
    output: Path | None


def submit(submission: Submission, environ: Mapping[str, str]) -> int:
    """Submit a batch; gives the exit code of the command.

    Raises:
        Rejected: the environment names no server, or the server refuses the file or the batch.
    """
    client = _open_client(environ)
    try:
        batch = _create(client, submission)
        click.echo(f"{batch.id} created")
        return _follow(client, batch, submission) if submission.wait else _DONE
    except openai.APIStatusError as error:
        raise Rejected(f"The server answered {error.status_code}: {_reason(error)}") from None
    except openai.APIConnectionError:
        raise Rejected(f"No answer from {client.base_url}. Is it running, and is OPENAI_BASE_URL right?") from None


def _open_client(environ: Mapping[str, str]) -> OpenAI:
    missing = [name for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY") if not environ.get(name)]
    if missing:
        raise Rejected(f"Set {' and '.join(missing)}, for instance as 'nightshift local' prints them.")
    return OpenAI(base_url=environ["OPENAI_BASE_URL"], api_key=environ["OPENAI_API_KEY"], max_retries=_RETRIES)


def _create(client: OpenAI, submission: Submission) -> Batch:
    endpoint = submission.endpoint or _guess_endpoint(submission.file)
    with submission.file.open("rb") as content:
        uploaded = client.files.create(file=content, purpose="batch")
    click.echo(f"{uploaded.id} uploaded, {uploaded.bytes} bytes")
    return client.batches.create(
        input_file_id=uploaded.id,
        endpoint=cast(Any, endpoint),  # the server says which endpoints there are
        completion_window="24h",
        metadata=dict(submission.metadata) or None,
    )


def _guess_endpoint(file: Path) -> str:
    """Take the endpoint that the first line names."""
    with file.open(encoding="utf-8-sig") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        return str(json.loads(first)["url"])
    except (ValueError, KeyError, TypeError):
        raise Rejected(f"The first line of {file} names no 'url'. Mend it, or name an --endpoint.") from None


def _follow(client: OpenAI, batch: Batch, submission: Submission) -> int:
    try:
        batch = _wait(client, batch)
    except KeyboardInterrupt:
        click.echo(f"\n{batch.id} goes on.", err=True)
        return _INTERRUPTED
    _download(client, batch, submission)
    return _conclude(batch)


def _wait(client: OpenAI, batch: Batch) -> Batch:
    """Poll until the batch has ended, with a live bar."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[status]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed, {task.fields[rate]}, {task.fields[left]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("batch", total=None, status=batch.status, failed=0, rate="", left="")
        started = time.monotonic()
        while True:
            batch = client.batches.retrieve(batch.id)
            _show(progress, task, batch, time.monotonic() - started)
            if batch.status in _ENDS:
                return batch
            time.sleep(_POLL_S)


def _show(progress: Progress, task: TaskID, batch: Batch, elapsed_s: float) -> None:
    counts = batch.request_counts
    total, done, failed = (counts.total, counts.completed + counts.failed, counts.failed) if counts else (0, 0, 0)
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = f"{(total - done) / rate:.0f} s left" if rate and batch.status == "in_progress" else ""
    progress.update(
        task,
        total=total or None,
        completed=done,
        status=batch.status,
        failed=failed,
        rate=f"{rate:.1f}/s",
        left=left,
    )


def _download(client: OpenAI, batch: Batch, submission: Submission) -> None:
    """Stream both result files to disk."""
    output = submission.output or submission.file.with_name(f"{submission.file.stem}_output.jsonl")
    errors = output.with_name(f"{output.stem}_errors{output.suffix}")
    for file_id, path, what in ((batch.output_file_id, output, "results"), (batch.error_file_id, errors, "errors")):
        if file_id:
            with client.files.with_streaming_response.content(file_id) as response:
                response.stream_to_file(path)
            click.echo(f"{what} in {path}")


def _conclude(batch: Batch) -> int:
    counts = batch.request_counts
    if counts:
        click.echo(f"{batch.id} {batch.status}: {counts.completed} completed, {counts.failed} failed of {counts.total}")
    for problem in (batch.errors.data or [] if batch.errors else [])[:_ERRORS_SHOWN]:
        where = f"line {problem.line}: " if problem.line else ""
        click.echo(f"  {where}{problem.message} [{problem.code}]", err=True)
    return _DONE if batch.status == "completed" else _FAILED


def _reason(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message
