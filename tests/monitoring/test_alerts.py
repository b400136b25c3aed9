"""The alerts, by Prometheus' own tool: they are rules, they fire when they must and not before, each with a way out."""

import re
from typing import Any

import pytest

from tests.layout.sources import ROOT
from tests.layout.test_docs import anchors_of, prose_of
from tests.monitoring.conftest import Promtool
from tests.monitoring.queries import ALERTS, alerts

PAGE = ROOT / "docs" / "monitoring.md"
STORIES = ROOT / "tests" / "monitoring" / "alerts.yaml"


def test_they_are_rules(promtool: Promtool) -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in promtool("check", "rules", "--lint-fatal", str(ALERTS))


def test_each_fires_in_its_story_and_in_no_other(promtool: Promtool) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(STORIES))


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_has_a_story_and_a_page_that_says_what_to_do(rule: dict[str, Any]) -> None:
    assert re.search(rf"alertname: {rule['alert']}\b", STORIES.read_text())
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert ROOT / path == PAGE
    assert anchor in anchors_of(PAGE)


def test_the_page_has_no_other_alerts() -> None:
    named = set(re.findall(r"^### (Nightshift\w+)$", prose_of(PAGE), re.MULTILINE))
    assert named == {rule["alert"] for rule in alerts()}
