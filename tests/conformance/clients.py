"""The official SDKs as programs: every scenario of one runs in a process of its own, and says how it ended.

A program prints a line of JSON for each scenario: its name, and what went wrong or null.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.conformance.sdk_scenarios import SCENARIOS
from tests.conformance.target import Target
from tests.e2e.installation import ROOT

JS = Path(__file__).parent / "js" / "scenarios.mjs"
_PYTHON = frozenset(SCENARIOS)
_JAVASCRIPT = frozenset(re.findall(r"^  async (\w+)\(", JS.read_text(), re.MULTILINE))
SDKS = {"python": _PYTHON, "python-1": _PYTHON, "js": _JAVASCRIPT}
"""The clients, and the scenarios that each has."""
MEASURED = frozenset({"upload_100_mb_as_a_stream", "break_an_upload_off"})
"""Scenarios that prove no statement: they run by themselves, in `test_streams`."""
_TIMEOUT_S = 500


def made(target: str) -> Path:
    """Name what a target of the Makefile has installed beside .venv."""
    done = subprocess.run(["make", "--silent", target], cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def command_of(sdk: str) -> tuple[list[str], dict[str, str]]:
    """Give the program of an SDK, and what its environment needs."""
    if sdk == "js":
        modules = made("openai-js")
        return [str(modules / "node"), str(JS)], {"MODULES": str(modules)}
    program = [sys.executable, "-m", "tests.conformance.sdk_scenarios"]
    return program, ({"STRICT": "1"} if sdk == "python" else {"PYTHONPATH": str(made("openai-1"))})


def start(sdk: str, target: Target, *names: str) -> "subprocess.Popen[str]":
    """Start an SDK's scenarios against a service; all of them, if none is named."""
    command, environ = command_of(sdk)
    environ |= {"OPENAI_BASE_URL": target.base_url, "OPENAI_API_KEY": target.key, "MODELS": " ".join(target.models)}
    return subprocess.Popen([*command, *names], cwd=ROOT, env=os.environ | environ, stdout=subprocess.PIPE, text=True)


@dataclass
class Sdks:
    """What the scenarios of all SDKs come to on one service; see `running`."""

    target: Target
    programs: dict[str, "subprocess.Popen[str]"]

    def problem(self, sdk: str, scenario: str) -> str | None:
        """Tell what went wrong in a scenario; None if nothing did."""
        return self._ended[sdk].get(scenario, "the program ended before it")

    @cached_property
    def _ended(self) -> dict[str, dict[str, str | None]]:
        return {sdk: _outcomes(program.communicate(timeout=_TIMEOUT_S)[0]) for sdk, program in self.programs.items()}


@contextmanager
def running(target: Target) -> Iterator[Sdks]:
    """Run the scenarios of all SDKs, beside each other and beside whatever else is asked of the service."""
    programs = {sdk: start(sdk, target) for sdk in SDKS}
    yield Sdks(target, programs)
    for program in programs.values():
        program.kill()  # nobody may have waited for it
        program.communicate()


def _outcomes(printed: str) -> dict[str, str | None]:
    lines = [json.loads(line) for line in printed.splitlines()]
    return {line["scenario"]: line["problem"] for line in lines}
