"""Every expression that the chart brings, and which metrics and labels it names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.layout.sources import ROOT

CHART = ROOT / "charts" / "nightshift" / "files"
ALERTS = CHART / "alerts.yaml"
_METRIC = re.compile(r"\b(nightshift_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPED = re.compile(r"\bby\s*\(([^)]*)\)")
_VALUES = re.compile(r"label_values\((\w+), (\w+)\)")


@dataclass(frozen=True)
class Use:
    """A metric that an expression names, and labels that it must have."""

    where: str
    metric: str
    labels: frozenset[str]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def expressions() -> Iterator[tuple[str, str]]:
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in json.loads((CHART / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def uses() -> Iterator[Use]:
    for where, expression in expressions():
        (grouped,) = {tuple(names.split(", ")) for names in _GROUPED.findall(expression)} or {()}
        for metric, matchers in _METRIC.findall(expression):
            yield Use(where, metric, frozenset([*_MATCHER.findall(matchers), *grouped]))
    for variable in json.loads((CHART / "dashboard.json").read_text())["templating"]["list"]:
        for metric, label in _VALUES.findall(str(variable.get("definition", ""))):
            yield Use(variable["name"], metric, frozenset({label}))
