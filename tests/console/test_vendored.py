"""What of others stands in the page is what npm has, byte for byte; npm has held that against its own digests."""

from pathlib import Path

import pytest

from tests.console.browser import made
from tests.e2e.installation import ROOT

VENDOR = ROOT / "api" / "nightshift_api" / "console" / "static" / "vendor"
COPIED = sorted(path.relative_to(VENDOR) for path in VENDOR.rglob("*") if path.is_file())
WHERE = {"lit-html": "lit-html", "inter": "@fontsource-variable/inter"}
SOURCES = {"LICENSE.txt": "LICENSE", "inter-latin-wght-normal.woff2": "files/inter-latin-wght-normal.woff2"}


@pytest.mark.parametrize("path", COPIED, ids=str)
def test_a_file_of_others_is_theirs(path: Path) -> None:
    package, *rest = path.parts
    source = SOURCES.get(path.name, "/".join(rest))
    theirs = made("chromium") / "node_modules" / WHERE[package] / source
    assert (VENDOR / path).read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("package", WHERE)
def test_a_licence_goes_with_it(package: str) -> None:
    assert (VENDOR / package / "LICENSE.txt") in {VENDOR / path for path in COPIED}
