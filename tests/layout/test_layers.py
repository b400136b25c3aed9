"""A module that says it is pure does no I/O, asks no clock and rolls no dice: read from its source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.layout.sources import all_modules, name_of, parse

IMPURE = frozenset(
    {
        "aiohttp", "asyncio", "cel", "click", "concurrent", "ctypes", "fcntl", "glob", "http", "httptools", "io",
        "kopf", "kubernetes", "logging", "multiprocessing", "openai", "os", "pathlib", "random", "requests", "rich",
        "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "starlette", "structlog",
        "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uvicorn", "uvloop",
    }
)  # fmt: skip
IMPURE_CALLS = frozenset({"open", "print", "input", "datetime.now", "datetime.utcnow", "date.today", "uuid.uuid4"})
PURE = [module for module in all_modules() if "Pure" in (ast.get_docstring(parse(module)) or "")]
AT_LEAST_PURE = {"errors", "exits", "keys", "lifecycle", "lines", "models", "names", "records", "schema", "settings"}


def imports_of(module: Path) -> Iterator[str]:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def calls_of(module: Path) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(parse(module)) if isinstance(node, ast.Call))


def test_the_core_says_that_it_is_pure() -> None:
    said = {name_of(module) for module in PURE}
    assert {f"crds/nightshift_crds/{name}.py" for name in AT_LEAST_PURE} <= said
    assert "operator/nightshift_operator/decide.py" in said


@pytest.mark.parametrize("module", PURE, ids=name_of)
def test_a_pure_module_imports_nothing_that_reaches_outside(module: Path) -> None:
    assert [name for name in imports_of(module) if name.partition(".")[0] in IMPURE] == []


@pytest.mark.parametrize("module", PURE, ids=name_of)
def test_a_pure_module_asks_no_clock_and_rolls_no_dice(module: Path) -> None:
    assert [call for call in calls_of(module) if call in IMPURE_CALLS] == []


@pytest.mark.parametrize("module", all_modules(), ids=name_of)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(parse(module))
