"""A browser, an installation with a stub model, and a scene without either's movement."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.console.browser import Tab, made, open_tab, running_chromium
from tests.console.scene import KEY, fill, serving_api
from tests.e2e.installation import KEY as LOCAL_KEY
from tests.e2e.installation import Installation, running_stub

LEAVER = "sk-who-leaves"
Opener = Callable[..., Tab]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write the pictures of docs/console again")


@pytest.fixture(scope="package")  # no longer: while its driver is there, nobody else may run a loop in this thread
def browser() -> Iterator[Any]:
    with running_chromium() as started:
        yield started


@pytest.fixture(scope="session")
def axe() -> str:
    return (made("chromium") / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="package")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One for all tests: each works on batches of its own names."""
    with running_stub(latency_s=0.02) as stub:
        options = ["--concurrency", "8", "--api-key", f"{LEAVER}=default", "--api-key", "sk-new=fresh"]
        started = Installation(tmp_path_factory.mktemp("console") / "data", stub.url, options)
        started.start()
        yield started
        assert started.stop() == 0
        assert not started.pids()


@pytest.fixture
def tab(browser: Any, installation: Installation) -> Iterator[Opener]:
    """Open tabs of the installation, signed in unless the key is None."""
    with ExitStack() as tabs:

        def open_one(key: str | None = LOCAL_KEY, path: str = "", **options: Any) -> Tab:
            opened = tabs.enter_context(open_tab(browser, f"http://127.0.0.1:{installation.port}", **options))
            if key is None:
                opened.open(path)
            else:
                opened.sign_in(key, path)
            return opened

        yield open_one


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scene, behind a URL."""
    folder: Path = tmp_path_factory.mktemp("scene")
    with ThreadPoolExecutor() as aside:  # in this thread runs the loop of the browser's driver
        aside.submit(asyncio.run, fill(folder)).result()
    with serving_api(folder) as url:
        yield url


@pytest.fixture
def looking(browser: Any, stage: str) -> Iterator[Opener]:
    """Open tabs of the scene."""
    with ExitStack() as tabs:

        def open_one(path: str = "", **options: Any) -> Tab:
            opened = tabs.enter_context(open_tab(browser, stage, **options))
            opened.sign_in(KEY, path)
            opened.page.locator("tr[data-batch]").first.wait_for()
            return opened

        yield open_one
