"""What the tests of this folder look at: the packages and their modules."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "api": "nightshift_api",
    "cli": "nightshift_cli",
    "crds": "nightshift_crds",
    "operator": "nightshift_operator",
    "processor": "nightshift_processor",
}


def modules_of(folder: str) -> list[Path]:
    """Every module of the package in a code folder."""
    return sorted((ROOT / folder / PACKAGES[folder]).rglob("*.py"))


def all_modules() -> list[Path]:
    return [module for folder in PACKAGES for module in modules_of(folder)]


def parse(module: Path) -> ast.Module:
    return ast.parse(module.read_text(), filename=str(module))


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))
