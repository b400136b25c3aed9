"""`make shape`: how long functions and files are, per package. A reading, not a gate (style: Size)."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from tests.layout.sources import PACKAGES, ROOT, modules_of, name_of, parse

LONG_FUNCTION = 25
LONG_FILE = 400


@dataclass(frozen=True)
class Function:
    """A function and the length of its body in lines, without its docstring."""

    where: str
    lines: int


def functions_of(module: Path) -> Iterator[Function]:
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1
            yield Function(f"{name_of(module)}:{node.lineno} {node.name}", lines)


def measure(name: str, modules: list[Path]) -> str:
    """Write the row of a package."""
    lengths = [function.lines for module in modules for function in functions_of(module)]
    lines = sum(len(module.read_text().splitlines()) for module in modules)
    p90 = quantiles(lengths, n=10)[-1] if len(lengths) > 1 else sum(lengths)
    return (
        f"{name:<22}{len(modules):>7}{lines:>8}{len(lengths):>11}"
        f"{median(lengths or [0]):>8.0f}{p90:>6.0f}{max(lengths, default=0):>6}"
    )


def main() -> None:
    """Print the table, then what is long."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    everything = {package: modules_of(folder) for folder, package in PACKAGES.items()} | {"tests": tests}
    print(f"{'package':<22}{'files':>7}{'lines':>8}{'functions':>11}{'median':>8}{'90%':>6}{'max':>6}")
    for name, modules in everything.items():
        print(measure(name, modules))
    for module in (module for modules in everything.values() for module in modules):
        lines = len(module.read_text().splitlines())
        if lines > LONG_FILE:
            print(f"over {LONG_FILE} lines: {name_of(module)} has {lines}")
        for function in functions_of(module):
            if function.lines > LONG_FUNCTION:
                print(f"over {LONG_FUNCTION} lines: {function.where} has {function.lines}")


if __name__ == "__main__":
    main()
