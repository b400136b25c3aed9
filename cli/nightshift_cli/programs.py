"""The two programs over the same commands: how each reaches whoever keeps the batches, and how each ends."""

import copy
import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import click

from nightshift_cli.commands import COMMANDS
from nightshift_cli.exits import Exit, of_error
from nightshift_cli.port import Service
from nightshift_crds.errors import NightshiftError


@dataclass(frozen=True)
class Program:
    """What differs between the programs.

    Attributes:
        name: as users type it.
        options: how the service is reached; every command that needs one has them.
        open: opens it, given the values of the options.
    """

    name: str
    options: tuple[click.Option, ...]
    open: Callable[..., AbstractContextManager[Service]]

    @property
    def complete_variable(self) -> str:
        """The variable by which a shell asks for completions."""
        return f"_{self.name.upper().replace(' ', '_')}_COMPLETE"


def add_commands(group: click.Group, program: Program) -> None:
    """Give a group the commands that both programs have."""
    for command in COMMANDS:
        group.add_command(_bind(command, program))


def _bind(command: click.Command, program: Program) -> click.Command:
    """Make a command of a program of one that is given a service."""
    run = command.callback
    assert run

    @functools.wraps(run)
    def call(**given: object) -> None:
        where = {str(option.name): given.pop(str(option.name)) for option in program.options}
        with program.open(**where) as service:
            sys.exit(run(service, **given))

    bound = copy.copy(command)
    bound.params = [*command.params, *program.options]
    bound.callback = call
    return bound


def run(group: click.Group, program: Program) -> None:
    """Run a program; what a user can mend is told in a sentence, with an exit code for scripts."""
    try:
        group.main(prog_name=program.name, complete_var=program.complete_variable, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:  # Ctrl-C, where no command has something to say about it
        sys.exit(Exit.INTERRUPTED)
    except NightshiftError as error:
        click.echo(f"{program.name}: {error}", err=True)
        sys.exit(of_error(error))
