"""The official Python SDK, unmodified, in its current major version and in 1.x, against `nightshift local`."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.installation import KEY, MODEL, ROOT, Installation
from tests.e2e.sdk_scenarios import SCENARIOS

LOCK = ROOT / "tests" / "e2e" / "openai-1.lock"


def install_beside(lock: Path) -> Path:
    """Install a lock file into a folder of the user's cache, once; its name covers all that it depends on."""
    content = lock.read_bytes() + sys.version.encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightshift"
    target = cache / f"{lock.stem}-{hashlib.sha256(content).hexdigest()[:12]}"
    if not target.exists():
        draft = cache / f"{target.name}.{os.getpid()}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--target", str(draft), "-r", str(lock)], check=True)
        draft.rename(target)
    return target


@pytest.fixture(scope="session")
def openai_1() -> Path:
    return install_beside(LOCK)


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
    old = subprocess.run(show, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(openai_1)})
    assert int(current.split(".")[0]) >= 3
    assert old.stdout.startswith("1.")
