"""A real Chromium, as `make chromium` brings it, and what a page says while a test drives it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.e2e.installation import ROOT


@cache
def made(target: str) -> Path:
    """Have make bring something, and tell where it lies."""
    ran = subprocess.run(["make", "--silent", target], cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(ran.stdout.strip().splitlines()[-1])


@contextmanager
def running_chromium() -> Iterator[Any]:
    """Start the browser; gives Playwright's handle of it."""
    sys.path.append(str(made("playwright")))
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it stands beside .venv

    folder = made("chromium") / "browser"
    libraries = {"LD_LIBRARY_PATH": str(folder / "lib"), "FONTCONFIG_FILE": str(folder / "fonts.conf")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=folder / "chromium",
            args=["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
            env=dict(os.environ) | libraries,
        )
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page of the console, and everything that must never happen on it."""

    page: Any
    url: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str = "") -> None:
        self.page.goto(f"{self.url}/console{path}")

    def sign_in(self, key: str, path: str = "") -> None:
        self.open(path)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.locator("#main h1", has_text="Batches").wait_for()

    def row(self, name: str) -> Any:
        return self.page.locator("tr[data-batch]", has_text=name)

    def show(self, name: str) -> Any:
        """Open the detail of a batch."""
        self.row(name).first.get_by_role("link").click()
        detail = self.page.locator("#detail[open]")
        detail.get_by_role("heading", name=name).wait_for()
        return detail


@contextmanager
def open_tab(browser: Any, url: str, **options: Any) -> Iterator[Tab]:
    """Open a page that reports errors, broken rules of its policy and requests to other hosts as faults."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "accept_downloads": True} | options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    tab = Tab(page, url)
    page.on("pageerror", lambda error: tab.faults.append(f"error: {error}"))
    page.on("console", lambda said: tab.faults.append(said.text) if is_fault(said) else None)
    page.on("request", lambda request: tab.faults.extend(strangers(request.url, url)))
    try:
        yield tab
    finally:
        context.close()
    assert tab.faults == []


def is_fault(said: Any) -> bool:
    """A 4xx that the page asked for is told by the browser as an error too; that one is none."""
    return said.type in {"error", "warning"} and not re.match(r"Failed to load resource", said.text)


def strangers(asked: str, url: str) -> list[str]:
    return [] if asked.startswith((url, "blob:", "data:")) else [f"asked {asked}"]


def find_violations(page: Any, axe: str, scope: str = "html") -> list[str]:
    """Have axe-core look at a page; gives what is serious or critical."""
    page.evaluate(axe)
    found = page.evaluate("scope => axe.run(scope, {resultTypes: ['violations']})", scope)
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {[n['target'] for n in v['nodes']][:3]}"
        for v in found["violations"]
        if v["impact"] in {"serious", "critical"}
    ]
