"""`nightshift check`: the verdict that a batch of a file would get, before anything is uploaded.

Nothing is asked of any server: the lines are inspected as the API inspects an upload, and the findings are judged as
the operator judges a batch, by the same code and the same settings. Which models there are only the user can say.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import click
from pydantic import Field
from rich.console import Console

from nightshift_cli.exits import Exit
from nightshift_cli.progress import showing_bytes
from nightshift_cli.submit import guess_endpoint
from nightshift_cli.tables import printable
from nightshift_crds import inspection, judgement
from nightshift_crds.errors import Rejected
from nightshift_crds.inspection import Inspection
from nightshift_crds.judgement import find_errors
from nightshift_crds.lines import DEFAULT_ENDPOINTS, request_of
from nightshift_crds.models import BatchError, Verdict
from nightshift_crds.settings import Endpoints, Settings

STDIN = Path("-")
_MIB = 1 << 20
_CHUNK_BYTES = _MIB


class CheckSettings(Settings):
    """Settings of `nightshift check`: those of the installation that the file is for."""

    endpoints: Endpoints = DEFAULT_ENDPOINTS
    """Endpoints that a batch may name, separated by commas."""
    max_file_bytes: Annotated[int, Field(ge=1)] = 100 * _MIB
    """Size of an input in bytes."""
    max_lines: Annotated[int, Field(ge=1)] = 50_000
    """Request lines of a batch."""
    max_line_bytes: Annotated[int, Field(ge=1)] = 16 * _MIB
    """Length of one line in bytes. One line is held in memory."""
    max_embedding_inputs: Annotated[int, Field(ge=1)] = 50_000
    """Embedding inputs of a batch, over all its lines."""


@dataclass(frozen=True)
class Check:
    """What to check.

    Attributes:
        file: `STDIN` is standard input.
        endpoint: of the batch; None takes that of the first line.
        models: those that the installation serves; without any, every model is taken to be one.
    """

    file: Path
    endpoint: str | None
    models: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the file is called in messages."""
        return "standard input" if self.file == STDIN else str(self.file)


def check(wanted: Check, environ: Mapping[str, str]) -> Exit:
    """Tell what a batch of a file would be told; gives the exit code of the command.

    Raises:
        Rejected: the file cannot be read, or it names no endpoint that batches can have.
    """
    settings = CheckSettings.load(environ)
    try:
        endpoint, verdict = _read(wanted, settings)
    except OSError as error:
        raise Rejected(f"{wanted.name} cannot be read: {error.strerror}.") from None
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    errors = judge(verdict, endpoint, wanted.models, settings)
    for found in errors:
        click.echo(render_error(found))
    click.echo(render_summary(wanted.name, verdict, endpoint, is_accepted=not errors))
    return Exit.REFUSED if errors else Exit.DONE


def judge(verdict: Verdict, endpoint: str, models: tuple[str, ...], settings: CheckSettings) -> list[BatchError]:
    """List what a batch would be refused for; without models those of the lines are known. Pure."""
    limits = judgement.Limits(settings.max_file_bytes, settings.max_lines, settings.max_embedding_inputs)
    return find_errors(verdict, endpoint, models or _models_of(verdict, endpoint), limits)


def render_error(error: BatchError) -> str:
    """Write an error as a line. Pure."""
    where = f"line {error.line}: " if error.line else ""
    return f"{where}{error.message} [{error.code}]" + (f" ({error.param})" if error.param else "")


def render_summary(name: str, verdict: Verdict, endpoint: str, *, is_accepted: bool) -> str:
    """Sum a check up in a line. Pure."""
    models = ", ".join(map(printable, _models_of(verdict, endpoint))) or "none"
    counts = f"{verdict.lines} line{'s' * (verdict.lines != 1)}, {verdict.bytes} byte{'s' * (verdict.bytes != 1)}"
    facts = f"{counts}, model {models}, endpoint {endpoint}"
    return f"{name}: {'accepted' if is_accepted else 'refused'}: {facts}"


def _models_of(verdict: Verdict, endpoint: str) -> tuple[str, ...]:
    found = verdict.endpoints.get(endpoint)
    return tuple(model.name for model in found.models) if found else ()


def _check_endpoint(endpoint: str, settings: CheckSettings) -> None:
    if endpoint not in settings.endpoints:
        allowed = ", ".join(settings.endpoints)
        raise Rejected(f"Expected the endpoint to be one of {allowed}, got {endpoint!r}.")


def _read(wanted: Check, settings: CheckSettings) -> tuple[str, Verdict]:
    """Read the file once, in bounded memory; gives the endpoint too, which its first line may name."""
    with _open(wanted.file) as (stream, size):
        head = b"" if wanted.endpoint else _read_head(stream, settings.max_line_bytes)
        endpoint = wanted.endpoint or guess_endpoint(head.split(b"\n"), wanted.name)
        _check_endpoint(endpoint, settings)
        inspected = Inspection((endpoint,), inspection.Limits(settings.max_lines, settings.max_line_bytes))
        inspected.feed(head)
        with showing_bytes(Console(stderr=True), size, time.monotonic) as show:
            while chunk := stream.read(_CHUNK_BYTES):
                inspected.feed(chunk)
                show(inspected.size)
        return endpoint, inspected.finish()


@contextmanager
def _open(file: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file; gives its size too, if that is known."""
    if file == STDIN:
        yield sys.stdin.buffer, None
        return
    with file.open("rb") as stream:
        yield stream, file.stat().st_size or None


def _read_head(stream: BinaryIO, max_bytes: int) -> bytes:
    """Read up to the first line that is not blank; standard input can be read once only."""
    head = b""
    while len(head) <= max_bytes and (line := stream.readline(max_bytes)):
        is_request = request_of(line, is_first=not head)
        head += line
        if is_request:
            break
    return head
