"""Results are written for people and for programs, and rows that were not measured again are kept."""

import json
from pathlib import Path

from tests.bench.harness import Result, Round, Row, constant
from tests.bench.report import PAGE, build_report, publish, read, render, write


def a_result(name: str = "a row", ratio: float = 1.25, floor: float | None = 1.5) -> Result:
    row = Row(name, constant(1), constant(ratio), floor, None if floor is None else 1.1, "MB")
    return Result(row, [Round(1.0, ratio, 0.02), Round(2000.0, 2000 * ratio, 0.01)])


def test_a_report_is_a_table_and_json(tmp_path: Path) -> None:
    report = build_report([a_result(), a_result("another", 3.0, floor=None)])
    write(report, tmp_path / "new")
    table = (tmp_path / "new" / "bench.md").read_text()
    assert table == render(report)
    assert "| a row | **1.25** | 1.25 to 1.25 | <= 1.5 | <= 1.1 | 1,000 MB | 1,251 MB | 2% | holds |" in table
    first, second = json.loads((tmp_path / "new" / "bench.json").read_text())["rows"]
    assert (first["ratio"], first["verdict"], second["floor"]) == (1.25, "holds", None)


def test_rows_that_were_not_measured_again_stay(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(build_report([a_result("old", 1.0), a_result("both", 1.0)]), tmp_path)
    again = build_report([a_result("both", 2.0), a_result("new", 2.0)], read(tmp_path))
    assert [(row["name"], row["ratio"]) for row in again["rows"]] == [("old", 1.0), ("both", 2.0), ("new", 2.0)]


def test_a_table_takes_the_place_of_the_one_on_the_page(tmp_path: Path) -> None:
    page, report = tmp_path / "page.md", build_report([a_result()])
    page.write_text("before\n<!-- measured by `make bench` -->\nold\n<!-- end -->\nbehind\n")
    for _ in range(2):
        publish(report, page)
        wanted = f"before\n<!-- measured by `make bench` -->\n{render(report)}<!-- end -->\nbehind\n"
        assert page.read_text() == wanted


def test_the_page_has_a_place_for_them() -> None:
    page = PAGE.read_text()
    assert page.count("<!-- measured by `make bench` -->\n") == page.count("<!-- end -->") == 1
