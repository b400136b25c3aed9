"""One wheel of five packages, and folders named like the standard library that never get in its way."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.layout.sources import PACKAGES, ROOT, all_modules, name_of

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS: dict[str, str] = PROJECT["project"]["scripts"]


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_code_folder_holds_a_package_and_is_none_itself(folder: str) -> None:
    assert [path.name for path in (ROOT / folder).glob("*.py")] == []
    packages = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert packages == {PACKAGES[folder]}


@pytest.mark.parametrize("how", [["-c", "import operator"], ["-m", "operator"]])
def test_the_standard_operator_module_wins_in_the_repository_root(how: list[str]) -> None:
    show = ["-c", "import sys; sys.path.insert(0, ''); import collections, operator; print(operator.__file__)"]
    ran = subprocess.run([sys.executable, "-S", *how], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    shown = subprocess.run([sys.executable, "-S", *show], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not Path(shown.stdout.strip()).is_relative_to(ROOT / "operator")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_can_be_imported_and_called(script: str) -> None:
    module, _, function = SCRIPTS[script].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_wheel_holds_the_five_packages_and_nothing_else(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / ran.stdout.split()[-1]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == set(PACKAGES.values())
    held = {name for name in names if name.endswith(".py")}
    assert held == {name_of(module).partition("/")[2] for module in all_modules()}
    assert all(f"{package}/py.typed" in names for package in PACKAGES.values())
    page = ROOT / "api" / "nightshift_api" / "console" / "static"
    served = {f"nightshift_api/console/static/{path.relative_to(page)}" for path in page.rglob("*") if path.is_file()}
    assert served <= set(names)
    assert "nightshift_api/console/static/index.html" in served


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
