"""The pictures of the docs: taken by every run, written where `make screenshots` asks for it."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.console.browser import Tab
from tests.console.conftest import Opener
from tests.console.scene import STORIES
from tests.e2e.installation import ROOT

MAX_BYTES = 150_000
RUNNING = STORIES[0]
WIDE = {"viewport": {"width": 1280, "height": 800}}
TALL = {"viewport": {"width": 780, "height": 1240}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5, "is_mobile": True, "has_touch": True}


@dataclass(frozen=True)
class Picture:
    name: str
    scheme: str
    screen: dict[str, Any]
    batch: str | None = None


PICTURES = [
    Picture("list-light", "light", WIDE),
    Picture("list-dark", "dark", WIDE),
    Picture("detail-light", "light", TALL, RUNNING.name),
    Picture("detail-dark", "dark", TALL, RUNNING.name),
    Picture("phone-list", "light", PHONE),
    Picture("phone-detail", "dark", PHONE, RUNNING.name),
]


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return ROOT / "docs" / "console" if request.config.getoption("--screenshots", default=False) else tmp_path


def watch_in_the_past(tab: Tab, batch_id: str) -> None:
    """Put before the page what it would have seen had it been open for the last 30 minutes: the scene stands still."""
    now, step, samples = time.time(), 45.0, []
    for n in range(41):
        at = now - (40 - n) * step
        pace = n / 40 + 0.03 * math.sin(n / 4) * (1 - n / 40) * n / 10  # a server that is shared is not steady
        done = 9_300 + int(pace * (RUNNING.completed - 9_300))
        samples.append({"at": at, "until": at, "completed": done, "failed": int(41 * n / 40)})
    told = json.dumps(samples)
    tab.page.evaluate("([key, value]) => sessionStorage.setItem(key, value)", [f"nightshift-samples-{batch_id}", told])


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_taken(looking: Opener, pictures: Path, picture: Picture) -> None:
    opened = looking(color_scheme=picture.scheme, **picture.screen)
    if picture.batch:
        watch_in_the_past(opened, opened.row(picture.batch).first.get_attribute("data-batch"))
        opened.show(picture.batch).locator(".files .filename").first.wait_for()
        opened.page.locator(".rates").wait_for()
    opened.page.mouse.move(0, 0)
    opened.page.evaluate("document.activeElement.blur()")
    pictures.mkdir(exist_ok=True)
    path = pictures / f"{picture.name}.png"
    opened.page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size < MAX_BYTES
