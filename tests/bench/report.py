"""The results of a run as a table for people and as JSON for programs; rows of several runs make one page."""

import json
import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.harness import Result
from tests.layout.sources import ROOT

PAGE = ROOT / "docs" / "performance.md"
_BLOCK = re.compile(r"(?<=<!-- measured by `make bench` -->\n).*?(?=<!-- end -->)", re.DOTALL)
_HEAD = ("what", "ratio", "spread", "floor", "aim", "reference", "measured", "others", "verdict")
Report = dict[str, Any]
"""When and on what it was measured, and the rows as `Result.to_json` gives them."""


def build_report(results: Sequence[Result], earlier: Report | None = None) -> Report:
    """Put rows together with those of an earlier run that were not measured again."""
    rows = [result.to_json() for result in results]
    names = {row["name"] for row in rows}
    kept = [row for row in (earlier or {"rows": []})["rows"] if row["name"] not in names]
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": describe_machine(), "rows": kept + rows}


def describe_machine() -> str:
    """Say what this machine is, as far as it knows."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in info if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Python {platform.python_version()}"


def render(report: Report) -> str:
    """Write a report as a Markdown table. Pure."""
    lines = [f"| {' | '.join(_HEAD)} |", "| --- " * len(_HEAD) + "|", *map(_render_row, report["rows"])]
    return "\n".join([f"{report['machine']}, {report['date']}\n", *lines, ""])


def _render_row(row: dict[str, Any]) -> str:
    ratios = [found["ratio"] for found in row["rounds"]]
    reference, measured = (median(found[side] for found in row["rounds"]) for side in ("reference", "subject"))
    sign = "<=" if row["is_less_better"] else ">="
    floor, aim = (f"{sign} {row[name]:.3g}" if row[name] is not None else "" for name in ("floor", "aim"))
    found = f"**{row['ratio']:.3g}** | {min(ratios):.3g} to {max(ratios):.3g} | {floor} | {aim}"
    sides = f"{_number(reference)} {row['unit']} | {_number(measured)} {row['unit']}"
    return f"| {row['name']} | {found} | {sides} | {row['busy']:.0%} | {row['verdict']} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def read(folder: Path) -> Report | None:
    """Read the report that stands in a folder, if there is one."""
    path = folder / "bench.json"
    report: Report | None = json.loads(path.read_text()) if path.exists() else None
    return report


def write(report: Report, folder: Path) -> None:
    """Write a report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text(render(report))
    (folder / "bench.json").write_text(json.dumps(report, indent=1) + "\n")


def publish(report: Report, page: Path = PAGE) -> None:
    """Write a report's table into a page, in place of the one that stands there."""
    page.write_text(_BLOCK.sub(lambda _: render(report), page.read_text()))
