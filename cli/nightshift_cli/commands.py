"""The commands that `nightshift` and `kubectl nightshift` share: each is written once, over the port.

They are given a `Service`; how it is reached is the program's matter (`programs`). Nothing slow is imported here, since
every `--help` reads this.
"""

import time
from collections.abc import Callable, Sequence

import click

from nightshift_cli.exits import ENDS, Exit
from nightshift_cli.options import batches_argument, form_option, write_batches, write_names
from nightshift_cli.port import Service, Wanted
from nightshift_cli.tables import Form, render_details, render_document, render_models
from nightshift_cli.views import BatchView
from nightshift_cli.waiting import download_command, rerun_command, submit_command, watch_command

_STATUSES = ("validating", "in_progress", "finalizing", "cancelling", *ENDS)
_SHOWN = 20


@click.command("list")
@click.option("--status", "statuses", multiple=True, type=click.Choice(_STATUSES), help="Only these; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), default=_SHOWN, show_default=True, help="How many at most.")
@click.option("--all", "is_all", is_flag=True, help="All of them, however many there are.")
@click.option("--after", metavar="BATCH", help="Go on behind this one.")
@form_option
def list_command(  # noqa: PLR0913, PLR0917 - options are parameters
    service: Service, statuses: Sequence[str], limit: int, is_all: bool, after: str | None, form: str
) -> Exit:
    """List batches, newest first."""
    page = service.list(Wanted(frozenset(statuses), None if is_all else limit, after))
    write_batches(service, page.batches, Form(form))
    if page.has_more:
        click.echo(f"There are more: go on with --after {page.batches[-1].ref}, or take --all.", err=True)
    return Exit.DONE


@click.command("get")
@batches_argument
@form_option
def get_command(service: Service, refs: Sequence[str], form: str) -> Exit:
    """Show batches as they are now, and all that there is to say of them."""
    found = [service.get(ref) for ref in refs]
    if form == Form.TABLE:
        click.echo("\n\n".join(render_details(batch, time.time()) for batch in found))
    elif len(found) == 1 and form in {Form.JSON, Form.YAML}:
        click.echo(render_document(found[0].document, Form(form)))
    else:
        write_batches(service, found, Form(form))
    return Exit.DONE


@click.command("cancel")
@batches_argument
@form_option
def cancel_command(service: Service, refs: Sequence[str], form: str) -> Exit:
    """Cancel batches. It takes up to ten minutes; what has been done by then is kept."""
    return _each(service, refs, form, service.cancel)


@click.command("suspend")
@batches_argument
@form_option
def suspend_command(service: Service, refs: Sequence[str], form: str) -> Exit:
    """Let nothing of batches run until they are resumed. Their deadlines stay where they are."""
    return _each(service, refs, form, service.suspend)


@click.command("resume")
@batches_argument
@form_option
def resume_command(service: Service, refs: Sequence[str], form: str) -> Exit:
    """Let suspended batches run again."""
    return _each(service, refs, form, service.resume)


@click.command("models")
@form_option
def models_command(service: Service, form: str) -> Exit:
    """List the models that a batch may name."""
    models = service.models()
    if form in {Form.JSON, Form.YAML}:
        click.echo(render_document(service.wrap([model.document for model in models]), Form(form)))
    elif form == Form.NAME:
        write_names(model.name for model in models)
    else:
        click.echo(render_models(models, is_wide=form == Form.WIDE))
    return Exit.DONE


COMMANDS: tuple[click.Command, ...] = (
    submit_command,
    list_command,
    get_command,
    watch_command,
    download_command,
    cancel_command,
    suspend_command,
    resume_command,
    rerun_command,
    models_command,
)


def _each(service: Service, refs: Sequence[str], form: str, act: Callable[[str], BatchView]) -> Exit:
    """Do something to batches, one after the other, and show what they are then."""
    write_batches(service, [act(ref) for ref in refs], Form(form))
    return Exit.DONE
