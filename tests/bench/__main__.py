"""`make bench`: run every row, print the table, and fail if a floor is missed or the machine was too busy to tell."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import upload, validation
from tests.bench.harness import ROUNDS, Row, exit_code, render, run, write


def rows(folder: Path) -> Iterator[Row]:
    """All rows, one after the other: each may leave something running until the next is asked for."""
    yield from validation.rows_of(folder)
    yield from upload.rows_of(folder)


def main() -> int:
    """Run the command; gives its exit code: 0 all floors hold, 1 one is missed, 3 the machine is too busy to judge."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("--even-if-busy", action="store_true", help="print the figures and judge nothing")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--output", type=Path, help="folder for bench.md and bench.json")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            if options.only in row.name:
                print(f"... {row.name}", file=sys.stderr)
                results.append(run(row, options.rounds))
    print(render(results))
    if options.output:
        write(results, options.output)
    return 0 if options.even_if_busy else exit_code(results)


if __name__ == "__main__":
    sys.exit(main())
