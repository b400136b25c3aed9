"""The official Python SDK, unmodified, in its current major version and in 1.x, against `nightshift local`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.installation import KEY, MODEL, ROOT, Installation
from tests.e2e.sdk_scenarios import SCENARIOS


@pytest.fixture(scope="session")
def openai_1() -> Path:
    """The last major version before 3, beside the one in .venv."""
    made = subprocess.run(["make", "--silent", "openai-1"], cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(made.stdout.strip())


@pytest.mark.parametrize("version", ["current", "1.x"])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_official_sdk_notices_no_difference(
    name: str, version: str, shared: Installation, request: pytest.FixtureRequest
) -> None:
    path = {"PYTHONPATH": str(request.getfixturevalue("openai_1"))} if version == "1.x" else {}
    environ = {"OPENAI_BASE_URL": shared.base_url, "OPENAI_API_KEY": KEY, "MODEL": MODEL}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.sdk_scenarios", name],
        cwd=ROOT,
        env=os.environ | environ | path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_both_major_versions_are_what_they_say(openai_1: Path) -> None:
    show = [sys.executable, "-c", "import openai; print(openai.VERSION)"]
    current = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    old = subprocess.run(
        show, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(openai_1)}
    )
    assert int(current.split(".")[0]) >= 3
    assert old.stdout.startswith("1.")
