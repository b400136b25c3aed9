"""What commands have in common: options that mean the same everywhere, and how batches are written."""

import time
from collections.abc import Iterable, Mapping, Sequence

import click

from nightshift_cli.following import DEFAULT_PATIENCE_S
from nightshift_cli.port import Service
from nightshift_cli.tables import Form, render_batches, render_document
from nightshift_cli.views import BatchView
from nightshift_crds.errors import Rejected

form_option = click.option(
    "-o",
    "--output-format",
    "form",
    type=click.Choice([form.value for form in Form]),
    default=Form.TABLE.value,
    show_default=True,
    help="json and yaml are what the server said; name is for xargs.",
)
patience_option = click.option(
    "--patience",
    "patience_s",
    type=click.IntRange(min=0),
    default=DEFAULT_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the server may say nothing before it is given up; batches go on meanwhile.",
)
batches_argument = click.argument("refs", metavar="BATCH...", nargs=-1, required=True)


def parse_pairs(texts: Sequence[str]) -> Mapping[str, str]:
    """Read `KEY=VALUE` options. Raises `Rejected`. Pure."""
    pairs = [text.partition("=") for text in texts]
    if wrong := next((key for key, separator, _ in pairs if not separator), None):
        raise Rejected(f"Expected --metadata KEY=VALUE, got {wrong!r}.")
    return {key: value for key, _, value in pairs}


metadata_option = click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    callback=lambda _context, _option, texts: parse_pairs(texts),
    help="Kept with the batch; may be repeated.",
)


def write_batches(service: Service, batches: Sequence[BatchView], form: Form) -> None:
    """Write a list of batches in the form that was asked for."""
    if form in {Form.JSON, Form.YAML}:
        click.echo(render_document(service.wrap([batch.document for batch in batches]), form))
    elif form is Form.NAME:
        write_names(batch.ref for batch in batches)
    else:
        click.echo(render_batches(batches, time.time(), is_wide=form is Form.WIDE))


def write_names(names: Iterable[str]) -> None:
    """Write a name a line; nothing at all for none, so that xargs does nothing."""
    for name in names:
        click.echo(name)
