"""`nightshift submit`: upload, create, follow and download a batch with the official OpenAI client."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import openai
from openai import OpenAI
from openai.types import Batch
from rich.console import Console

from nightshift_cli.progress import showing
from nightshift_crds.errors import Rejected
from nightshift_crds.lines import request_of

_FIRST_POLL_S = 0.1
_POLL_S = 1.0
_POLL_TIMEOUT_S = 30.0
_PATIENCE_S = 300.0
"""How long a server may not answer while a batch runs; the batch goes on meanwhile."""
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
    if submission.wait:
        _check_folder(submission)
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
    return OpenAI(base_url=environ["OPENAI_BASE_URL"], api_key=environ["OPENAI_API_KEY"])


def _create(client: OpenAI, submission: Submission) -> Batch:
    with submission.file.open("rb") as content:
        endpoint = submission.endpoint or guess_endpoint(content, str(submission.file))
        content.seek(0)
        uploaded = client.files.create(file=content, purpose="batch")
    click.echo(f"{uploaded.id} uploaded, {uploaded.bytes} bytes")
    return client.batches.create(
        input_file_id=uploaded.id,
        endpoint=cast(Any, endpoint),  # the server says which endpoints there are
        completion_window="24h",
        metadata=dict(submission.metadata) or None,
    )


def guess_endpoint(lines: Iterable[bytes], name: str) -> str:
    """Take the endpoint that the first request line of a file names.

    Raises:
        Rejected: there is no such line, or it names none.
    """
    requests = (request_of(line, is_first=number == 0) for number, line in enumerate(lines))
    try:
        return str(json.loads(next(filter(None, requests)).decode())["url"])
    except (StopIteration, ValueError, KeyError, TypeError, RecursionError):
        raise Rejected(f"The first line of {name} names no 'url'. Mend it, or name an --endpoint.") from None


def _follow(client: OpenAI, batch: Batch, submission: Submission) -> int:
    try:
        batch = _wait(client, batch)
        _download(client, batch, submission)
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted; {batch.id} stays on the server.", err=True)
        return _INTERRUPTED
    return _conclude(batch)


def _wait(client: OpenAI, batch: Batch) -> Batch:
    """Poll until the batch has ended, showing how it goes; a server that restarts is waited for."""
    poller = client.with_options(max_retries=0, timeout=_POLL_TIMEOUT_S)
    answered_s, wait_s = time.monotonic(), _FIRST_POLL_S
    with showing(Console(stderr=True)) as show:
        while batch.status not in _ENDS:
            show(batch)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _POLL_S)
            try:
                batch = poller.batches.retrieve(batch.id)
                answered_s = time.monotonic()
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
                if time.monotonic() - answered_s > _PATIENCE_S:
                    raise
        show(batch)
    return batch


def _download(client: OpenAI, batch: Batch, submission: Submission) -> None:
    """Stream both result files to disk, each under its name only once it is whole."""
    patient = client.with_options(max_retries=_RETRIES)
    results, errors = _result_paths(submission)
    for file_id, path, what in ((batch.output_file_id, results, "results"), (batch.error_file_id, errors, "errors")):
        if file_id:
            draft = path.with_name(f"{path.name}.part")
            with patient.files.with_streaming_response.content(file_id) as response:
                try:
                    response.stream_to_file(draft)
                    draft.replace(path)
                except OSError as error:
                    raise Rejected(f"{path} cannot be written: {error.strerror}. {file_id} stays there.") from None
            click.echo(f"{what} in {path}")


def _result_paths(submission: Submission) -> tuple[Path, Path]:
    """Name the files of results and of errors."""
    results = submission.output or submission.file.with_name(f"{submission.file.stem}_output.jsonl")
    return results, results.with_name(f"{results.stem}_errors{results.suffix}")


def _check_folder(submission: Submission) -> None:
    """Refuse, before anything is sent, results that could not be written."""
    folder = _result_paths(submission)[0].absolute().parent
    if not folder.is_dir():
        raise Rejected(f"There is no folder {folder} for the results. Make it, or name another --output.")
    if not os.access(folder, os.W_OK):
        raise Rejected(f"The folder {folder} cannot be written. Name an --output elsewhere.")


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
