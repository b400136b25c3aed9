"""The contract as a list of statements, each with how it stands to OpenAI's own service and how it is proven.

A statement is proven over plain HTTP by its check, and by an official SDK through the scenarios that it names: those of
`sdk_scenarios.py` in Python and of `js/scenarios.mjs` in JavaScript, where one name means the same story. The chapters
(`files`, `batches`, ...) hold the statements; `docs/conformance.md` is the list with what the last run has shown.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.conformance.target import Target

Check = Callable[[Target], None]
Backend = Literal["local", "cluster"]
BACKENDS: tuple[Backend, ...] = ("local", "cluster")


@dataclass(frozen=True)
class Verdict:
    """How what Nightshift does stands to what OpenAI does, as far as that is known."""

    word: Literal["same", "superset", "differs", "open"]
    why: str = ""


SAME = Verdict("same")
OPEN = Verdict("open")


def half_known(why: str) -> Verdict:
    return Verdict("open", why)


def superset(why: str) -> Verdict:
    return Verdict("superset", why)


def differs(why: str) -> Verdict:
    return Verdict("differs", why)


@dataclass(frozen=True)
class Statement:
    """One thing that the contract says and that can be observed.

    `only_local` says why it is not observed on a cluster; empty where it is.
    """

    section: str
    place: str
    says: str
    verdict: Verdict
    scenarios: tuple[str, ...]
    only_local: str
    check: Check

    @property
    def name(self) -> str:
        return name_of(self.section, self.says)

    @property
    def backends(self) -> tuple[Backend, ...]:
        return BACKENDS[:1] if self.only_local else BACKENDS


def name_of(section: str, says: str) -> str:
    """Name a statement as the tests do."""
    return f"{section} {says}".replace("`", "")


STATEMENTS: list[Statement] = []
"""All of them, in the order of the page, once `contract` is imported."""


@dataclass(frozen=True)
class Place:
    """A heading of the page: an endpoint, an object, or what holds for all."""

    title: str

    def says(
        self, section: str, what: str, verdict: Verdict = SAME, *, sdk: tuple[str, ...] = (), only_local: str = ""
    ) -> Callable[[Check], Check]:
        """State something that the function below proves over plain HTTP."""

        def add(check: Check) -> Check:
            STATEMENTS.append(Statement(section, self.title, what, verdict, sdk, only_local, check))
            return check

        return add
