"""The `nightshift` command: batches over the API, `local`, and `check`."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from nightshift_cli.port import Service
from nightshift_cli.programs import Program, add_commands, run
from nightshift_crds.errors import Rejected, Unavailable

_DATA_DIR = Path.home() / ".local" / "share" / "nightshift"


@contextmanager
def _open(base_url: str | None, api_key: str | None) -> Iterator[Service]:
    from nightshift_cli.over_http import open_http  # noqa: PLC0415 - the SDK takes half a second, --help must not

    with open_http(base_url, api_key) as service:
        yield service


PROGRAM = Program(
    "nightshift",
    (
        click.Option(
            ["--base-url"],
            envvar=["NIGHTSHIFT_BASE_URL", "OPENAI_BASE_URL"],
            show_envvar=True,
            metavar="URL",
            help="The API, up to /v1.",
        ),
        click.Option(
            ["--api-key"],
            envvar=["NIGHTSHIFT_API_KEY", "OPENAI_API_KEY"],
            show_envvar=True,
            metavar="KEY",
            help="Better in the environment: others see command lines.",
        ),
    ),
    _open,
)


def main() -> None:
    """Run the command."""
    run(cli, PROGRAM)


@click.group()
@click.version_option(package_name="nightshift-batch")
def cli() -> None:
    """OpenAI-compatible batches on models that you host."""


@cli.command()
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port on 127.0.0.1; 0: a free one."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=_DATA_DIR,
    show_default=True,
    metavar="PATH",
    help="Where everything of it is kept.",
)
@click.option("--api-key", "api_keys", multiple=True, metavar="KEY[=NAMESPACE]", help="Made and stored if absent.")
@click.option("--model", "models", multiple=True, metavar="NAME=URL", required=True, help="A model and its server.")
@click.option("--model-api-key", "model_keys", multiple=True, metavar="NAME=VARIABLE", help="Variable with its key.")
@click.option("--concurrency", default=64, show_default=True, type=click.IntRange(min=1), help="Requests in flight.")
def local(port: int, data_dir: Path, concurrency: int, **options: tuple[str, ...]) -> None:
    """Run everything on this machine: no Kubernetes, no cloud. State survives a restart.

    Settings of the roles are taken from the environment, as NIGHTSHIFT_... (docs/settings.md).
    """
    from nightshift_cli.local import setup  # noqa: PLC0415 - pydantic: for those who run it
    from nightshift_cli.local.supervisor import Installation, lock_data_dir, supervise  # noqa: PLC0415 - the same
    from nightshift_crds.logs import configure_logs  # noqa: PLC0415 - the same

    model_keys = setup.parse_model_keys(options["model_keys"], os.environ)
    settings = setup.LocalSettings.load(os.environ)
    models = setup.parse_models(options["models"], model_keys, concurrency, settings.endpoints)
    given = setup.parse_keys(options["api_keys"])
    directory = setup.DataDir(data_dir.absolute())
    configure_logs("local")
    lock = lock_data_dir(directory)
    try:
        keys = setup.write_keys(directory, given)
        asyncio.run(supervise(Installation(directory, port, keys, models, settings.metrics_port), os.environ))
    except Unavailable as error:  # the file of resources: nobody else will mend it
        raise Rejected(str(error)) from None
    finally:
        os.close(lock)


@cli.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--endpoint", metavar="PATH", help="Endpoint of the batch; by default the 'url' of the first line.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model that is served; any, if none is named.")
def check_command(file: Path, endpoint: str | None, models: tuple[str, ...]) -> None:
    """Tell, without any server, what a batch of FILE would be refused for; - reads standard input.

    The limits are those of the installation, as NIGHTSHIFT_... (docs/settings.md).
    """
    from nightshift_cli.check import Check, check  # noqa: PLC0415 - pydantic: for those who check

    sys.exit(check(Check(file, endpoint, models), os.environ))


add_commands(cli, PROGRAM)
