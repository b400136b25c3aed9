"""`make bench`: run every contest, print the table, fail if a floor is missed or the machine was too busy to tell."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import processor, recovery, report, upload, validation
from tests.bench.harness import ROUNDS, Contest, Result, exit_code, run
from tests.e2e.installation import ROOT

OUTPUT = ROOT / "build"
CORE_HOUR_USD = 0.04
"""About what clouds ask for an hour of a core of a general-purpose machine."""


def contests(folder: Path, core_hour: float) -> Iterator[Contest]:
    """All contests, one after the other: each may leave something running until the next is asked for."""
    yield from validation.contests_of(folder)
    yield from upload.contests_of(folder)
    yield from processor.contests_of(folder, core_hour)
    yield from recovery.contests_of(folder)


def measure(options: argparse.Namespace) -> list[Result]:
    """Run the contests in which a row is asked for, and keep what has been measured after each."""
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for contest in contests(Path(folder), options.core_hour):
            if any(options.only in row.name for row in contest.rows):
                print(f"... {contest.rows[0].name}", file=sys.stderr)
                results += run(contest, options.rounds)
                report.write(report.build_report(results, report.read(options.output)), options.output)
    return results


def main() -> int:
    """Run the command; gives its exit code: 0 all floors hold, 1 one is missed, 3 the machine is too busy to judge."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("--even-if-busy", action="store_true", help="print the figures and judge nothing")
    parser.add_argument("--only", default="", help="contests with a row whose name holds this")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at most")
    parser.add_argument("--core-hour", type=float, default=CORE_HOUR_USD, help="price of an hour of a core, in dollars")
    parser.add_argument("--scratch", type=Path, help="folder of the disk that is written to")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for bench.md and bench.json")
    parser.add_argument("--publish", action="store_true", help="also write the table into docs/performance.md")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        parser.error("one core is for us, another for whom we talk to")
    results = measure(options)
    print(report.render(report.build_report(results)))
    if options.publish:
        report.publish(report.build_report(results, report.read(options.output)))
    return 0 if options.even_if_busy else exit_code(results)


if __name__ == "__main__":
    sys.exit(main())
