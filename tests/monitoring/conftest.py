"""promtool, as `make promtool` finds or fetches it, and the processes of the end-to-end tests."""

import subprocess
from collections.abc import Callable

import pytest

from tests.e2e.conftest import start, stub
from tests.layout.sources import ROOT

__all__ = ["start", "stub"]
Promtool = Callable[..., str]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Run promtool, which must have nothing to say against what it is given."""
    make = ["make", "--silent", "--assume-old=.venv/.installed", "promtool"]
    program = subprocess.run(make, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def run(*arguments: str, given: str = "") -> str:
        command = [program, *arguments]
        done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run
