"""Write what is generated from the code, or with `--check` fail if it differs: `make generate`, `make verify`.

The CRDs come from the pydantic models, the lifecycle page from the transition table, the settings page from the
settings of every role, the metrics page from their pages, the conditions page from the closed sets of the operator, the
reference of the command line from its options, what the chart has of all that from `docs/chart.py`, and the page on
conformance from what the conformance suite has shown.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
import yaml
from chart import render_chart
from conformance import render_conformance
from metrics import render_metrics
from pydantic.fields import FieldInfo

from nightshift_api.settings import Settings as ApiSettings
from nightshift_cli import kubectl
from nightshift_cli import main as cli
from nightshift_cli.check import CheckSettings
from nightshift_cli.exits import Exit
from nightshift_cli.local.runner import RunnerSettings
from nightshift_cli.local.setup import LocalSettings
from nightshift_crds.lifecycle import Phase, render_diagram
from nightshift_crds.models import RESOURCES, Resource
from nightshift_crds.schema import build_crd
from nightshift_crds.settings import Settings
from nightshift_operator.conditions import Kind, Reason
from nightshift_operator.decisions import EventReason
from nightshift_operator.settings import Settings as OperatorSettings
from nightshift_processor.settings import InspectSettings, RunSettings, SealSettings

ROOT = Path(__file__).resolve().parent.parent
_GENERATED = "<!-- Written by `make generate` from the code; `make verify` fails if it differs. -->\n"
_ROLES: dict[str, type[Settings]] = {
    "nightshift-api": ApiSettings,
    "nightshift-operator": OperatorSettings,
    "nightshift-processor inspect": InspectSettings,
    "nightshift-processor run": RunSettings,
    "nightshift-processor seal": SealSettings,
    "nightshift local": LocalSettings,
    "Job runner of nightshift local": RunnerSettings,
    "nightshift check": CheckSettings,
}


def render_all() -> Iterator[tuple[Path, str]]:
    """Give every generated file and its content."""
    crds = {f"{resource.__name__.lower()}.yaml": _render_crd(resource) for resource in RESOURCES}
    for name, text in crds.items():
        yield ROOT / "crds" / name, text
    yield from render_chart(crds)
    yield ROOT / "docs" / "lifecycle.md", _render_lifecycle()
    yield ROOT / "docs" / "settings.md", _render_settings()
    yield ROOT / "docs" / "conditions.md", _render_conditions()
    yield ROOT / "docs" / "cli.md", _render_cli()
    yield ROOT / "docs" / "metrics.md", f"# Metrics\n{_GENERATED}\n{render_metrics()}"
    yield ROOT / "docs" / "conformance.md", f"# Conformance\n{_GENERATED}\n{render_conformance()}"


def _render_crd(resource: type[Resource]) -> str:
    text = yaml.safe_dump(build_crd(resource), sort_keys=False, width=110)
    return f"# Written by `make generate`.\n{text}"


def _render_lifecycle() -> str:
    parts = [
        "# The life of a batch",
        _GENERATED,
        "The API shows the phase in lower case as `status`.",
        "From the moment a cancel is accepted it shows `cancelling`.\n",
        f"```mermaid\n{render_diagram()}\n```\n",
        _render_table(Phase),
    ]
    return "\n".join(parts)


def _render_conditions() -> str:
    parts = [
        "# Conditions of a BatchJob",
        _GENERATED,
        "`kubectl describe batchjob` shows them, each with a reason of this closed set and a message in words.\n",
        _render_table(Kind),
        "\n## Reasons\n",
        _render_table(Reason),
        "\n## Events\n",
        "Of each of these people are told once, after the status says so.\n",
        _render_table(EventReason),
    ]
    return "\n".join(parts)


def _render_cli() -> str:
    """Keep what a person wrote, and write what follows it anew."""
    path = ROOT / "docs" / "cli.md"
    written = path.read_text().partition(_GENERATED)[0]
    codes = [f"| {code.value} | {text} |" for code, text in _documented(Exit)]
    parts = [
        f"{written}{_GENERATED}",
        "## Exit codes\n",
        "\n".join(["| code | meaning |", "| --- | --- |", *codes, ""]),
        "## Reference\n",
        "Every command that talks to a server has, as one of `nightshift`:\n",
        _render_options(cli.PROGRAM.options),
        "and as one of `kubectl nightshift`:\n",
        _render_options(kubectl.PROGRAM.options),
        *(_render_command(name, command) for name, command in sorted(cli.cli.commands.items())),
    ]
    return "\n".join(parts)


def _render_command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"nightshift {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    own = [o for o in command.params if isinstance(o, click.Option) and o not in cli.PROGRAM.options]
    help_ = inspect.cleandoc(command.help or "")
    return f"### {name}\n\n`{usage}`\n\n{help_}\n\n{_render_options(own)}"


def _render_options(options: Iterable[click.Option]) -> str:
    head = ("| option | default | meaning |", "| --- | --- | --- |")
    return "\n".join([*head, *map(_render_option, options), ""])


def _render_option(option: click.Option) -> str:
    names, _ = option.get_help_record(click.Context(click.Command(""))) or ("", "")
    variables = [f"`{name}`" for name in option.envvar or ()]
    default = [f"`{option.default}`".replace(str(Path.home()), "~")] if option.show_default else []
    cells = (f"`{names}`".replace("|", "\\|"), ", ".join(variables + default), option.help or "")
    return f"| {' | '.join(cells)} |"


def _render_table(members: type[Enum]) -> str:
    rows = [f"| `{member.value}` | {text} |" for member, text in _documented(members)]
    return "\n".join(["| | meaning |", "| --- | --- |", *rows, ""])


def _documented(members: type[Enum]) -> Iterator[tuple[Enum, str]]:
    """Read the docstring under each member; Python keeps none of them."""
    source = inspect.getsource(members)
    for member in members:
        found = re.search(rf'^    {member.name} = [^\n]*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
        yield member, " ".join(found[1].split()) if found else ""


def _render_settings() -> str:
    parts = [
        "# Settings",
        _GENERATED,
        "Every setting is an environment variable. `nightshift local` hands its own environment to all roles; what it",
        "sets itself (cluster, bucket, keys, leases) cannot be overridden. The operator tells processors theirs.",
        "OpenTelemetry's own variables (`OTEL_...`) ask for [traces](monitoring.md#traces).\n",
    ]
    for role, settings in _ROLES.items():
        rows = [_render_setting(name, info) for name, info in settings.model_fields.items()]
        parts += [f"## {role}\n", "| variable | default | meaning |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def _render_setting(name: str, info: FieldInfo) -> str:
    alias = info.validation_alias if isinstance(info.validation_alias, str) else "JOB_COMPLETION_INDEX"
    default = "required" if info.is_required() else f"`{_plain(info.default)}`"
    return f"| `{alias}` | {default} | {' '.join((info.description or name).split())} |"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description="Generate CRDs and pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything differs")
    is_check = parser.parse_args().check
    stale = [path for path, text in render_all() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{'differs' if is_check else 'written'}: {path.relative_to(ROOT)}")
    if is_check:
        sys.exit(bool(stale))
    for path, text in render_all():
        path.write_text(text)


if __name__ == "__main__":
    main()
