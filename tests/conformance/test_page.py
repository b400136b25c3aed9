"""The page on conformance is made of results, and of all of them."""

from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.clients import MEASURED, SDKS
from tests.conformance.contract import STATEMENTS
from tests.conformance.findings import Findings, Proof, expected, publish, published
from tests.conformance.statements import Backend


def test_no_two_statements_of_a_place_have_the_same_name() -> None:
    counted = Counter((statement.place, statement.name) for statement in STATEMENTS)
    assert [name for name, count in counted.items() if count > 1] == []


def test_every_scenario_proves_something_and_every_one_that_is_named_exists() -> None:
    named = {name for statement in STATEMENTS for name in statement.scenarios}
    assert named == frozenset().union(*SDKS.values()) - MEASURED


def test_both_languages_tell_the_same_stories() -> None:
    assert SDKS["js"] - SDKS["python"] == MEASURED | {"upload_a_stream"}
    assert SDKS["python"] - SDKS["js"] == set()


def test_what_is_known_not_to_be_the_same_says_why() -> None:
    known = [statement for statement in STATEMENTS if statement.verdict.word != "open"]
    assert [s.name for s in known if bool(s.verdict.why) is (s.verdict.word == "same")] == []


def test_the_page_claims_every_statement_by_every_client_and_nothing_else() -> None:
    assert published() == expected(STATEMENTS)


@pytest.mark.parametrize("backend", ["local", "cluster"])
def test_what_a_run_has_tried_and_not_shown_is_claimed_no_longer(backend: Backend, tmp_path: Path) -> None:
    broken: Proof = (STATEMENTS[0].place, STATEMENTS[0].name, "raw", backend)
    whole = expected(STATEMENTS)
    page = tmp_path / "conformance.json"
    publish(STATEMENTS, Findings(whole, whole), page)
    publish(STATEMENTS, Findings({broken}, set()), page)
    assert published(page) == whole - {broken}
