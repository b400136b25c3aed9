"""The commands that may take as long as a batch does. Ctrl-C ends them, and the batch goes on."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from nightshift_cli.downloads import STDOUT, check_folder, fetch, fetch_growing
from nightshift_cli.exits import Exit, of_statuses
from nightshift_cli.following import Patience, follow
from nightshift_cli.options import (
    batches_argument,
    form_option,
    metadata_option,
    patience_option,
    write_batches,
)
from nightshift_cli.port import Service
from nightshift_cli.submit import Submission, conclude, submit, tell_end
from nightshift_cli.tables import Form
from nightshift_cli.views import BatchView
from nightshift_crds.errors import NotFound

_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@click.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--file-id", metavar="ID", help="An uploaded file, instead of FILE.")
@click.option("--uri", metavar="URL", help="An object of the installation's bucket, instead of FILE (kubectl only).")
@click.option("--endpoint", metavar="PATH", help="Endpoint of the batch; by default the 'url' of the first line.")
@metadata_option
@click.option("--wait/--no-wait", default=False, help="Show progress until the batch has ended, and fetch its results.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH", help="For results; implies --wait."
)
@patience_option
def submit_command(service: Service, metadata: Mapping[str, str], patience_s: int, **given: Any) -> Exit:
    """Upload FILE and create a batch of it.

    With --wait its results are beside FILE in the end, called FILE_output.jsonl and FILE_output_errors.jsonl.
    """
    wait = given.pop("wait") or given["output"] is not None
    submission = Submission(**given, metadata=metadata, wait=wait)
    return submit(service, submission, Patience(patience_s))


@click.command("watch")
@batches_argument
@patience_option
def watch_command(service: Service, refs: Sequence[str], patience_s: int) -> Exit:
    """Show how batches go until all have ended; the exit code tells how (0: all are completed).

    A server that restarts is waited for. Ctrl-C ends the watching only.
    """
    try:
        ended = follow(service, [service.get(ref) for ref in refs], Patience(patience_s))
    except KeyboardInterrupt:
        click.echo("\nInterrupted; the batches go on.", err=True)
        return Exit.INTERRUPTED
    for batch in ended:
        tell_end(batch)
    return of_statuses(batch.status for batch in ended)


@click.command("download")
@click.argument("what", metavar="BATCH|FILE_ID")
@click.option("--errors", "is_errors", is_flag=True, help="The lines that failed, instead of those that succeeded.")
@click.option("--output", type=_FILE, metavar="PATH", help="- is standard output; by default called like the batch.")
@click.option("--follow", "is_followed", is_flag=True, help="Take lines as they come, until the batch has ended.")
@patience_option
def download_command(  # noqa: PLR0913, PLR0917 - options are parameters
    service: Service, what: str, is_errors: bool, output: Path | None, is_followed: bool, patience_s: int
) -> Exit:
    """Fetch the results of a batch, also while it runs, or any file by its id.

    A download that broke off goes on where it was when the same command is given again. With --follow the lines stand
    in the order in which they came, behind those that the file at --output has already.
    """
    path = output or Path(_name_file(what, is_errors))
    if path != STDOUT:
        check_folder(path)
    patience = Patience(patience_s)
    try:
        if is_followed and service.has_bytes:
            batch, choose = service.get(what), partial(_choose, is_errors=is_errors)
            told = f"{fetch_growing(service, batch, path, patience, choose=choose)} lines"
        else:
            told = what if _is_file(what) else _file_of(service.get(what), is_errors)
            is_growing = fetch(service, told, path, patience)
            told += " as far as it is written (--follow takes the rest too)" if is_growing else ""
    except KeyboardInterrupt:
        click.echo("\nInterrupted; give the same command again to go on.", err=True)
        return Exit.INTERRUPTED
    click.echo(f"{told} in {'standard output' if path == STDOUT else path}", err=True)
    return Exit.DONE


def _is_file(what: str) -> bool:
    return what.startswith("file_")


def _name_file(what: str, is_errors: bool) -> str:
    """Name a download as the server names the file."""
    return (
        f"{what}.jsonl" if _is_file(what) else f"{what.rpartition('/')[2]}_{'error' if is_errors else 'output'}.jsonl"
    )


def _choose(batch: BatchView, is_errors: bool) -> str | None:
    return batch.error_file_id if is_errors else batch.output_file_id


def _file_of(batch: BatchView, is_errors: bool) -> str:
    if file_id := _choose(batch, is_errors):
        return file_id
    what = "failed" if is_errors else "succeeded"
    if batch.has_ended:
        raise NotFound(f"No line of {batch.ref} has {what}: it is {batch.status}. 'get' tells more.")
    raise NotFound(f"No line of {batch.ref} has {what} yet: it is {batch.status}. 'watch' or --follow wait for them.")


@click.command("rerun")
@click.argument("ref", metavar="BATCH")
@metadata_option
@click.option(
    "--watch", "is_watched", is_flag=True, help="Show progress until the new batch has ended, and fetch its results."
)
@patience_option
@form_option
def rerun_command(  # noqa: PLR0913, PLR0917 - options are parameters
    service: Service, ref: str, metadata: Mapping[str, str], is_watched: bool, patience_s: int, form: str
) -> Exit:
    """Create a batch of the rows of an ended one that have no success; those that have are taken over."""
    batch = service.rerun(ref, metadata)
    if is_watched:
        click.echo(f"{batch.ref} created")
        return conclude(service, batch, Submission(), Patience(patience_s))
    write_batches(service, [batch], Form(form))
    return Exit.DONE
