"""`kubectl nightshift`: the same commands on a cluster, by its resources and without any API.

kubectl finds a plugin by the name of its executable, `kubectl-nightshift`, and its completions by that of another,
`kubectl_complete-nightshift`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.shell_completion import ShellComplete

from nightshift_cli.port import Service
from nightshift_cli.programs import Program, add_commands, run
from nightshift_crds.errors import Rejected

_NO_FILES = ":4"
"""kubectl's word for: complete with these, and not with the names of files."""


@contextmanager
def _open(context: str | None, namespace: str | None, kubeconfig: str | None) -> Iterator[Service]:
    try:
        from nightshift_cli.over_kubernetes import open_kubernetes  # noqa: PLC0415 - half a second, --help must not
        from nightshift_crds.cluster.kube import Kubeconfig  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise Rejected(f"{error}. Install it: pip install 'nightshift-batch[cli,kubernetes]'") from None
    with open_kubernetes(Kubeconfig(kubeconfig, context), namespace) as service:
        yield service


PROGRAM = Program(
    "kubectl nightshift",
    (
        click.Option(["-n", "--namespace"], metavar="NAME", help="By default that of the context."),
        click.Option(["--context"], metavar="NAME", help="Context of the kubeconfig; by default the current one."),
        click.Option(["--kubeconfig"], metavar="PATH", help="By default KUBECONFIG, or else ~/.kube/config."),
    ),
    _open,
)


def main() -> None:
    """Run the plugin."""
    run(cli, PROGRAM)


def complete() -> None:
    """Answer kubectl, which asks with the words that stand there what the last of them may become."""
    *words, begun = sys.argv[1:] or [""]
    found = ShellComplete(cli, {}, PROGRAM.name, PROGRAM.complete_variable).get_completions(words, begun)
    click.echo("\n".join([*(item.value for item in found if item.type == "plain"), _NO_FILES]))


@click.group()
@click.version_option(package_name="nightshift-batch")
def cli() -> None:
    """Nightshift's batches on this cluster, as BatchJobs: no API and no key, but your rights on the cluster."""


add_commands(cli, PROGRAM)
