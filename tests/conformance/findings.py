"""What runs of the suite have shown, and the file in which the page finds it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.clients import SDKS
from tests.conformance.statements import Backend, Statement, name_of
from tests.e2e.installation import ROOT

PUBLISHED = ROOT / "docs" / "conformance.json"
Proof = tuple[str, str, str, Backend]
"""Place and name of a statement, the client that proves it, and the service that it was held against."""


def clients_of(statement: Statement) -> list[str]:
    """Name the clients that a statement is proven with: plain HTTP, and each SDK with one of its scenarios."""
    return ["raw", *(sdk for sdk, known in SDKS.items() if known & {*statement.scenarios})]


def expected(statements: Iterable[Statement]) -> set[Proof]:
    """List what a whole run shows."""
    return {
        (statement.place, statement.name, client, backend)
        for statement in statements
        for client in clients_of(statement)
        for backend in statement.backends
    }


@dataclass
class Findings:
    """What this run has tried to show so far, and what of it it has shown."""

    tried: set[Proof] = field(default_factory=set)
    shown: set[Proof] = field(default_factory=set)


def published(page: Path = PUBLISHED) -> set[Proof]:
    """Read what the page claims."""
    return {
        (row["place"], name_of(row["section"], row["says"]), client, backend)
        for row in json.loads(page.read_text())
        for client, backends in row["proven"].items()
        for backend in backends
    }


def publish(statements: Iterable[Statement], found: Findings, page: Path = PUBLISHED) -> None:
    """Write what was shown; what this run has not tried stays as it was."""
    before = published(page) if page.exists() else set()
    shown = (before - found.tried) | found.shown
    rows = [_row(statement, shown) for statement in statements]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    page.write_text(f"[\n{lines}\n]\n")


def _row(statement: Statement, shown: set[Proof]) -> dict[str, Any]:
    proven = {
        client: [b for b in statement.backends if (statement.place, statement.name, client, b) in shown]
        for client in clients_of(statement)
    }
    return {
        "place": statement.place,
        "section": statement.section,
        "says": statement.says,
        "verdict": statement.verdict.word,
        "why": statement.verdict.why,
        "only_local": statement.only_local,
        "proven": {client: backends for client, backends in proven.items() if backends},
    }
