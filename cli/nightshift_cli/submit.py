"""`nightshift submit`: upload, create, follow and download a batch."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from nightshift_cli.downloads import check_folder, fetch
from nightshift_cli.exits import Exit, of_statuses
from nightshift_cli.following import Patience, follow
from nightshift_cli.port import NewBatch, Service
from nightshift_cli.progress import showing_bytes
from nightshift_cli.tables import render_problems
from nightshift_cli.views import BatchView
from nightshift_crds.errors import Rejected
from nightshift_crds.lines import request_of


@dataclass(frozen=True)
class Submission:
    """What to submit, one of `file`, `file_id` and `uri`, and what to do about it.

    Attributes:
        endpoint: of the batch; None takes that of the first line of `file`.
        output: where results go; None: beside `file`, or in a file that is called like the batch.
    """

    file: Path | None = None
    file_id: str | None = None
    uri: str | None = None
    endpoint: str | None = None
    metadata: Mapping[str, str] | None = None
    wait: bool = False
    output: Path | None = None


def submit(service: Service, submission: Submission, patience: Patience) -> Exit:
    """Submit a batch; gives the exit code of the command.

    Raises:
        Rejected: what is asked for does not go together, or the server refuses the file or the batch.
    """
    _check(service, submission)
    endpoint = submission.endpoint or _find_endpoint(submission.file)
    file_id = _upload(service, submission.file) if submission.file else submission.file_id
    batch = service.create(NewBatch(endpoint, file_id, submission.uri, submission.metadata or {}))
    click.echo(f"{batch.ref} created")
    return conclude(service, batch, submission, patience) if submission.wait else Exit.DONE


def _check(service: Service, submission: Submission) -> None:
    """Refuse before anything is sent what could not be done in the end."""
    if [submission.file, submission.file_id, submission.uri].count(None) != 2:
        raise Rejected("Expected one of FILE, --file-id and --uri.")
    if submission.endpoint is None and submission.file is None:
        raise Rejected("Name the --endpoint: without a FILE there is no line to take it from.")
    if submission.output and not service.has_bytes:
        raise Rejected("Leave out --output: a manifest holds no bytes, so results cannot be fetched this way.")
    if submission.wait:
        check_folder(_results_path(submission, ""))


def _find_endpoint(file: Path | None) -> str:
    assert file
    with file.open("rb") as content:
        return guess_endpoint(content, str(file))


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


def _upload(service: Service, file: Path) -> str:
    size = file.stat().st_size
    with showing_bytes(Console(stderr=True), size, time.monotonic) as show:
        file_id = service.upload(file, show)
    click.echo(f"{file_id} uploaded, {size} bytes")
    return file_id


def conclude(service: Service, batch: BatchView, submission: Submission, patience: Patience) -> Exit:
    """Follow a batch to its end, fetch its results and say how it went; Ctrl-C leaves it alone."""
    try:
        (batch,) = follow(service, [batch], patience)
        if service.has_bytes:
            _fetch_results(service, batch, submission, patience)
    except KeyboardInterrupt:
        click.echo(f"\nInterrupted; {batch.ref} stays on the server.", err=True)
        return Exit.INTERRUPTED
    tell_end(batch)
    return of_statuses([batch.status])


def _fetch_results(service: Service, batch: BatchView, submission: Submission, patience: Patience) -> None:
    results = _results_path(submission, batch.ref)
    errors = results.with_name(f"{results.stem}_errors{results.suffix}")
    for file_id, path, what in ((batch.output_file_id, results, "results"), (batch.error_file_id, errors, "errors")):
        if file_id:
            fetch(service, file_id, path, patience)
            click.echo(f"{what} in {path}")


def _results_path(submission: Submission, ref: str) -> Path:
    beside = submission.file.with_name(f"{submission.file.stem}_output.jsonl") if submission.file else None
    return submission.output or beside or Path(f"{ref}_output.jsonl")


def tell_end(batch: BatchView) -> None:
    """Say how a batch ended."""
    counts = f"{batch.completed} completed, {batch.failed} failed of {batch.total}"
    click.echo(f"{batch.ref} {batch.status}: {counts}")
    for problem in render_problems(batch):
        click.echo(f"  {problem}", err=True)
