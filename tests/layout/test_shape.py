"""The reading of `make shape` counts what it says it counts."""

import pytest

from tests.layout import shape
from tests.layout.sources import PACKAGES, ROOT


def test_the_body_of_a_function_is_counted_without_signature_and_docstring() -> None:
    found = {f.where.split()[-1]: f.lines for f in shape.functions_of(ROOT / "tests" / "layout" / "sources.py")}
    assert found == {"modules_of": 1, "all_modules": 1, "parse": 1, "name_of": 1}


def test_every_package_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    shape.main()
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows[1 : len(PACKAGES) + 2] == [*PACKAGES.values(), "tests"]
