"""The `nightshift` command: its verbs and their options. What a verb does stands in a module of its own."""

import asyncio
import os
import sys
from pathlib import Path

import click

from nightshift_cli.check import Check, check
from nightshift_cli.local.setup import DataDir, LocalSettings, parse_keys, parse_model_keys, parse_models, write_keys
from nightshift_cli.local.supervisor import Installation, lock_data_dir, supervise
from nightshift_cli.submit import Submission, submit
from nightshift_crds.errors import Rejected, Unavailable
from nightshift_crds.logs import configure_logs

_DATA_DIR = Path.home() / ".local" / "share" / "nightshift"


def main() -> None:
    """Run the command; what the user can mend is told in a sentence, with exit code 2."""
    try:
        cli(prog_name="nightshift")
    except (Rejected, Unavailable) as error:
        click.echo(f"nightshift: {error}", err=True)
        sys.exit(2)


@click.group()
@click.version_option(package_name="nightshift-batch")
def cli() -> None:
    """OpenAI-compatible batches on models that you host."""


@cli.command()
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port on 127.0.0.1; 0: a free one."
)
@click.option("--data-dir", type=click.Path(path_type=Path), default=_DATA_DIR, show_default=True)
@click.option("--api-key", "api_keys", multiple=True, metavar="KEY[=NAMESPACE]", help="Made and stored if absent.")
@click.option("--model", "models", multiple=True, metavar="NAME=URL", required=True, help="A model and its server.")
@click.option("--model-api-key", "model_keys", multiple=True, metavar="NAME=VARIABLE", help="Variable with its key.")
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(min=1), help="Requests in flight.")
def local(port: int, data_dir: Path, concurrency: int, **options: tuple[str, ...]) -> None:
    """Run everything on this machine: no Kubernetes, no cloud. State survives a restart.

    Settings of the roles are taken from the environment, as NIGHTSHIFT_... (docs/settings.md).
    """
    model_keys = parse_model_keys(options["model_keys"], os.environ)
    settings = LocalSettings.load(os.environ)
    models = parse_models(options["models"], model_keys, concurrency, settings.endpoints)
    given = parse_keys(options["api_keys"])
    directory = DataDir(data_dir.absolute())
    configure_logs("local")
    lock = lock_data_dir(directory)
    try:
        keys = write_keys(directory, given)
        asyncio.run(supervise(Installation(directory, port, keys, models, settings.metrics_port), os.environ))
    finally:
        os.close(lock)


@cli.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--endpoint", help="Endpoint of the batch; by default the 'url' of the first line.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Kept with the batch; may be repeated.")
@click.option("--wait/--no-wait", default=False, help="Show progress until the batch has ended.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where results go; implies --wait.")
def submit_command(
    file: Path,
    endpoint: str | None,
    metadata: tuple[str, ...],
    wait: bool,
    output: Path | None,
) -> None:
    """Upload FILE and create a batch of it at OPENAI_BASE_URL, with OPENAI_API_KEY.

    Exit codes: 0 the batch is created (with --wait: completed), 1 it failed, expired or was cancelled, 2 the request
    was refused, 130 interrupted; the batch goes on.
    """
    pairs = dict(_parse_pair(text) for text in metadata)
    submission = Submission(file, endpoint, pairs, wait=wait or output is not None, output=output)
    sys.exit(submit(submission, os.environ))


@cli.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--endpoint", help="Endpoint of the batch; by default the 'url' of the first line.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model that is served; any, if none is named.")
def check_command(file: Path, endpoint: str | None, models: tuple[str, ...]) -> None:
    """Tell, without any server, what a batch of FILE would be refused for; - reads standard input.

    The limits are those of the installation, as NIGHTSHIFT_... (docs/settings.md).

    Exit codes: 0 a batch of it can run, 1 it would be refused, 2 it cannot be read, 130 interrupted.
    """
    sys.exit(check(Check(file, endpoint, models), os.environ))


def _parse_pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise Rejected(f"Expected --metadata KEY=VALUE, got {text!r}.")
    return key, value
