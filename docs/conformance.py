"""Render the page on conformance from `conformance.json`, which the conformance suite writes (`make conformance`)."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent / "conformance.json"
_CLIENTS = {"raw": "HTTP", "python": "Python", "python-1": "Python 1.x", "js": "JavaScript"}
_WORDS = {
    "same": "as OpenAI does it, so far as its description, its SDKs or reports of its live service show",
    "superset": "all of that and more",
    "differs": "otherwise, for the reason that is given",
    "open": "nobody has published what OpenAI does; this is our choice",
}
_INTRODUCTION = """\
Every row is a test of `tests/conformance`, held from outside against a running installation: by plain HTTP, and
where it can be seen there by the official SDKs of OpenAI, unmodified (Python in its current version with its strict
validation of every response, Python 1.x, JavaScript). It is held against `nightshift local` and against the chart on a
Kubernetes; a ° marks what is not shown on a Kubernetes. The page is written from what the suite has shown, and the
suite fails where the page claims anything else.
"""


def render_conformance() -> str:
    """Give the page."""
    rows: list[dict[str, Any]] = json.loads(_RESULTS.read_text())
    tables = (line for place, found in groupby(rows, lambda row: row["place"]) for line in _table(place, list(found)))
    return "\n".join([*_summary(rows), *tables])


def _summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield _INTRODUCTION
    yield from ("| against OpenAI | statements | meaning |", "| --- | --- | --- |")
    for word, meaning in _WORDS.items():
        yield f"| {word} | {sum(row['verdict'] == word for row in rows)} | {meaning} |"
    yield ""


def _table(place: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"## {_heading(place)}\n"
    yield from ("| Nightshift | against OpenAI | proven by |", "| --- | --- | --- |")
    yield from (f"| {_plain(row['says'])} | {_verdict(row)} | {_proofs(row)} |" for row in rows)
    yield ""


def _heading(place: str) -> str:
    return f"`{place}`" if "/" in place else place


def _plain(says: str) -> str:
    """Leave out the numbers of errors, which are for whoever has the contract at hand."""
    return re.sub(r" \(E\d+(, E\d+)*\)", "", says)


def _verdict(row: dict[str, Any]) -> str:
    return f"{row['verdict']}: {row['why']}" if row["why"] else str(row["verdict"])


def _proofs(row: dict[str, Any]) -> str:
    proven = row["proven"]
    return ", ".join(
        name + "°" * ("cluster" not in proven[client]) for client, name in _CLIENTS.items() if client in proven
    )
